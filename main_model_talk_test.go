package main

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// part is what somebody says while others do.
type part struct {
	p    *player
	m    *utterance
	sent protocol.Sent
	by   *gadget
	code string
}

// moving is somebody who comes or goes while others talk.
type moving struct {
	ask    func() (protocol.GroupChanged, error)
	who    im.UserID
	muted  bool // where they are let in
	notice im.NoticeKind
	apply  func(th *thread) // does in one channel what the notice says
	answer protocol.GroupChanged
	err    error
}

// talk is several at once, without waiting for each other, and perhaps somebody who comes
// or goes meanwhile. In which order that came out the history says; it must be one that
// could be: nothing refused is there, everything taken is once, and each one's own words
// are in their order.
func (g *play) talk(th *thread, n int, mv *moving) {
	var witness *player
	var all []*part
	var wg sync.WaitGroup
	for i, p := range g.players {
		if g.may(p, th) != "" && (mv == nil || p.id != mv.who) {
			continue
		}
		if mv == nil || th.circle.owner() == p.id {
			witness = p
		}
		mine := make([]*part, 1+(n+i)%3)
		for k := range mine {
			mine[k] = &part{p: p, m: &utterance{sender: p.id, text: g.text()}}
		}
		all = append(all, mine...)
		by := p.connected(n)
		wg.Go(func() { g.speak(th, by, mine) })
	}
	if witness == nil { // nobody is there
		return
	}
	if mv != nil {
		wg.Go(func() { mv.err = g.retry(func() (err error) { mv.answer, err = mv.ask(); return err }) })
	}
	wg.Wait()
	awaited := 0
	for _, x := range all {
		switch {
		case x.code == "":
			awaited++
		case mv != nil && x.p.id == mv.who && (x.code == "not_found" || x.code == "muted" && mv.muted):
		default:
			failf("%s says %q in %s meanwhile: %q", x.p.name, x.m.text, th.id, x.code)
		}
	}
	if mv != nil {
		if mv.err != nil {
			failf("%s meanwhile: %v", mv.notice, mv.err)
		}
		awaited++
	}
	g.hear(witness, th, all, mv, awaited)
	if mv != nil {
		g.settle(mv.answer)
	}
}

// speak says one player's parts: by a device in flight together, else one after another.
func (g *play) speak(th *thread, by *gadget, mine []*part) {
	ctx, cancel := context.WithTimeout(context.Background(), g.deadEnd)
	defer cancel()
	var each sync.WaitGroup
	for _, x := range mine {
		content, _ := json.Marshal(im.TextContent{Text: x.m.text}) // a text always encodes
		req := protocol.Send{ClientMsgID: client.NewClientMsgID(), To: g.address(x.p, th, 0), Content: content}
		if by == nil {
			err := g.retry(func() (err error) { x.sent, err = x.p.http.Send(ctx, req, true); return err })
			x.code = codeOf(err)
			continue
		}
		o, err := by.client.Send(req)
		if err != nil {
			x.code = codeOf(err)
			continue
		}
		x.by = by
		each.Go(func() {
			sent, err := o.Stored(ctx)
			x.sent, x.code = sent, codeOf(err)
		})
	}
	each.Wait()
}

// hear takes from the witness's history in which order it came out.
func (g *play) hear(witness *player, th *thread, all []*part, mv *moving, awaited int) {
	var heard []im.Message
	g.must("what was said meanwhile", func() error {
		after := th.last()
		page, err := witness.http.History(bg, protocol.History{ConversationID: th.id, AfterSeq: &after, Limit: 100})
		if err == nil && len(page.Items) < awaited {
			return &protocol.Error{Code: "not_all_said", Retryable: true}
		}
		heard = page.Items
		return err
	})
	for _, m := range heard {
		if m.Type == im.TypeNotice && mv != nil {
			mv.apply(th)
			continue
		}
		at := slices.IndexFunc(all, func(x *part) bool { return x.m.text == textOf(m) && x.p.id == m.Sender.ID })
		if at < 0 || all[at].code != "" || all[at].sent.Seq != 0 && all[at].sent.Seq != m.Seq {
			failf("in %s there is %q of %s at %d", th.id, textOf(m), m.Sender.ID, m.Seq)
		}
		x := all[at]
		if earlier := slices.IndexFunc(all, func(y *part) bool { return y.p == x.p && y.code == "" }); earlier != at {
			failf("%s said %q before %q, which comes first", x.p.name, all[earlier].m.text, x.m.text)
		}
		g.w.say(th, x.m)
		x.by.said(th.id, m.Seq)
		all = slices.Delete(all, at, at+1)
	}
}

// storm is a channel where all talk while somebody is taken out, leaves, or is let in.
func (g *play) storm(p *player, s step) {
	if len(g.w.groups) == 0 {
		return
	}
	c := g.w.groups[s.Where%len(g.w.groups)]
	at := slices.IndexFunc(g.players, func(p *player) bool { return c.owner() == p.id })
	if at < 0 || g.players[at] == p {
		return
	}
	owner, open := g.players[at], c.open()
	th := open[s.What%len(open)]
	mv := &moving{who: p.id, muted: c.muted[p.id] || c.mutedAll}
	if c.members[p.id] == nil {
		mv.notice = im.NoticeJoined
		mv.ask = func() (protocol.GroupChanged, error) { return owner.http.AddMembers(bg, c.id, p.id) }
		mv.apply = func(th *thread) { g.w.tell(th, mv.notice, "", []im.UserID{p.id}, []im.UserID{p.id}, nil) }
	} else {
		mv.notice = []im.NoticeKind{im.NoticeRemoved, im.NoticeLeft}[s.What%2]
		mv.ask = func() (protocol.GroupChanged, error) { return p.http.LeaveGroup(bg, c.id) }
		if mv.notice == im.NoticeRemoved {
			mv.ask = func() (protocol.GroupChanged, error) { return owner.http.RemoveMember(bg, c.id, p.id) }
		}
		mv.apply = func(th *thread) { g.w.tell(th, mv.notice, "", []im.UserID{p.id}, nil, []im.UserID{p.id}) }
	}
	g.talk(th, s.What, mv)
	for _, other := range c.channels {
		if other != th && !other.removed && (mv.notice == im.NoticeJoined && !other.private || mv.notice != im.NoticeJoined && other.member(p.id) != nil) {
			mv.apply(other)
		}
	}
	if mv.notice != im.NoticeJoined {
		delete(c.members, p.id)
		g.overtaken(p, th)
		return
	}
	c.members[p.id] = &membership{role: im.RoleMember}
	delete(c.asked, p.id)
}

// overtaken has who left read up to their leave notice where words of theirs came after
// it: what one says one has read (contract 7).
func (g *play) overtaken(p *player, th *thread) {
	s := th.seats[p.id]
	if slices.ContainsFunc(th.said[s.leave:], func(m *utterance) bool { return m.sender == p.id }) {
		s.read = max(s.read, s.leave)
	}
}
