package main

import (
	"context"
	"encoding/json"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

var emojis = []string{"👍", "🎉", "❤️"}

func (g *play) change(p *player, th *thread, s step) {
	m := g.pick(p, th, s.What)
	if m == nil {
		return
	}
	ch := protocol.Change{ClientChangeID: client.NewClientChangeID(), ConversationID: th.id, Seq: m.seq, Kind: im.ChangeKind(s.Do)}
	text, emoji := g.text(), emojis[s.What%len(emojis)]
	switch ch.Kind {
	case im.ChangeEdit:
		ch.Content, _ = json.Marshal(im.TextContent{Text: text})
	case im.ChangeReact, im.ChangeUnreact:
		ch.Reaction = emoji
	}
	wanted := g.mayChange(p, th, m, ch.Kind)
	var answer protocol.ChangeAnswer
	stored := func(err error) error {
		if err == nil && answer.State != protocol.StateStored {
			return &protocol.Error{Code: "not_stored", Retryable: true}
		}
		return err
	}
	if by := p.connected(s.What); by != nil && wanted == "" { // then asked again over HTTP, which waits for it
		if err := g.retry(func() error { _, err := by.client.Change(context.Background(), ch); return err }); err != nil {
			failf("%s's %s of %d in %s: %v", p.name, s.Do, m.seq, th.id, err)
		}
	}
	err := g.retry(func() (err error) { answer, err = p.http.Change(context.Background(), ch, true); return stored(err) })
	if codeOf(err) != wanted {
		failf("%s's %s of %d in %s: %v, want %q", p.name, s.Do, m.seq, th.id, err, wanted)
	}
	if wanted != "" {
		return
	}
	switch ch.Kind {
	case im.ChangeRecall:
		m.recall()
	case im.ChangeEdit:
		m.edit(text)
	default:
		m.react(p.id, emoji, ch.Kind == im.ChangeReact)
	}
	th.alter(m, true)
	if answer.Change != uint64(len(th.changes)) {
		failf("%s's %s of %d in %s has number %d, want %d", p.name, s.Do, m.seq, th.id, answer.Change, len(th.changes))
	}
}

// mayChange is "" where the player may do that to a message that they see, else the code of
// the refusal.
func (g *play) mayChange(p *player, th *thread, m *utterance, kind im.ChangeKind) string {
	own := m.sender == p.id
	manages := kind == im.ChangeRecall && m.notice == "" && th.circle != nil && th.circle.manages(p.id)
	switch {
	case th.member(p.id) == nil: // who has left changes nothing any more
		return "not_found"
	case (kind == im.ChangeRecall || kind == im.ChangeEdit) && !own && !manages:
		return "forbidden"
	case m.recalled:
		return "recalled"
	case kind == im.ChangeEdit || kind == im.ChangeReact:
		return g.may(p, th)
	}
	return ""
}

func (g *play) deleteMessages(p *player, th *thread, n int) {
	m := g.pick(p, th, n)
	if m == nil {
		return
	}
	s := th.seats[p.id]
	seqs := []im.Seq{m.seq}
	if m.seq < th.top(s) {
		seqs = append(seqs, m.seq+1)
	}
	g.must("delete messages", func() error { return p.http.DeleteMessages(context.Background(), th.id, seqs...) })
	s.delete(seqs)
	g.must("deletions", func() error { // what is deleted cannot be changed: from now on
		d, err := p.http.Deletions(context.Background(), th.id, 0, 100)
		if err == nil && len(d.Items) < len(s.gone) {
			return &protocol.Error{Code: "not_deleted", Retryable: true}
		}
		return err
	})
}

func (g *play) clear(p *player, th *thread, n int) {
	s := th.seats[p.id]
	if s == nil || th.top(s) == 0 {
		return
	}
	upTo := 1 + im.Seq(n)%(th.top(s)+1)
	g.must("delete a conversation", func() error {
		_, err := p.http.DeleteConversation(context.Background(), th.id, upTo)
		return err
	})
	if upTo = min(upTo, th.top(s)); upTo > s.floor {
		s.floor, s.pinned, s.marked, s.draft = upTo, false, 0, ""
		s.version++
	}
}

func (g *play) settings(p *player, th *thread, n int) {
	s := th.seats[p.id]
	var ch protocol.ChangeSettings
	on := n%2 == 0
	var after seat
	if s != nil {
		after = *s
	}
	switch n / 2 % 5 {
	case 0:
		ch.Pinned, after.pinned = &on, on
	case 1:
		after.muted = 0
		if on {
			after.muted = im.MutedForever
		}
		ch.MutedUntil = &after.muted
	case 2:
		ch.MarkedUnread, after.marked = &on, 0
		if on && s != nil {
			after.marked = th.top(s) + 1
		}
	case 3:
		var upTo im.Seq
		if on && s != nil {
			upTo = th.top(s)
		}
		ch.HiddenSeq, after.hidden = &upTo, upTo
	case 4:
		after.draft = []string{"", "half a tho", "half a thought"}[n/10%3]
		ch.Draft = &after.draft
	}
	err := g.retry(func() error {
		_, err := p.http.ChangeSettings(context.Background(), th.id, ch)
		return err
	})
	switch {
	case s == nil && codeOf(err) == "not_found":
	case s == nil || err != nil:
		failf("%s sets %d for %s: %v", p.name, n/2%5, th.id, err)
	case after.pinned != s.pinned || after.muted != s.muted || after.marked != s.marked || after.hidden != s.hidden || after.draft != s.draft:
		after.version++
		*s = after
	}
}
