package logic

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestHasher_RightWrongAndNobody(t *testing.T) {
	h := newHasher(2, 2)
	one, err := h.hash(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	two, _ := h.hash(t.Context(), secret)
	if one == two {
		t.Error("the same salt twice")
	}
	composed, _ := h.hash(t.Context(), "pässword")
	for name, c := range map[string]struct {
		phc, password string
		want          bool
	}{
		"right": {one, secret, true}, "wrong": {one, secret + "!", false}, "no hash": {"", secret, false},
		"other keyboard": {composed, "pa\u0308ssword", true}, "empty": {one, "", false}, "dummy": {"", "nobody's password", false},
	} {
		if got, err := h.verify(t.Context(), c.phc, c.password); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestNewPassword_Bounds(t *testing.T) {
	for name, c := range map[string]struct {
		password string
		ok       bool
	}{
		"8": {"12345678", true}, "7": {"1234567", false}, "128": {strings.Repeat("x", 128), true}, "129": {strings.Repeat("x", 129), false},
		"8 of another script": {"密码密码密码密码", true}, "128 emoji": {strings.Repeat("🙂", 128), true}, "NUL": {"1234567\x00", false}, "not UTF-8": {"1234567\xff", false},
		"128 after composing": {strings.Repeat("e\u0301", 128), true},
	} {
		if _, err := newPassword("password", c.password); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHasher_BeyondTheBoundIsOverloaded(t *testing.T) {
	h := newHasher(1, 1)
	h.slots <- struct{}{} // somebody hashes
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { _, err := h.hash(ctx, secret); waiting <- err }()
	for h.waiting.Load() != 1 { // the one who may wait does
		select {
		case err := <-waiting:
			t.Fatal(err)
		default:
		}
	}
	if _, err := h.hash(t.Context(), secret); !errors.Is(err, im.ErrOverloaded) {
		t.Errorf("one too many: %v", err)
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up: %v", err)
	}
	<-h.slots
	if _, err := h.hash(t.Context(), secret); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestDecodeHash_RefusesOtherFormsAndCosts(t *testing.T) {
	good := newHasher(1, 1).dummy
	if _, err := decodeHash(good); err != nil {
		t.Fatal(err)
	}
	for name, phc := range map[string]string{
		"empty": "", "bcrypt": "$2b$10$abcdefghijklmnopqrstuv", "argon2i": strings.Replace(good, "argon2id", "argon2i", 1),
		"another version": strings.Replace(good, "v=19", "v=16", 1), "4 GiB": strings.Replace(good, "m=19456", "m=4194304", 1),
		"no time": strings.Replace(good, "t=2", "t=0", 1), "truncated": good[:len(good)-40],
	} {
		if _, err := decodeHash(phc); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestNormalizeHandle(t *testing.T) {
	for in, want := range map[string]string{
		"ann": "ann", "Ann.Lee-2_x": "ann.lee-2_x", "ＡＮＮ": "ann", "ﬁnn": "finn", "STRAẞE": "strasse", "K\u212Aelvin": "kkelvin",
		"an": "", "": "", strings.Repeat("a", 32): strings.Repeat("a", 32), strings.Repeat("a", 33): "", strings.Repeat("a", 100_000): "",
		"1ann": "", ".ann": "", "ann lee": "", "ann ": "", " ann": "", "a\u200Bnn": "", "аnn": "", "\u202Enna": "", "an🙂n": "", "ann\x00": "", "ann\n": "",
		"ann/..": "", "{ann}": "", "ann:1": "", "ann*": "", "zoë": "", "\xff\xfeann": "",
	} {
		got, err := NormalizeHandle(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestCleanNickname(t *testing.T) {
	for in, want := range map[string]string{
		" Ann Lee ": "Ann Lee", "": "fallback", "  ": "fallback", "Zoe\u0308": "Zoë", "👨‍👩‍👧": "👨‍👩‍👧", "می‌خواهم": "می‌خواهم", "<b>": "<b>",
		strings.Repeat("字", 64): strings.Repeat("字", 64), strings.Repeat("字", 65): "-", strings.Repeat("x", 1<<20): "-",
		"\u200B\u200D": "-", "a\u202Eb": "-", "a\nb": "-", "a\x1b[31m": "-", "a\x00": "-", "\xff": "-", "a\u2028b": "-",
	} {
		got, err := cleanNickname(in, "fallback")
		if err != nil {
			got = "-"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestCheckAvatar(t *testing.T) {
	for in, ok := range map[string]bool{
		"": true, "https://a.example/x.png?y=1#z": true, "http://a.example": true, "javascript:alert(1)": false, "data:image/png;base64,AA": false,
		"file:///etc/passwd": false, "//a.example/x": false, "https://": false, "https://u:p@a.example/": false, "https://a.example/ x": false,
		"https://a.example/\"><script>": false, "https://a.example/" + strings.Repeat("x", 512): false, "gopher://a.example": false, "https://a.example/\n": false,
	} {
		if err := checkAvatar(in); (err == nil) != ok {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func BenchmarkHasher(b *testing.B) {
	h := newHasher(1, 1)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = h.verify(b.Context(), "", secret)
	}
}
