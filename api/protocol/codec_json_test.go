package protocol

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

var update = flag.Bool("update", false, "write the golden files anew")

const sendFrame = `{"id":"17","cmd":"send","data":{"client_msg_id":"0123456789abcdef","to":{"user_id":"42"},"type":"text","content":{"text":"See you at the station at half past seven, the usual place. Bring the long umbrella, it rains again."}}}`

// golden compares lines of "name frame" with a file under testdata.
func golden(t *testing.T, file string, lines []string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("%s differs (-update after a decision to change the protocol); got\n%s", path, got)
	}
}

func TestEncode_FramesAreAsPublished(t *testing.T) {
	id, peer := im.MessageID(1<<52+1), im.Profile{ID: 9, Handle: "bo", Nickname: "Bo <&>", Avatar: "https://example.org/bo.png"}
	m := im.Message{
		Conversation: "d7-9", Seq: 3, ID: id, ClientMsgID: "abcdefgh", Sender: peer.Sender(), Type: im.TypeText,
		Content: json.RawMessage(`{"text":"1 < 2 & \u2028"}`), StoredAt: 1767225600001,
	}
	limits := Limits{MaxMessageBytes: 65536, MaxTextBytes: 8192, MaxPage: 100, SendPerSecond: 20, SendBurst: 40}
	at := im.Position{Epoch: "g1", Version: 12}
	var lines []string
	for _, f := range []struct {
		name string
		v    any
	}{
		{"reply-error", Reply{ID: "1", Error: NewError(im.Invalid("to.user_id", "must be a string"))}},
		{"reply-refused", Reply{ID: "1", Error: NewSendError(im.ErrBlocked)}},
		{"reply-unknown", Reply{ID: "1", Error: NewSendError(im.ErrUnknownOutcome)}},
		{"reply-rejected", Reply{ID: "1", Error: NewSendError(&im.RejectedError{Cause: im.ErrUnstorable})}},
		{"connected", Reply{ID: "1", Data: Connected{SessionID: "s1", User: peer, ExpiresAt: 5, HeartbeatMS: 25000, ServerTime: 4, Limits: limits}}},
		{"accepted", Reply{ID: "2", Data: Sent{State: StateAccepted, ConversationID: "d7-9", ClientMsgID: "abcdefgh"}}},
		{"stored-before", Reply{ID: "2", Data: Sent{State: StateStored, ConversationID: "d7-9", ClientMsgID: "abcdefgh", Seq: 3, MessageID: &id, StoredAt: 5}}},
		{"receipt-reply", Reply{ID: "3", Data: Receipt{ConversationID: "d7-9", Seq: 3}}},
		{"page", Reply{ID: "4", Data: Page{Items: []im.Message{m}, HasMore: true}}},
		{"page-empty", Reply{ID: "4", Data: Page{Items: []im.Message{}}}},
		{"synced", Reply{ID: "5", Data: Synced{
			User: peer, Full: true, UnreadTotal: 1, Position: at, ServerTime: 5, Limits: limits,
			Conversations: []Conversation{{ConversationID: "d7-9", Kind: "direct", Peer: &peer, LastSeq: 3, LastMessage: &m, Unread: 1, ReadSeq: 2, DeliveredSeq: 2}},
			Offline:       []OfflineSource{{ConversationID: "d7-9", Peer: &peer, Count: 1, LastMessageID: id, DeliveredSeq: 2, LastSeq: 3}},
		}}},
		{"pong", Reply{ID: "6", Data: Pong{Position: at, ServerTime: 5, Conversations: []Digest{{ConversationID: "d7-9", LastSeq: 3, ReadSeq: 2}}}}},
		{"refreshed", Reply{ID: "7", Data: Refreshed{ExpiresAt: 5}}},
		{"push-message", PushFrame{PushMessage, m}},
		{"push-message-to-reader", PushFrame{PushMessage, m.ForReader(7)}},
		{"push-stored", PushFrame{PushStored, Stored{ConversationID: "d7-9", ClientMsgID: "abcdefgh", Seq: 3, MessageID: id, StoredAt: 5}}},
		{"push-rejected", PushFrame{PushRejected, Rejected{ConversationID: "d7-9", ClientMsgID: "abcdefgh", Code: "unstorable", Message: "m"}}},
		{"push-receipt", PushFrame{PushReceipt, CursorMoved{ConversationID: "d7-9", UserID: 9, DeliveredSeq: 3, ReadSeq: 2}}},
		{"push-read-self", PushFrame{PushReadSelf, CursorMoved{ConversationID: "d7-9", UserID: 7, ReadSeq: 3}}},
		{"push-kicked", PushFrame{PushKicked, Kicked{Code: "unauthenticated", Reason: "r"}}},
		{"settled", Reply{ID: "8", Data: ConversationSettings{ConversationID: "d7-9", FloorSeq: 1, Settings: ShowSettings(
			im.Settings{Version: 4, PinnedAt: 5, MutedUntil: im.MutedForever, Marked: 4, Hidden: 3, DraftAt: 6},
			&im.Draft{Text: "low tide at", Device: "phone", ChangedAt: 6})}}},
		{"push-conversation", PushFrame{PushSettings, ConversationSettings{ConversationID: "d7-9", Settings: ShowSettings(im.Settings{Version: 1, DraftAt: 6}, nil)}}},
		{"push-nudge", PushFrame{PushNudge, struct{}{}}},
	} {
		var frame []byte
		var err error
		switch v := f.v.(type) {
		case Reply:
			frame, err = EncodeReply(v)
		case PushFrame:
			frame, err = EncodePush(v)
		}
		if err != nil {
			t.Fatal(f.name, err)
		}
		lines = append(lines, f.name+" "+string(frame))
	}
	golden(t, "server.golden", lines)
}

