package protocol

import (
	"reflect"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestAppendPush_IsWhatEncodePushSays(t *testing.T) {
	plain := im.Message{
		Conversation: "d1-2", Seq: 7, ID: 12345, ClientMsgID: "client-0001", Sender: im.Sender{ID: 1, Handle: "ann", Nickname: "Ann"},
		Type: im.TypeText, Content: []byte(`{"text":"hello, world"}`), StoredAt: 1767225600123,
	}
	odd := plain
	odd.ClientMsgID = ""
	odd.Sender = im.Sender{ID: 1, Handle: "é", Nickname: "a\"b\\c<&>\u2028\x01\x7f😀", Avatar: "https://a.example/?a=1&b=2"}
	odd.Content = []byte("{\n\t\"text\" : \"\\u2028 <b>é</b>\"\n}")
	invalid := plain
	invalid.Sender.Nickname = "cut \xff"
	absent := plain
	absent.Content = nil
	about := plain
	about.About = im.About{
		ReplyTo:  &im.Quote{Seq: 3, Sender: im.Sender{ID: 2, Handle: "bob", Nickname: "Bob <b>"}, Type: im.TypeText, Text: "what\u2028?"},
		Mentions: []im.UserID{2}, ForwardedFrom: &im.ForwardedFrom{Nickname: "Eve"},
	}
	for name, m := range map[string]im.Message{"plain": plain, "odd": odd, "invalid UTF-8": invalid, "no content": absent, "about": about} {
		t.Run(name, func(t *testing.T) {
			want, err := EncodePush(PushFrame{Push: PushMessage, Data: m})
			if err != nil {
				t.Fatal(err)
			}
			if got := AppendMessagePush(nil, &m); string(got) != string(want) {
				t.Fatalf("got  %s\nwant %s", got, want)
			}
		})
	}
	// A field that is added must be written by hand as well.
	for typ, known := range map[reflect.Type]int{reflect.TypeFor[im.Message](): 19, reflect.TypeFor[im.Sender](): 4, reflect.TypeFor[Stored](): 5} {
		if n := typ.NumField(); n != known {
			t.Errorf("%s has %d fields, AppendPush knows %d", typ, n, known)
		}
	}
	s := Stored{ConversationID: "d1-2", ClientMsgID: "client-0001", Seq: 7, MessageID: 12345, StoredAt: 1767225600123}
	want, err := EncodePush(PushFrame{Push: PushStored, Data: s})
	if err != nil {
		t.Fatal(err)
	}
	if got := AppendStoredPush(nil, &s); string(got) != string(want) {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func BenchmarkMessagePush(b *testing.B) {
	m := im.Message{
		Conversation: "d1-2", Seq: 7, ID: 12345, ClientMsgID: "client-0001", Sender: im.Sender{ID: 1, Handle: "ann", Nickname: "Ann"},
		Type: im.TypeText, Content: []byte(`{"text":"hello, world"}`), StoredAt: 1767225600123,
	}
	b.Run("general", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := EncodePush(PushFrame{Push: PushMessage, Data: m}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf = AppendMessagePush(buf[:0], &m)
		}
	})
}
