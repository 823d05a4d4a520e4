package connector

import (
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
)

// While Redis answers nothing, crowds that come and go do not pile up.
func TestRoutes_WhoWaitsForThemIsBounded(t *testing.T) {
	both(t, func(t *testing.T, kind kind) {
		b := start(t, kind, unlimited())
		r := newRouting(&Server{metrics: b.metrics})
		r.left(make([]*conn, routesWaiting-1)...)
		r.left(make([]*conn, 3)...)
		if len(r.leaves) != routesWaiting {
			t.Errorf("%d wait to be removed", len(r.leaves))
		}

		b.routing.mu.Lock() // nobody is entered meanwhile
		waiting := make([]join, routesWaiting)
		for i := range waiting {
			waiting[i].c = &conn{}
			waiting[i].c.over.Store(true)
		}
		b.routing.joins = waiting
		b.routing.mu.Unlock()
		c := b.upgraded()
		c.text("connect 1 d")
		if reason := c.expectClose(protocol.CloseTryLater); reason != "overloaded" {
			t.Errorf("closed with %q", reason)
		}
	})
}
