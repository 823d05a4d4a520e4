package admin

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
)

// readiness is whether new work should come here.
type readiness struct {
	stopping atomic.Bool
}

// Stopping makes /ready say no from now on: the first step of a stop, before any
// listener closes.
func (s *Server) Stopping() { s.ready.stopping.Store(true) }

type readyAnswer struct {
	Status string            `json:"status"` // ready, degraded or stopping
	Checks map[string]string `json:"checks"` // ok, away, or what a check says itself
}

// handleReady asks everything at once. A store that is away makes the process
// degraded, not unready: what does not need it goes on (contract 11), and taking all
// processes out of the balancer at once would stop that too. Only stopping is 503.
func (s *Server) handleReady(w http.ResponseWriter, r *http.Request) {
	answer := readyAnswer{Status: "ready", Checks: s.check(r.Context())}
	for _, state := range answer.Checks {
		if state != "ok" {
			answer.Status = "degraded"
		}
	}
	status := http.StatusOK
	if s.ready.stopping.Load() {
		answer.Status, status = "stopping", http.StatusServiceUnavailable
	}
	write(w, status, answer)
}

func (s *Server) check(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CheckTimeout)
	defer cancel()
	states := make([]string, len(s.deps.Checks))
	var wg sync.WaitGroup
	for i, c := range s.deps.Checks {
		wg.Go(func() {
			states[i] = "ok"
			if err := c.Ask(ctx); err != nil {
				states[i] = "away"
				var shown interface{ State() string }
				if errors.As(err, &shown) {
					states[i] = shown.State()
				}
				s.deps.Log.Warn("not ready", "check", c.Name, "err", err)
			}
		})
	}
	wg.Wait()
	all := make(map[string]string, len(states))
	for i, c := range s.deps.Checks {
		all[c.Name] = states[i]
	}
	return all
}
