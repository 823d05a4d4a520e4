package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// What the generator finds in a frame by looking must be what is in it.
func TestLook_FindsWhatTheProtocolEncodes(t *testing.T) {
	frame := appendSend(nil, 7, toUser(2), "run", 1, 41, 123456)
	var req struct {
		ID   string
		Cmd  protocol.Command
		Data protocol.Send
	}
	if err := json.Unmarshal(frame, &req); err != nil || req.Cmd != protocol.CmdSend || req.ID != "7" || *req.Data.To.UserID != 2 {
		t.Fatalf("%s: %+v, %v", frame, req, err)
	}
	m := im.Message{Conversation: "d1-2", Seq: 99, ID: 1 << 50, Sender: im.Sender{ID: 1, Nickname: "bench 1"}, Type: im.TypeText, Content: req.Data.Content}
	got := look(protocol.AppendMessagePush(nil, &m))
	from, n, at, ours := stamp(got.text)
	if got.kind != message || got.seq != 99 || !ours || from != 1 || n != 41 || at != 123456 {
		t.Errorf("message: %+v, from %d n %d at %d %v", got, from, n, at, ours)
	}
	if len(got.text) != textBytes {
		t.Errorf("a text of %d bytes", len(got.text))
	}
	if s := look(protocol.AppendStoredPush(nil, &protocol.Stored{ConversationID: "d1-2", ClientMsgID: "run-41", Seq: 99})); s.kind != stored || s.seq != 99 {
		t.Errorf("stored: %+v", s)
	}
	for body, failed := range map[string]bool{`"data":{}`: false, `"error":{"code":"x"}`: true} {
		if s := look([]byte(`{"id":"7",` + body + `}`)); s.kind != reply || s.id != 7 || s.failed != failed {
			t.Errorf("%s: %+v", body, s)
		}
	}
	if _, _, _, ours := stamp([]byte("7 joined")); ours {
		t.Error("a text of somebody else is taken for ours")
	}
}

func TestVerify_FindsWhatIsLostDoubledOrOutOfOrder(t *testing.T) {
	type came struct {
		n   int64
		seq uint64
	}
	for name, c := range map[string]struct {
		came []came
		want Faults
	}{
		"all in order":     {[]came{{0, 1}, {1, 2}, {2, 5}}, Faults{}},
		"one lost":         {[]came{{0, 1}, {2, 3}}, Faults{Lost: 1, Swapped: 1}},
		"the last lost":    {[]came{{0, 1}, {1, 2}}, Faults{Lost: 1}},
		"one doubled":      {[]came{{0, 1}, {1, 2}, {1, 3}, {2, 4}}, Faults{Doubled: 1}},
		"two out of order": {[]came{{0, 1}, {2, 3}, {1, 2}}, Faults{Swapped: 2}},
		"a lower seq":      {[]came{{0, 5}, {1, 4}, {2, 6}}, Faults{Swapped: 1}},
	} {
		v := newVerify()
		for _, m := range c.came {
			v.got(7, m.n, m.seq)
		}
		v.finish(map[im.UserID]int64{7: 3})
		var f Faults
		f.add(v)
		if f != c.want {
			t.Errorf("%s: %v, want %v", name, f, c.want)
		}
	}
}

func TestFrames_AreReadAsTheyAreWritten(t *testing.T) {
	for _, n := range []int{0, 125, 126, 65535, 65536} {
		payload := []byte(strings.Repeat("x", n))
		f := appendFrame(nil, payload)
		if head := len(f) - n; f[0] != 0x81 || f[1]&0x80 == 0 || head < 6 || string(f[head:]) != string(payload) {
			t.Errorf("%d bytes: a head of %d, %x", n, len(f)-n, f[:2])
		}
	}
}

func TestFaults_ARefusedPingIsShownAndIsNone(t *testing.T) {
	f := Faults{Pings: 3, First: "timeout"}
	if f.any() || !strings.Contains(f.String(), "pings_refused=3") {
		t.Errorf("%v: %s", f.any(), f)
	}
	if f.Refused = 1; !f.any() {
		t.Error("a refused message is no fault")
	}
	if s := look(pingFrame); s.id != pingID { // a request's head is that of its reply
		t.Errorf("%+v", s)
	}
}
