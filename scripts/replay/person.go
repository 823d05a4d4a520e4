package main

import (
	"context"
	"errors"
	"sync"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// received is one message as the device's application saw it.
type received struct {
	seq  im.Seq
	from im.UserID
	text string
}

// person is one speaker with one device, which keeps what it knows over its absences.
type person struct {
	nick   string
	tokens protocol.Tokens
	http   *client.HTTP
	socket string

	// Only the goroutine of the replay touches these.
	cl     *client.Client
	cancel context.CancelFunc
	done   chan struct{}
	have   map[im.ConversationID]im.Seq
	pos    *im.Position
	open   []*client.Outgoing // sent and perhaps not yet stored

	mu      sync.Mutex // guards what follows
	got     map[im.ConversationID][]received
	acked   map[im.ConversationID]im.Seq // delivered, confirmed by the server
	read    map[im.ConversationID]im.Seq // read, confirmed
	readTry map[im.ConversationID]im.Seq // read, asked for
}

func (p *person) id() im.UserID { return p.tokens.User.ID }

func (p *person) online() bool { return p.cl != nil }

// comeOnline starts the device with what it knew when it left.
func (p *person) comeOnline(ctx context.Context, wantRead func(*person, im.ConversationID, im.Seq)) {
	ctx, p.cancel = context.WithCancel(ctx)
	p.done = make(chan struct{})
	p.cl = client.New(client.Options{
		Socket: p.socket, Device: p.tokens.Device, Platform: "replay",
		Token:     func(context.Context) (string, error) { return p.tokens.AccessToken, nil },
		Have:      p.have,
		Position:  p.pos,
		OnMessage: func(m im.Message) { p.message(m, wantRead) },
		OnAcked: func(c im.ConversationID, s im.Seq) {
			p.mu.Lock()
			p.acked[c] = max(p.acked[c], s)
			p.mu.Unlock()
		},
	})
	cl, done := p.cl, p.done
	go func() {
		defer close(done)
		_ = cl.Run(ctx) // its end shows as a message not stored or not received
	}()
}

// goOffline ends the device, unless it has messages on their way.
func (p *person) goOffline() bool {
	p.settle()
	if len(p.open) > 0 {
		return false
	}
	p.cancel()
	<-p.done
	p.have, p.pos = p.cl.Have()
	p.cl = nil
	return true
}

// settle forgets outgoing messages that have come to their end.
func (p *person) settle() {
	rest := p.open[:0]
	for _, o := range p.open {
		select {
		case <-o.Done():
		default:
			rest = append(rest, o)
		}
	}
	p.open = rest
}

func (p *person) message(m im.Message, wantRead func(*person, im.ConversationID, im.Seq)) {
	p.mu.Lock()
	p.got[m.Conversation] = append(p.got[m.Conversation], received{m.Seq, m.Sender.ID, shown(m)})
	p.mu.Unlock()
	wantRead(p, m.Conversation, m.Seq)
}

// readUpTo marks a conversation read, and remembers what was asked and what confirmed.
func (p *person) readUpTo(ctx context.Context, c im.ConversationID, s im.Seq) error {
	p.mu.Lock()
	p.readTry[c] = max(p.readTry[c], s)
	p.mu.Unlock()
	if err := p.http.Receipts(ctx, c, protocol.Receipts{ReadSeq: s}); err != nil {
		return err
	}
	p.mu.Lock()
	p.read[c] = max(p.read[c], s)
	p.acked[c] = max(p.acked[c], s) // read implies delivered
	p.mu.Unlock()
	return nil
}

// list is the person's whole conversation list, and how much it says is unread in all.
func (p *person) list(ctx context.Context) (items []protocol.Conversation, total uint64, err error) {
	for before := ""; ; {
		var page protocol.Conversations
		if err := again(ctx, func() (err error) { page, err = p.http.Conversations(ctx, before, 100); return err }); err != nil {
			return nil, 0, err
		}
		items, total = append(items, page.Items...), page.UnreadTotal
		if !page.HasMore {
			return items, total, nil
		}
		before = page.Next
	}
}

// history is a whole conversation as the person sees it.
func (p *person) history(ctx context.Context, c im.ConversationID) (items []im.Message, err error) {
	for after := im.Seq(0); ; {
		var page protocol.Page
		if err := again(ctx, func() (err error) {
			page, err = p.http.History(ctx, protocol.History{ConversationID: c, AfterSeq: &after, Limit: 100})
			return err
		}); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if !page.HasMore {
			return items, nil
		}
		if len(page.Items) == 0 {
			return nil, errors.New("a page says there is more and is empty")
		}
		after = page.Items[len(page.Items)-1].Seq
	}
}
