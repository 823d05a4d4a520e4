package jobs

import (
	"context"
	"errors"
	"time"
)

// commitLoop commits while there is something to, and watches for a standstill.
func (p *partition) commitLoop(ctx context.Context) {
	watch := time.NewTicker(max(min(time.Second, p.r.cfg.StallTimeout/4), time.Millisecond))
	defer watch.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	state := commitState{written: time.Now()}
	waiting := false // for the pause to end
	for {
		select {
		case <-p.dirty:
			if !waiting {
				waiting = true
				pause.Reset(p.r.cfg.CommitEvery)
			}
		case <-pause.C:
			waiting = false
			// Not under ctx: a write under way when the taking ends is finished.
			if !p.commit(p.work, &state, false) {
				p.mark() // cursor moves are not due yet, or the broker did not answer
			}
		case <-watch.C:
			p.watch()
		case <-ctx.Done():
			return
		}
	}
}

// commitState is what the commit loop remembers.
type commitState struct {
	written   time.Time // cursor moves
	committed int64
	failing   bool // the last attempt at either failed, and was logged
}

// warn logs the first failure in a row: there are five attempts a second.
func (c *commitState) warn(p *partition, what string, err error) {
	if !c.failing {
		p.r.log.Warn(what, "partition", p.src.Place().Partition, "err", err)
	}
	c.failing = true
}

// commit writes cursor moves that are due, then commits the prefix they cover ([J3]).
// It reports whether nothing is left to commit.
func (p *partition) commit(ctx context.Context, state *commitState, final bool) bool {
	p.mu.Lock()
	var next int64
	if p.water != nil {
		next = p.water.Next()
	}
	crashed := p.crashed
	p.mu.Unlock()
	if crashed {
		return true
	}
	// A move was in the book before its record was finished, so the book covers next.
	if !p.moves.empty() {
		if !final && time.Since(state.written) < p.r.cfg.CursorsEvery && !p.moves.full(p.r.cfg.CursorsWaiting) {
			return false
		}
		if err := p.writeMoves(ctx); err != nil {
			state.warn(p, "write cursor moves", err)
			var crash *endedError
			if p.work.Err() != nil || errors.As(err, &crash) {
				p.abandon(err)
			}
			return false
		}
		state.written = time.Now()
		p.wakeAll() // room waits for the book
	}
	if next <= state.committed {
		return true
	}
	if err := p.src.Commit(next); err != nil {
		state.warn(p, "commit", err)
		return false
	}
	state.committed, state.failing = next, false
	if err := p.r.step("commit"); err != nil {
		p.abandon(&endedError{err})
	}
	return true
}

// last commits what is finished when the assignment ends.
func (p *partition) last() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.work), time.Second)
	defer cancel()
	state := commitState{}
	p.commit(ctx, &state, true)
}

// watch shows the lag and makes this process leave the group when the partition has
// stood still for too long.
func (p *partition) watch() {
	p.mu.Lock()
	if p.water == nil {
		p.mu.Unlock()
		return
	}
	next, oldest, still := p.water.Next(), p.oldest(), time.Duration(0)
	if p.records > len(p.held) {
		still = time.Since(p.progress)
	}
	p.mu.Unlock()
	p.src.Progress(next, oldest)
	if still > p.r.cfg.StallTimeout {
		p.stop() // what waits for the store would use the whole drain
		p.r.stall()
	}
}
