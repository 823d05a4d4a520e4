package connector

import (
	"context"
	"slices"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// leave takes out whom nobody watches any more. What fails runs out by itself.
func (p *presence) leave(ctx context.Context) {
	p.mu.Lock()
	gone := slices.DeleteFunc(p.empty, func(u im.UserID) bool { return p.targets[u] != nil })
	p.empty = nil
	p.mu.Unlock()
	for part := range slices.Chunk(gone, routeBatch) {
		call, cancel := context.WithTimeout(ctx, p.s.cfg.RouteTimeout)
		err := p.s.routes.Unwatch(call, p.s.node, part)
		cancel()
		if err != nil {
			p.s.routing.failed("unwatch", err)
			return
		}
	}
}

// enter enters the new ones that are still watched; those that could not be entered
// stay for the next round. Who is given up meanwhile is taken out by it.
func (p *presence) enter(ctx context.Context) error {
	for {
		p.mu.Lock()
		p.fresh = slices.DeleteFunc(p.fresh, func(t *target) bool { return p.targets[t.user] != t })
		n := min(len(p.fresh), routeBatch)
		part := p.fresh[:n:n]
		p.fresh = p.fresh[n:]
		users := make([]im.UserID, n)
		for i, t := range part {
			users[i] = t.user
		}
		p.mu.Unlock()
		if n == 0 {
			return nil
		}
		if err := p.watch(ctx, users); err != nil {
			p.mu.Lock()
			p.fresh = append(p.fresh, part...)
			p.mu.Unlock()
			return err
		}
		p.mu.Lock()
		for _, t := range part {
			t.entered = true
		}
		p.mu.Unlock()
	}
}

func (p *presence) watch(ctx context.Context, users []im.UserID) error {
	ctx, cancel := context.WithTimeout(ctx, p.s.cfg.RouteTimeout)
	defer cancel()
	return p.s.routes.Watch(ctx, p.s.node, users)
}

// renew keeps a third of what is entered alive, in turn.
func (p *presence) renew(ctx context.Context) error {
	p.mu.Lock()
	p.round++
	var users []im.UserID
	for u, t := range p.targets {
		if t.entered && int(u%renewals) == p.round%renewals {
			users = append(users, u)
		}
	}
	p.mu.Unlock()
	for part := range slices.Chunk(users, routeBatch) {
		if err := p.watch(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// checkNodes has those read who were on a node that has died since.
func (p *presence) checkNodes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.s.cfg.RouteTimeout)
	defer cancel()
	live, err := p.s.routes.LiveNodes(ctx)
	if err != nil {
		return err
	}
	died := false
	for n := range p.nodes {
		died = died || !live[n]
	}
	p.nodes = live
	if !died {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, t := range p.targets {
		if slices.ContainsFunc(t.nodes, func(n im.NodeID) bool { return !live[n] }) {
			p.mark(t, now)
		}
	}
	return nil
}
