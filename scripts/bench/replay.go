package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/replay/corpus"
)

// excerpt is what is replayed where no folder of logs is given.
const excerpt = "scripts/replay/testdata"

// castOf is how many speakers play at least: short logs are played by several casts at
// once, as their order alone would let too little be in flight.
const castOf = 2000

// replay says what real people said to each other, as fast as it is taken: in the order
// of the logs, with one message in flight in a conversation and inFlight altogether, and
// again from the beginning when the logs are at their end. Afterwards the history of
// each conversation must be what was said there, in that order.
func (b *bench) replay(ctx context.Context, root, logs string) (Result, error) {
	if logs == "" {
		logs = filepath.Join(root, filepath.FromSlash(excerpt))
	}
	speakers, lines, err := corpus.Read(os.DirFS(logs))
	if err != nil {
		return Result{}, err
	}
	if len(lines) == 0 {
		return Result{}, fmt.Errorf("nobody says anything to anybody in %s", logs)
	}
	casts := (castOf + len(speakers) - 1) / len(speakers)
	all, err := b.people(ctx, "replay", casts*len(speakers))
	if err != nil {
		return Result{}, err
	}
	p := newPlay(speakers, lines, all)
	r, err := b.enter(ctx, all, p.came)
	if err != nil {
		return Result{}, err
	}
	defer r.leave()
	p.begin(r)
	from, to, received, err := b.measure(ctx, "replay", r, b.warm, b.span)
	p.stop()
	r.settle(ctx, r.said())
	res := b.result("replay", "message", from, to, received, r.delays())
	threads := make([]thread, len(p.list))
	for i, t := range p.list {
		threads[i] = t.thread
	}
	res.Faults = r.faultsOf(r.dueIn(threads))
	res.Setting = fmt.Sprintf("%d lines of %.0f bytes by %d speakers in %d conversations; %d casts at once, said %.1f times, at most %d in flight",
		len(lines), p.meanBytes(), len(speakers), len(p.list)/casts, casts, float64(p.at)/float64(len(p.script)), inFlight)
	if err := errors.Join(err, r.problem()); err != nil || res.Faults.any() {
		return res, err // faults speak for themselves
	}
	return res, b.sameHistories(ctx, p, all)
}

// sameHistories reads each conversation back and holds it against what was said in it.
func (b *bench) sameHistories(ctx context.Context, p *play, all []person) error {
	who := make(map[im.UserID]person, len(all))
	for _, one := range all {
		who[one.user] = one
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(asked)
	for _, t := range p.list {
		g.Go(func() error { return b.sameHistory(ctx, t, who[t.ends[0]]) })
	}
	return g.Wait()
}

func (b *bench) sameHistory(ctx context.Context, t *playThread, reader person) error {
	h := reader.http(b.engine.http())
	for seq := im.Seq(0); int(seq) < len(t.said); {
		page, err := h.History(ctx, protocol.History{ConversationID: t.id(), AfterSeq: &seq, Limit: 100})
		if err != nil {
			return err
		}
		if len(page.Items) == 0 {
			return fmt.Errorf("%s ends at %d, and %d were said", t.id(), seq, len(t.said))
		}
		for _, m := range page.Items {
			if seq++; int(seq) > len(t.said) {
				return fmt.Errorf("%s goes on after %d, which is all that was said", t.id(), len(t.said))
			}
			c := t.said[seq-1]
			var content im.TextContent
			err := json.Unmarshal(m.Content, &content)
			_, text, _ := strings.Cut(content.Text, " .")
			if err != nil || m.Seq != seq || m.Sender.ID != t.ends[c.who] || text != c.text {
				return fmt.Errorf("%s: at %d is %q of %d, said was %q of %d", t.id(), m.Seq, text, m.Sender.ID, c.text, t.ends[c.who])
			}
		}
	}
	return nil
}
