package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// step is one thing that somebody does. Its numbers choose among what there is when it
// is done, so that any list of steps means something, also a shorter one.
type step struct {
	Do               string
	Who, Where, What int
}

func (s step) String() string { return fmt.Sprintf("{%q,%d,%d,%d}", s.Do, s.Who, s.Where, s.What) }

// GoString leaves out what does not matter.
func (s step) GoString() string {
	if s.Do == "rest" {
		return ""
	}
	return s.String()
}

// play is one case on one engine.
type play struct {
	*mode
	w       *world
	players []*player
	texts   int
	deadEnd time.Duration // how long a fact may take
}

// player is one user of a case.
type player struct {
	id      im.UserID
	name    string
	http    *client.HTTP
	gadgets []*gadget
	mirror  mirror
}

// failed ends a case.
type failed struct{ why string }

func failf(format string, args ...any) { panic(failed{fmt.Sprintf(format, args...)}) }

// retry makes a request again while what it meets heals by itself.
func (g *play) retry(f func() error) error {
	for end := time.Now().Add(g.deadEnd); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		var e *protocol.Error
		if err == nil || errors.As(err, &e) && !e.Retryable || time.Now().After(end) {
			return err
		}
	}
}

// must is retry where only one answer is right.
func (g *play) must(what string, f func() error) {
	if err := g.retry(f); err != nil {
		failf("%s: %v", what, err)
	}
}

// codeOf is "" for no error.
func codeOf(err error) string {
	var e *protocol.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return err.Error()
}

// enter makes the users of a case.
func (g *play) enter(n int) {
	case_ := client.NewClientMsgID()[:10]
	users := make([]protocol.ServerUser, n)
	for i := range users {
		users[i] = protocol.ServerUser{ExternalID: fmt.Sprintf("%s-%d", case_, i), Nickname: fmt.Sprint("Player ", i)}
	}
	server := serverAPI(g.e.http)
	g.must("users", func() error {
		made, err := server.UpsertUsers(context.Background(), users)
		g.players = nil
		for i, u := range made.Users {
			g.players = append(g.players, &player{id: u.ID, name: fmt.Sprint("p", i)})
		}
		return err
	})
	for _, p := range g.players {
		token := g.token(p, "http")
		p.http = &client.HTTP{Base: g.e.http, Token: func() string { return "Bearer " + token }}
	}
}

func (g *play) token(p *player, device im.DeviceID) (token string) {
	g.must("token", func() error {
		t, err := serverAPI(g.e.http).IssueTokens(context.Background(), protocol.IssueTokens{UserID: &p.id, Device: device})
		token = t.AccessToken
		return err
	})
	return token
}

func (g *play) leave() {
	for _, p := range g.players {
		for _, d := range p.gadgets {
			d.drop()
		}
	}
}

// where chooses a conversation for a player: one that there is or could be.
func (g *play) where(p *player, n int) *thread {
	var all []*thread
	for _, other := range g.players {
		if other != p {
			all = append(all, g.w.direct(p.id, other.id))
		}
	}
	all = append(all, g.channels()...)
	return all[n%len(all)]
}

// do does one step on the engine and in the model.
func (g *play) do(s step) {
	g.w.moment++
	p := g.players[s.Who%len(g.players)]
	switch s.Do {
	case "say", "reply", "mention":
		g.say(p, g.where(p, s.Where), s)
	case "talk":
		g.talk(g.where(p, s.Where), s.What, nil)
	case "storm":
		g.storm(p, s)
	case "read", "ack":
		g.receipt(p, g.where(p, s.Where), s)
	case "recall", "edit", "react", "unreact":
		g.change(p, g.where(p, s.Where), s)
	case "delete":
		g.deleteMessages(p, g.where(p, s.Where), s.What)
	case "clear":
		g.clear(p, g.where(p, s.Where), s.What)
	case "settings":
		g.settings(p, g.where(p, s.Where), s.What)
	case "connect":
		g.connect(p, s.What)
	case "drop":
		if len(p.gadgets) > 0 {
			p.gadgets[s.What%len(p.gadgets)].drop()
		}
	case "flush":
		g.flush()
	case "rest":
	case "quiet":
		g.quiet()
	default:
		g.regroup(p, s)
	}
}

// address names a conversation as a send may: also by the user, before it is there.
func (g *play) address(p *player, th *thread, n int) protocol.To {
	if th.circle == nil && (n%2 == 0 || th.last() == 0) {
		peer := th.low + th.high - p.id
		return protocol.To{UserID: &peer}
	}
	return protocol.To{ConversationID: th.id}
}

