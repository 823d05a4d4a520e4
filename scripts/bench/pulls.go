package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// pageSize is of a page of history.
const pageSize = 50

// history reads pages of one conversation: the newest page, and pages anywhere. The
// rows are put into the table directly, since ten million by the protocol take an hour;
// hot reads follow each other, cold ones follow a restart of the database.
func (b *bench) history(ctx context.Context, rows int) ([]Result, error) {
	two, err := b.people(ctx, fmt.Sprint("history", rows), 2)
	if err != nil {
		return nil, err
	}
	h := two[0].http(b.engine.http())
	sent, err := h.Send(ctx, protocol.Send{ClientMsgID: "history-begins-1", To: client.ToUser(two[1].user), Content: []byte(`{"text":"first"}`)}, true)
	if err != nil {
		return nil, err
	}
	conv := sent.ConversationID
	if err := b.engine.stores.fill(ctx, conv, two[0].user, rows); err != nil {
		return nil, fmt.Errorf("fill %s: %w", conv, err)
	}
	newest := func() protocol.History { return protocol.History{ConversationID: conv, Limit: pageSize} }
	deep := func() protocol.History {
		seq := im.Seq(rand.IntN(rows) + 1)
		return protocol.History{ConversationID: conv, BeforeSeq: &seq, Limit: pageSize}
	}
	var all []Result
	for _, part := range []struct {
		name string
		cold bool
		ask  func() protocol.History
	}{{"newest page", false, newest}, {"deep page", false, deep}, {"deep page, cold", true, deep}} {
		if part.cold {
			if err := b.engine.stores.restart(ctx, "mysql"); err != nil {
				return all, err
			}
		}
		res, err := b.calls(ctx, "page", func(ctx context.Context) error {
			page, err := h.History(ctx, part.ask())
			if err == nil && len(page.Items) == 0 {
				err = fmt.Errorf("an empty page")
			}
			return err
		})
		if err != nil {
			return all, err
		}
		res.Scenario = fmt.Sprintf("history %d", rows)
		res.Setting = part.name
		all = append(all, res)
	}
	return all, nil
}

// calls makes one kind of request after the other for the span, one at a time: how long
// one takes is the question, not how many fit.
func (b *bench) calls(ctx context.Context, unit string, ask func(context.Context) error) (Result, error) {
	h := hdrhistogram.New(1, longestDelay, 3)
	from := b.costsNow(ctx)
	var n int64
	for end := time.Now().Add(b.span); time.Now().Before(end) && ctx.Err() == nil; n++ {
		start := time.Now()
		if err := ask(ctx); err != nil {
			return Result{}, err
		}
		if err := h.RecordValue(min(max(time.Since(start).Microseconds(), 1), longestDelay)); err != nil {
			return Result{}, err
		}
	}
	return b.result("", unit, from, b.costsNow(ctx), n, h), nil
}

// syncs starts a client that is in many conversations: the first sync in full, and one
// that resumes where nothing has changed.
func (b *bench) syncs(ctx context.Context, conversations int) ([]Result, error) {
	all, err := b.people(ctx, fmt.Sprint("sync", conversations), conversations+1)
	if err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(asked)
	for _, p := range all[1:] {
		g.Go(func() error {
			_, err := p.http(b.engine.http()).Send(gctx, protocol.Send{
				ClientMsgID: im.ClientMsgID("sync-" + b.run), To: client.ToUser(all[0].user), Content: []byte(`{"text":"hello"}`),
			}, true)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	h := all[0].http(b.engine.http())
	var at im.Position
	full, err := b.calls(ctx, "sync", func(ctx context.Context) error {
		s, err := h.Sync(ctx, nil, 0)
		if err != nil {
			return err
		}
		at = s.Position
		n, more, next := len(s.Conversations), s.HasMore, s.Next
		for more {
			page, err := h.Conversations(ctx, next, 100)
			if err != nil {
				return err
			}
			n, more, next = n+len(page.Items), page.HasMore, page.Next
		}
		if n != conversations {
			return fmt.Errorf("%d conversations of %d", n, conversations)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	full.Scenario, full.Setting = fmt.Sprintf("sync %d", conversations), "in full, all pages"
	resumed, err := b.calls(ctx, "sync", func(ctx context.Context) error {
		_, err := h.Sync(ctx, &at, 0)
		return err
	})
	resumed.Scenario, resumed.Setting = full.Scenario, "from a position, nothing new"
	return []Result{full, resumed}, err
}
