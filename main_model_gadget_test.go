package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// gadget is a device of a player's and what its application was shown, over all of its
// connections. It acks only what a step acks.
type gadget struct {
	p      *player
	name   im.DeviceID
	token  string
	client *client.Client // nil while it is not connected
	end    context.CancelFunc
	done   chan struct{}
	// What it held when it was last dropped.
	have     map[im.ConversationID]im.Seq
	position *im.Position
	changes  map[im.ConversationID]client.ChangedUpTo

	// from is how far the user's devices had acked when this one began, by conversation:
	// what is above it must be shown.
	from map[im.ConversationID]im.Seq

	mu     sync.Mutex // guards what follows
	synced bool
	shown  map[im.ConversationID][]im.Seq
	view   map[im.ConversationID]map[im.Seq]im.Message
	gone   map[im.Place]bool
	own    map[im.Place]bool // said by this device
	wrong  string
}

// connect starts a new device, or one that was here before where it was left.
func (g *play) connect(p *player, n int) {
	var d *gadget
	for _, old := range p.gadgets {
		if old.client == nil && n%4 > 0 {
			d = old
		}
	}
	if d == nil {
		if len(p.gadgets) == 3 {
			return
		}
		d = &gadget{
			p: p, name: im.DeviceID(fmt.Sprint("g", len(p.gadgets))), from: make(map[im.ConversationID]im.Seq),
			shown: make(map[im.ConversationID][]im.Seq), view: make(map[im.ConversationID]map[im.Seq]im.Message),
			gone: make(map[im.Place]bool), own: make(map[im.Place]bool),
		}
		d.token = g.token(p, d.name)
		p.gadgets = append(p.gadgets, d)
	}
	for _, th := range g.w.of(p.id) { // what it knows already it goes on with
		if r, _ := th.row(p.id); r.isHidden { // which it does not see
			continue
		}
		if _, known := d.from[th.id]; !known {
			d.from[th.id] = th.seats[p.id].delivered
		}
	}
	d.start(g.e.socket)
	for end := time.Now().Add(g.deadEnd); !d.has(func() bool { return d.synced }); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			failf("%s's %s does not connect", p.name, d.name)
		}
	}
}

func (d *gadget) start(socket string) {
	opt := client.Options{
		Socket: socket, Device: d.name, Platform: "test", ManualAck: true,
		Token:    func(context.Context) (string, error) { return d.token, nil },
		RetryMin: 20 * time.Millisecond, RetryMax: 500 * time.Millisecond,
		OnMessage: d.message, OnChanged: d.changed,
		OnDeleted: func(c im.ConversationID, seq im.Seq) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.gone[im.Place{Conversation: c, Seq: seq}] = true
		},
		OnSync: func(protocol.Synced) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.synced = true
		},
	}
	if d.have != nil {
		opt.Have, opt.Position, opt.HaveChanged = d.have, d.position, d.changes
	}
	d.mu.Lock()
	d.synced = false
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	c, done := client.New(opt), make(chan struct{})
	d.client, d.end, d.done = c, cancel, done
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
}

// drop ends its connection; it may come back where it was.
func (d *gadget) drop() {
	if d.client == nil {
		return
	}
	d.end()
	<-d.done
	d.have, d.position = d.client.Have()
	d.changes = d.client.HaveChanged()
	d.client = nil
}

func (d *gadget) has(what func() bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return what()
}

// said notes what this device, where it is one, has said itself and is not shown.
func (d *gadget) said(c im.ConversationID, seq im.Seq) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.own[im.Place{Conversation: c, Seq: seq}] = true
}

func (d *gadget) message(m im.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.shown[m.Conversation]
	if len(all) > 0 && m.Seq <= all[len(all)-1] {
		d.wrong = fmt.Sprintf("%s is shown after %d: %v", m.Conversation, m.Seq, all)
	}
	d.shown[m.Conversation] = append(all, m.Seq)
	d.see(m)
}

func (d *gadget) changed(m im.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.see(m)
}

func (d *gadget) see(m im.Message) {
	if d.view[m.Conversation] == nil {
		d.view[m.Conversation] = make(map[im.Seq]im.Message)
	}
	old, ok := d.view[m.Conversation][m.Seq]
	if old.Deleted { // the push of a change does not know whose eyes it is for
		m.Delete()
	}
	if !ok || old.Change <= m.Change {
		d.view[m.Conversation][m.Seq] = m
	}
}

