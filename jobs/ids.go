package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// nodeIDs gives message IDs under a leased node number (DESIGN.md, IDs). An ID is
// never given twice by one process, whatever its clock does, and nothing is given
// once the lease may have run out.
type nodeIDs struct {
	nodes  Nodes
	holder string // one life of this process
	ttl    time.Duration
	now    func() time.Time
	log    *slog.Logger
	m      *metrics

	mu      sync.Mutex // guards what follows
	node    int        // -1: none
	until   time.Time  // give nothing from here on
	milli   int64      // of the last ID
	counter int        // of the last ID
}

func newNodeIDs(nodes Nodes, ttl time.Duration, now func() time.Time, log *slog.Logger, m *metrics) *nodeIDs {
	return &nodeIDs{nodes: nodes, holder: rand.Text(), ttl: ttl, now: now, log: log, m: m, node: -1, counter: -1}
}

// take appends n IDs to dst, each above the one before it and above after. It takes a
// lease where there is none: im.ErrStore while MySQL is away or all node numbers are
// held, which both heal by themselves.
func (g *nodeIDs) take(ctx context.Context, n int, after im.MessageID, dst []im.MessageID) ([]im.MessageID, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.hold(ctx); err != nil {
		return dst, err
	}
	// Time may be borrowed from the future: where the clock stepped back, where more
	// than MessagesPerMilli are wanted, where after came from a node ahead of us.
	milli := g.now().UnixMilli()
	if milli <= g.milli {
		milli = g.milli
	} else {
		g.counter = -1
	}
	if ahead := after.UnixMilli(); after != 0 && milli <= ahead {
		milli, g.counter = ahead+1, -1
	}
	for range n {
		g.counter++
		if g.counter == im.MessagesPerMilli {
			milli, g.counter = milli+1, 0
		}
		dst = append(dst, im.NewMessageID(milli, g.node, g.counter))
	}
	g.milli = milli
	return dst, nil
}

// hold makes sure of a lease. The caller has the lock: who waits for the lease waits
// for the same one.
func (g *nodeIDs) hold(ctx context.Context) error {
	if g.node >= 0 && time.Now().Before(g.until) {
		return nil
	}
	g.node = -1
	asked := time.Now()
	node, err := g.nodes.AcquireNode(ctx, g.holder, g.ttl)
	if errors.Is(err, im.ErrConflict) {
		return fmt.Errorf("all %d node numbers are held: %w", im.MessageNodes, im.ErrStore)
	}
	if err != nil {
		return fmt.Errorf("lease a node number: %w", err)
	}
	g.granted(node, asked)
	g.m.leases.WithLabelValues("taken").Inc()
	g.log.Info("node number leased", "node", node)
	return nil
}

// granted notes a lease asked for at the given moment. It is used up to four fifths,
// so that clocks and scheduling may be late.
func (g *nodeIDs) granted(node int, asked time.Time) {
	g.node, g.until = node, asked.Add(g.ttl*4/5)
}

// drop gives the lease up after an ID of it was met in the table: somebody else holds
// it too. It is not released, since it is theirs.
func (g *nodeIDs) drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.node >= 0 {
		g.log.Warn("node number dropped: a message ID of it is taken", "node", g.node)
		g.m.leases.WithLabelValues("lost").Inc()
		// A holder keeps what it asks for again, so ask as another.
		g.node, g.holder = -1, rand.Text()
	}
}

// run renews the lease until ctx ends, then releases it.
func (g *nodeIDs) run(ctx context.Context) {
	tick := time.NewTicker(g.ttl / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.renew(ctx)
		case <-ctx.Done():
			g.release(context.WithoutCancel(ctx))
			return
		}
	}
}

func (g *nodeIDs) renew(ctx context.Context) {
	g.mu.Lock()
	node, holder := g.node, g.holder
	g.mu.Unlock()
	if node < 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, g.ttl/3)
	defer cancel()
	asked := time.Now()
	err := g.nodes.RenewNode(ctx, node, holder, g.ttl)

	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.node != node || g.holder != holder: // dropped meanwhile
	case err == nil:
		g.granted(node, asked)
	case errors.Is(err, im.ErrConflict):
		g.log.Warn("node number lost", "node", node)
		g.m.leases.WithLabelValues("lost").Inc()
		g.node = -1
	default: // good until it runs out
		g.log.Warn("renew the node number", "node", node, "err", err)
	}
}

func (g *nodeIDs) release(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.node < 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := g.nodes.ReleaseNode(ctx, g.node, g.holder); err != nil {
		g.log.Info("release the node number; it runs out by itself", "node", g.node, "err", err)
	}
	g.node = -1
}
