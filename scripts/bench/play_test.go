package main

import (
	"encoding/json"
	"io"
	"net"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/replay/corpus"
)

// A conversation's lines are said one after another, in the order of the logs and from
// the beginning again, however many are taken at once.
func TestPlay_KeepsTheOrderOfEachConversation(t *testing.T) {
	lines := []corpus.Line{
		{From: "ann", To: "bob", Text: "bob: 1"},
		{From: "bob", To: "ann", Text: "ann: 2"},
		{From: "ann", To: "bob", Text: "bob: 3"},
		{From: "eve", To: "ann", Text: "ann: 4"},
		{From: "bob", To: "ann", Text: "ann: 5"},
	}
	all := make([]person, 6) // two casts of three
	r := &room{talkers: make(map[im.UserID]*talker)}
	for i := range all {
		all[i].user = im.UserID(i + 1)
		near, far := net.Pipe()
		defer near.Close()
		go func() { _, _ = io.Copy(io.Discard, far) }() // until near is closed
		r.talkers[all[i].user] = &talker{person: all[i], socket: &socket{nc: near}, room: r}
	}
	p := newPlay([]string{"ann", "bob", "eve"}, lines, all)
	want := make(map[*playThread][]cue)
	for _, c := range p.script {
		want[c.in] = append(want[c.in], c)
	}
	if len(p.script) != 10 || len(p.list) != 4 || p.meanBytes() != 6 {
		t.Fatalf("%d lines of %g bytes in %d conversations", len(p.script), p.meanBytes(), len(p.list))
	}
	p.room = r
	for range p.script {
		p.take()
	}
	for round := range 20 {
		for _, th := range p.list {
			if n := int(th.thread.said[0] + th.thread.said[1]); n != len(th.said) {
				t.Fatalf("%s: %d are counted of %d", th.id(), n, len(th.said))
			}
			for i, c := range th.said {
				if c != want[th][i%len(want[th])] {
					t.Fatalf("%s, round %d: %q is the %d-th", th.id(), round, c.text, i)
				}
			}
			if th.busy {
				last := th.said[len(th.said)-1]
				p.came(r.talkers[th.ends[1-last.who]], th.ends[last.who])
			}
		}
	}
	if p.at < 3*len(p.script) {
		t.Errorf("%d lines were taken", p.at)
	}
}

// What people really write, with quotes and all, comes back with its stamp.
func TestLook_ReadsAStampBeforeAnyText(t *testing.T) {
	for _, text := range []string{`bob: say "seq":7`, `bob: "text":"x`, `bob: \" </script> ü`, "bob: 5 6 7 ."} {
		var req struct{ Data protocol.Send }
		if err := json.Unmarshal(appendText(nil, 3, toUser(2), "run", 1, 41, 99, text), &req); err != nil {
			t.Fatal(err)
		}
		m := im.Message{Conversation: "d1-2", Seq: 8, Sender: im.Sender{ID: 1, Nickname: "x"}, Type: im.TypeText, Content: req.Data.Content}
		got := look(protocol.AppendMessagePush(nil, &m))
		from, n, at, ours := stamp(got.text)
		if got.seq != 8 || !ours || from != 1 || n != 41 || at != 99 {
			t.Errorf("%s: %+v, from %d n %d at %d %v", text, got, from, n, at, ours)
		}
	}
}