// connected is a device of the player's to act by; nil where there is none, or n says HTTP.
func (p *player) connected(n int) *gadget {
	if n%3 == 0 {
		return nil
	}
	for i := range p.gadgets {
		if d := p.gadgets[(i+n)%len(p.gadgets)]; d.client != nil {
			return d
		}
	}
	return nil
}

// check holds what the device was shown against what its user may and must see.
func (d *gadget) check(w *world) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wrong != "" {
		return d.wrong
	}
	for c, shown := range d.shown {
		th := w.convs[c]
		if th == nil || th.seats[d.p.id] == nil {
			return fmt.Sprintf("%s is shown %v of %s", d.name, shown, c)
		}
		for _, seq := range shown {
			if !th.seats[d.p.id].saw(seq) {
				return fmt.Sprintf("%s is shown %d of %s, which is not theirs: %v", d.name, seq, c, th.seats[d.p.id].spans)
			}
			if d.own[im.Place{Conversation: c, Seq: seq}] {
				return fmt.Sprintf("%s is shown what it said itself, %d of %s", d.name, seq, c)
			}
		}
	}
	if d.client == nil {
		return ""
	}
	for _, th := range w.of(d.p.id) {
		s := th.seats[d.p.id]
		from, known := d.from[th.id]
		if r, _ := th.row(d.p.id); r.isHidden { // a full sync leaves it out until something is said
			continue
		}
		if !known { // it learned of it later, and goes on from what was acked then
			from = max(th.settled(s), s.joined)
			if shown := d.shown[th.id]; len(shown) > 0 {
				from = min(from, shown[0]-1)
			}
		}
		for seq := max(from+1, s.first()); seq <= th.top(s); seq++ {
			if !d.own[im.Place{Conversation: th.id, Seq: seq}] && !slices.Contains(d.shown[th.id], seq) {
				return fmt.Sprintf("%s was shown %v of %s, and not %d; from %d on", d.name, d.shown[th.id], th.id, seq, from)
			}
		}
		if !s.in() {
			continue
		}
		for seq, m := range d.view[th.id] {
			if seq < s.first() || d.own[im.Place{Conversation: th.id, Seq: seq}] && m.Change == 0 {
				continue
			}
			held := d.own[im.Place{Conversation: th.id, Seq: seq}] || slices.Contains(d.shown[th.id], seq)
			if !held && s.gone[seq] > 0 {
				continue // heard of by a change alone: what it is for the user the history would say
			}
			if d.gone[im.Place{Conversation: th.id, Seq: seq}] {
				m.Delete()
			}
			if got, want := brief(m, d.p.id, true), th.shows(th.at(seq), d.p.id, true); got != want {
				return fmt.Sprintf("%s shows in %s %q, want %q", d.name, th.id, got, want)
			}
		}
	}
	return ""
}

// brief is a message in the words of thread.shows.
func brief(m im.Message, u im.UserID, pushed bool) string {
	head := fmt.Sprint(m.Seq, " ", m.Sender.ID, " ")
	switch {
	case m.RecalledAt != 0:
		return head + "recalled"
	case m.Deleted:
		return head + "deleted"
	}
	text := textOf(m)
	if m.Type == im.TypeNotice {
		var n im.Notice
		_ = json.Unmarshal(m.Content, &n)
		var about []im.UserID
		for _, u := range n.Users {
			about = append(about, u.ID)
		}
		slices.Sort(about)
		head += fmt.Sprint(n.Kind, " ", about)
		text = n.Name
	}
	text = head + text
	if m.EditedAt != 0 {
		text += " (edited)"
	}
	if m.ReplyTo != nil {
		text += fmt.Sprint(" re ", m.ReplyTo.Seq)
		if m.ReplyTo.Recalled && !pushed {
			text += " recalled"
		}
	}
	if len(m.Mentions) > 0 || m.MentionsAll {
		text += fmt.Sprint(" @", m.Mentions, m.MentionsAll)
	}
	for _, r := range m.Reactions {
		text += fmt.Sprint(" ", r.Reaction, r.Count, !pushed && r.Mine)
	}
	return text
}