// TestDecode_RequestsAreReadOrRefused shows for each frame what is understood, or which
// refusal goes to which id.
func TestDecode_RequestsAreReadOrRefused(t *testing.T) {
	var lines []string
	for _, in := range []string{
		sendFrame,
		`{"id":"1","cmd":"connect","data":{"token":"t","device":"d","platform":"web"}}`,
		`{"id":"1","cmd":"ping"}`,
		`{"id":"1","cmd":"ping","data":null}`,
		`{"id":"1","cmd":"ping","data":{"position":{"epoch":"g","version":7},"later":{"x":[1]}}}`,
		`{"data":{"conversation_id":"d1-2","seq":9007199254740991},"cmd":"ack","id":"é\u00e9"}`,
		`{"id":"1","cmd":"history","data":{"conversation_id":"c12","around":7,"limit":20}}`,
		`{"id":"1","cmd":"ack","data":{"conversation_id":"d1-2","seq":9007199254740992}}`,
		`{"id":"1","cmd":"ack","data":{"conversation_id":"d1-2","seq":9223372036854775808}}`,
		`{"id":"1","cmd":"ack","data":{"conversation_id":"d1-2","seq":1e400}}`,
		`{"id":"1","cmd":"ack","data":{"conversation_id":"d1-2","seq":-1}}`,
		`{"id":"1","cmd":"ack","data":{"conversation_id":"d1-2","seq":1.5}}`,
		`{"id":"1","cmd":"ack","data":{"conversation_id":"d1-2","seq":"1"}}`,
		`{"id":"1","cmd":"ack","data":{"conversation_id":"d1-2","seq":[1]}}`,
		`{"id":"1","cmd":"ack","data":{"conversation_id":"d2-1","seq":1}}`,
		`{"id":"1","cmd":"ack","data":{"conversation_id":"d01-2","seq":1}}`,
		`{"id":"1","cmd":"ack","data":{"conversation_id":7,"seq":1}}`,
		`{"id":"1","cmd":"history","data":{"conversation_id":"d1-2","before_seq":-5}}`,
		`{"id":"1","cmd":"history","data":{"conversation_id":"d1-2","limit":1.5}}`,
		`{"id":"1","cmd":"history","data":{"conversation_id":"d1-2","limit":99999999999999999999}}`,
		`{"id":"1","cmd":"send","data":{"to":{"user_id":7}}}`,
		`{"id":"1","cmd":"send","data":{"to":{"user_id":"-7"}}}`,
		`{"id":"1","cmd":"send","data":{"to":{"user_id":"18446744073709551616"}}}`,
		`{"id":"1","cmd":"send","data":{"to":"7"}}`,
		`{"id":"1","cmd":"send","data":{"client_msg_id":7}}`,
		`{"id":"1","cmd":"send","data":{"content":{"text":"\ud800"}}}`,
		`{"id":"1","cmd":"send","data":[]}`,
		`{"id":"1","cmd":"send","data":"x"}`,
		`{"id":"1","cmd":"ping","data":{"position":{"epoch":"g","version":-1}}}`,
		`{"id":"1","cmd":"ping","data":{"position":7}}`,
		`{"id":"1","cmd":"ping","id":"2"}`,
		`{"id":"","cmd":"ping"}`,
		`{"id":1,"cmd":"ping"}`,
		`{"id":"` + strings.Repeat("x", 65) + `","cmd":"ping"}`,
		`{"cmd":"ping"}`,
		`{"id":"1"}`,
		`{"id":"1","cmd":7}`,
		`{"id":"1","cmd":"ping"`,
		`[]`, `7`, `null`, ``,
	} {
		lines = append(lines, in, "  "+read(t, in))
	}
	golden(t, "client.golden", lines)
}

