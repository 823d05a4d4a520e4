package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/curlew-im/curlew/logic/im"
)

func TestCheckJSON_Tells(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct {
		name, in, want string // want: the error's text, empty where it passes
	}{
		{"an empty object", `{}`, ""},
		{"white space around", " \t\r\n{ \"a\" : [ 1 , 2 ] }\n", ""},
		{"all kinds of values", `{"a":-1.5e+3,"b":true,"c":false,"d":null,"e":"\"\\\/\b\f\n\r\té","f":[0,-0,1E9]}`, ""},
		{"a surrogate pair", `{"a":"\ud83d\udc1f"}`, ""},
		{"the deepest allowed", deep(MaxDepth), ""},
		{"one deeper", deep(MaxDepth + 1), "json: nested too deep"},
		{"a million deep", strings.Repeat(`{"a":`, 1<<20), "json: nested too deep"},
		{"nothing", ``, "json: not valid"},
		{"only space", `  `, "json: not valid"},
		{"trailing garbage", `{} x`, "json: not valid"},
		{"two values", `{}{}`, "json: not valid"},
		{"an unclosed object", `{"a":1`, "json: not valid"},
		{"a trailing comma", `{"a":1,}`, "json: not valid"},
		{"a trailing comma in an array", `[1,]`, "json: not valid"},
		{"a bare key", `{a:1}`, "json: not valid"},
		{"single quotes", `{'a':1}`, "json: not valid"},
		{"a leading zero", `[01]`, "json: not valid"},
		{"a bare dot", `[1.]`, "json: not valid"},
		{"a bare exponent", `[1e]`, "json: not valid"},
		{"a plus sign", `[+1]`, "json: not valid"},
		{"NaN", `[NaN]`, "json: not valid"},
		{"a cut word", `[tru]`, "json: not valid"},
		{"a control in a string", "[\"\x01\"]", "json: not valid"},
		{"an unknown escape", `["\x"]`, "json: not valid"},
		{"a cut escape", `["\u12"]`, "json: not valid"},
		{"a byte order mark", "\ufeff{}", "json: not valid"},
		{"a comment", `{}//`, "json: not valid"},
		{"invalid UTF-8", "{\"a\":\"\xff\"}", "json: not valid UTF-8, or a lone surrogate"},
		{"overlong UTF-8", "{\"a\":\"\xc0\xaf\"}", "json: not valid UTF-8, or a lone surrogate"},
		{"a surrogate in UTF-8", "{\"a\":\"\xed\xa0\x80\"}", "json: not valid UTF-8, or a lone surrogate"},
		{"invalid UTF-8 in a key", "{\"\xff\":1}", "json: not valid UTF-8, or a lone surrogate"},
		{"a lone high surrogate", `{"a":"\ud800"}`, "json: not valid UTF-8, or a lone surrogate"},
		{"a lone low surrogate", `{"a":"\udc00x"}`, "json: not valid UTF-8, or a lone surrogate"},
		{"two high surrogates", `{"a":"\ud800\ud800"}`, "json: not valid UTF-8, or a lone surrogate"},
		{"a lone surrogate in the text", `{"data":{"content":{"text":"\ud800"}}}`, "content.text: not valid UTF-8, or a lone surrogate"},
		{"invalid UTF-8 in the text", "{\"content\":{\"text\":\"\xff\"}}", "content.text: not valid UTF-8, or a lone surrogate"},
		{"a lone surrogate beside the text", `{"content":{"caption":"\ud800"}}`, "json: not valid UTF-8, or a lone surrogate"},
		{"an ID given twice", `{"conversation_id":"d1-2","conversation_id":"d1-3"}`, "conversation_id: given twice"},
		{"an ID given twice, in capitals", `{"seq":1,"SEQ":2}`, "seq: given twice"},
		{"an ID given twice, folded", `{"seq":1,"ſeq":2}`, "seq: given twice"},
		{"an ID given twice, escaped", `{"seq":1,"\u0073eq":2}`, "seq: given twice"},
		{"the whole data given twice", `{"data":{"seq":1},"data":{"seq":2}}`, "data: given twice"},
		{"an ID given twice further down", `{"data":{"to":{"user_id":"1","user_id":"2"}}}`, "user_id: given twice"},
		{"an ID once in each of two objects", `{"users":[{"external_id":"a"},{"external_id":"b"}]}`, ""},
		{"another key given twice", `{"nickname":"a","nickname":"b"}`, ""},
		{"an ID given twice in what is only carried", `{"content":{"id":1,"id":2}}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if err := CheckJSON([]byte(c.in)); err != nil {
				got = err.Error()
				var invalid *im.InvalidError
				if !errors.As(err, &invalid) {
					t.Fatalf("%T is not an InvalidError", err)
				}
			}
			if got != c.want {
				t.Fatalf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestCheckJSON_PassesOverAFrameWithoutGarbage(t *testing.T) {
	frame := []byte(sendFrame)
	if n := testing.AllocsPerRun(100, func() {
		if err := CheckJSON(frame); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Fatalf("%v allocations", n)
	}
}

// FuzzCheckJSON holds the pass against encoding/json: what passes is valid there and
// in UTF-8, and decodes to the same text after a round trip.
func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{
		sendFrame, `{}`, `[1,2.5e-7,"\ud83d\udc1f"]`, `{"a":{"b":[null,true]}}`, `{"seq":1,"SEQ":2}`, `"\ud800"`, "\"\xff\"", `{"content":{"text":"\udfff"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		err := CheckJSON(in)
		valid := json.Valid(in)
		switch {
		case err == nil && !valid:
			t.Fatalf("passed, but is not valid: %q", in)
		case err == nil && !utf8.Valid(in):
			t.Fatalf("passed, but is not UTF-8: %q", in)
		case valid && errors.Is(err, errSyntax):
			t.Fatalf("valid, but refused: %q", in)
		case err == nil:
			var v any
			if err := json.Unmarshal(in, &v); err != nil && !strings.Contains(err.Error(), "cannot unmarshal number") {
				t.Fatalf("passed, but does not decode: %q: %v", in, err)
			}
			if bytes.ContainsRune(in, utf8.RuneError) {
				return
			}
			out, err := json.Marshal(v)
			if err == nil && bytes.Contains(out, []byte(`\ufffd`)) {
				t.Fatalf("a character was lost: %q became %q", in, out)
			}
		}
	})
}

func BenchmarkCheckJSON(b *testing.B) {
	frame := []byte(sendFrame)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckJSON(frame); err != nil {
			b.Fatal(err)
		}
	}
}