// send says m by a device of the player's, where one is there and odd says so, else over HTTP.
// It answers with the code of a refusal.
func (g *play) send(p *player, th *thread, m *utterance, n int) (sent protocol.Sent, by *gadget, code string) {
	content, _ := json.Marshal(im.TextContent{Text: m.text}) // a text always encodes
	req := protocol.Send{ClientMsgID: client.NewClientMsgID(), To: g.address(p, th, n), Content: content, Mentions: m.mentions, MentionsAll: m.all}
	if m.reply > 0 {
		req.ReplyTo = &protocol.MessageRef{Seq: m.reply}
	}
	if by = p.connected(n); by != nil {
		ctx, cancel := context.WithTimeout(context.Background(), g.deadEnd)
		defer cancel()
		o, err := by.client.Send(req)
		if err == nil {
			sent, err = o.Stored(ctx)
		}
		return sent, by, codeOf(err)
	}
	err := g.retry(func() (err error) {
		sent, err = p.http.Send(context.Background(), req, true)
		if err == nil && sent.State != protocol.StateStored {
			return &protocol.Error{Code: "not_stored", Retryable: true}
		}
		return err
	})
	if err == nil && n%3 == 0 { // a retry is the same message
		again, err := p.http.Send(context.Background(), req, true)
		if err != nil || again.Seq != sent.Seq {
			failf("%s said %q at %d, and again at %d, %v", p.name, m.text, sent.Seq, again.Seq, err)
		}
	}
	return sent, nil, codeOf(err)
}

// text is said once in a case.
func (g *play) text() string {
	g.texts++
	return fmt.Sprint("text ", g.texts)
}

func (g *play) say(p *player, th *thread, s step) {
	m := &utterance{sender: p.id, text: g.text()}
	wanted := g.may(p, th)
	switch visible := g.pick(p, th, s.What); {
	case s.Do == "reply" && visible != nil && visible.notice == "" && !visible.recalled:
		m.reply = visible.seq
	case s.Do == "mention" && wanted == "":
		m.mentions = []im.UserID{g.someone(th, s.What)}
		if th.circle != nil && th.circle.manages(p.id) && s.What%3 == 0 {
			m.mentions, m.all = nil, true
		}
	}
	sent, by, code := g.send(p, th, m, s.What)
	if code != wanted {
		failf("%s says %q in %s: %q, want %q", p.name, m.text, th.id, code, wanted)
	}
	if code != "" {
		return
	}
	if sent.Seq != th.last()+1 || sent.ConversationID != th.id {
		failf("%s says %q in %s: stored at %d of %s, want %d", p.name, m.text, th.id, sent.Seq, sent.ConversationID, th.last()+1)
	}
	g.w.say(th, m)
	by.said(th.id, sent.Seq)
}

// someone is a member of the conversation.
func (g *play) someone(th *thread, n int) im.UserID {
	var all []im.UserID
	for _, p := range g.players {
		if th.member(p.id) != nil || th.circle == nil && (p.id == th.low || p.id == th.high) {
			all = append(all, p.id)
		}
	}
	return all[n%len(all)]
}

// pick is a message that the player sees; nil where there is none.
func (g *play) pick(p *player, th *thread, n int) *utterance {
	s := th.seats[p.id]
	if s == nil || th.top(s) < s.first() {
		return nil
	}
	m := th.at(s.first() + im.Seq(n)%(th.top(s)-s.first()+1))
	if s.gone[m.seq] > 0 {
		return nil
	}
	return m
}

func (g *play) receipt(p *player, th *thread, s step) {
	seat := th.seats[p.id]
	upTo := 1 + im.Seq(s.What)%max(th.last(), 1)
	beyond := s.What%11 == 0 && seat != nil && seat.delivered < th.last() // the end, whatever that is when it gets there
	if beyond {
		upTo = th.last() + 5
	}
	move := protocol.Receipts{DeliveredSeq: upTo}
	if s.Do == "read" {
		move = protocol.Receipts{ReadSeq: upTo}
	}
	wanted := ""
	if seat == nil {
		wanted = "not_found"
	} else if !seat.in() {
		return // who has left moves nothing that anybody sees
	}
	var code string
	switch by := p.connected(s.What); {
	case by == nil && s.Do == "ack" && s.What%2 == 0:
		code = codeOf(g.retry(func() error { return p.http.OfflineAck(context.Background(), th.id, upTo) }))
	case by == nil:
		code = codeOf(g.retry(func() error { return p.http.Receipts(context.Background(), th.id, move) }))
	case s.Do == "read":
		code = codeOf(g.retry(func() error { return by.client.Read(context.Background(), th.id, upTo) }))
	default:
		code = codeOf(g.retry(func() error { return by.client.Ack(context.Background(), th.id, upTo) }))
	}
	if code != wanted {
		failf("%s's %s up to %d of %s: %q, want %q", p.name, s.Do, upTo, th.id, code, wanted)
	}
	if seat != nil {
		th.move(seat, move.DeliveredSeq, move.ReadSeq)
	}
	if beyond && seat != nil {
		g.must("a receipt beyond the end", func() error {
			c, err := p.http.Conversation(context.Background(), th.id)
			if err == nil && c.DeliveredSeq < seat.delivered {
				return &protocol.Error{Code: "not_moved", Retryable: true}
			}
			return err
		})
	}
}