func read(t *testing.T, in string) string {
	t.Helper()
	refused := func(id string, err error) string {
		e := NewError(err)
		if e.Code == "internal" {
			t.Errorf("%s: internal: %v", in, err)
		}
		return "→ id=" + id + " " + e.Code + " " + e.Message
	}
	r, err := DecodeRequest([]byte(in))
	if err != nil {
		return refused(r.ID, err)
	}
	data := map[Command]any{
		CmdConnect: new(Connect), CmdSend: new(Send), CmdAck: new(Receipt), CmdHistory: new(History), CmdPing: new(Ping),
	}[r.Cmd]
	if err := DecodeData(r.Data, data); err != nil {
		return refused(r.ID, err)
	}
	out, err := EncodeJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	return "→ id=" + r.ID + " " + string(r.Cmd) + " " + string(out)
}

func TestEncode_ContentThatIsNotJSONFails(t *testing.T) {
	if _, err := EncodePush(PushFrame{PushMessage, im.Message{Content: json.RawMessage("{")}}); err == nil {
		t.Fatal("encoded")
	}
	// The encoder that failed is not used again half written.
	frame, err := EncodeReply(Reply{ID: "1", Data: Refreshed{}})
	if err != nil || string(frame) != `{"id":"1","data":{"expires_at":0}}` {
		t.Fatalf("%s, %v", frame, err)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(sendFrame))
	f.Add([]byte(`{"id":"1","cmd":"ack","data":{"conversation_id":"d1-2","seq":1}}`))
	f.Add([]byte(`{"id":"\u0031","cmd":"ping","ID":"2"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := DecodeRequest(in)
		var invalid *im.InvalidError
		if err != nil && !errors.As(err, &invalid) {
			t.Fatalf("%T", err)
		}
		if len(r.ID) > MaxRequestID {
			t.Fatalf("id of %d bytes", len(r.ID))
		}
		if err != nil {
			return
		}
		for _, into := range []any{new(Connect), new(Send), new(Receipt), new(History), new(Ping), new(Sync), new(OfflinePull), new(Refresh), new(Change), new(DeleteMessages), new(AskDeletions)} {
			if err := DecodeData(r.Data, into); err != nil && !errors.As(err, &invalid) {
				t.Fatalf("%T", err)
			}
		}
	})
}

// FuzzDecodeSend holds the readers of the plain form to encoding/json, and what they
// read to what they write.
func FuzzDecodeSend(f *testing.F) {
	for _, s := range []string{
		`{"client_msg_id":"0123456789abcdef","to":{"user_id":"42"},"type":"text","content":{"text":"hello"}}`,
		`{"to":{"conversation_id":"d1-2"},"content":{"text":"a","text":"b\n"},"TYPE":"custom","more":[{}]}`,
		` { "to" : { "handle" : "h" , "external_id" : "e" } , "content" : [1] } `, `{"to":null,"type":null,"content":null}`, `{"text":"é "}`, `{}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if CheckJSON(in) != nil {
			return
		}
		type slow Send
		var fast Send
		var want slow
		wantErr := json.Unmarshal(in, &want)
		if plainSend(in, &fast) {
			a, _ := json.Marshal(fast)
			b, _ := json.Marshal(Send(want))
			if wantErr != nil || string(a) != string(b) {
				t.Fatalf("%s: read as %s, encoding/json says %s, %v", in, a, b, wantErr)
			}
		}
		var content im.TextContent
		wantErr = json.Unmarshal(in, &content)
		text, ok := plainText(in)
		if ok && (wantErr != nil || text != content.Text) {
			t.Fatalf("%s: read as %q, encoding/json says %q, %v", in, text, content.Text, wantErr)
		}
		a, err := EncodeText(content.Text)
		b, err2 := EncodeJSON(content)
		if err != nil || err2 != nil || string(a) != string(b) {
			t.Fatalf("%q: written as %s, EncodeJSON says %s", content.Text, a, b)
		}
	})
}

func BenchmarkDecodeSend(b *testing.B) {
	frame := []byte(sendFrame)
	b.ReportAllocs()
	for b.Loop() {
		r, err := DecodeRequest(frame)
		if err != nil {
			b.Fatal(err)
		}
		var m Send
		if err := DecodeData(r.Data, &m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeAccepted(b *testing.B) {
	r := Reply{ID: "17", Data: Sent{State: StateAccepted, ConversationID: "d7-9", ClientMsgID: "0123456789abcdef"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := EncodeReply(r); err != nil {
			b.Fatal(err)
		}
	}
}
