// Package joint makes one call to a store of what several ask of it at the same time.
package joint

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Call is one kind of call to a store. It leaves at once while few are on their way; what
// is asked meanwhile leaves together when one of them has come back. So who is alone waits
// for nothing, and in a crowd a statement or a round trip is shared: that is where the
// cost of small ones is.
type Call[In, Out any] struct {
	// Flights is how many are on their way at most.
	Flights int
	// Room is what one takes, of Weigh; what is larger goes alone.
	Room  int
	Weigh func(In) int
	// Timeout bounds one.
	Timeout time.Duration
	Join    func([]In) In
	Make    func(context.Context, In) (Out, error)
	// Alone says that an error may be the fault of one of several, which are then called
	// for one by one; nil: it is everybody's.
	Alone func(error) bool

	mu      sync.Mutex // guards what follows
	flying  int
	waiting []*request[In, Out] // bounded by the callers: each has one at most
}

// request is one caller's part.
type request[In, Out any] struct {
	in   In
	out  Out
	err  error
	done chan struct{}
	gone bool // its caller no longer waits; guarded by the call's mutex
}

// Do asks and waits; what several share they must not write. Where ctx ends first, what was
// asked has been done, or will never be, or is on its way, as with any call.
func (j *Call[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	a := &request[In, Out]{in: in, done: make(chan struct{})}
	j.mu.Lock()
	j.waiting = append(j.waiting, a)
	if j.flying < j.Flights {
		j.flying++
		go j.fly()
	}
	j.mu.Unlock()
	select {
	case <-a.done:
		return a.out, a.err
	case <-ctx.Done():
	}
	j.mu.Lock()
	a.gone = true
	j.mu.Unlock()
	var none Out
	return none, ctx.Err()
}

// fly makes calls until nobody waits.
func (j *Call[In, Out]) fly() {
	for {
		batch := j.take()
		if len(batch) == 0 {
			return
		}
		j.serve(batch)
	}
}

// take is what the next call is for; the flight has ended where that is nothing.
func (j *Call[In, Out]) take() (batch []*request[In, Out]) {
	j.mu.Lock()
	defer j.mu.Unlock()
	weight := 0
	for len(j.waiting) > 0 {
		a := j.waiting[0]
		if !a.gone {
			if weight += j.Weigh(a.in); weight > j.Room && len(batch) > 0 {
				break
			}
			batch = append(batch, a)
		}
		j.waiting[0] = nil
		j.waiting = j.waiting[1:]
	}
	if len(batch) == 0 {
		j.flying--
	}
	return batch
}

func (j *Call[In, Out]) serve(batch []*request[In, Out]) {
	in := batch[0].in
	if len(batch) > 1 {
		all := make([]In, len(batch))
		for i, a := range batch {
			all[i] = a.in
		}
		in = j.Join(all)
	}
	out, err := j.once(in)
	if err != nil && len(batch) > 1 && j.Alone != nil && j.Alone(err) {
		for _, a := range batch {
			a.out, a.err = j.once(a.in)
			close(a.done)
		}
		return
	}
	for _, a := range batch {
		a.out, a.err = out, err
		close(a.done)
	}
}

// once is under no caller's context: the others would suffer for its end. What panics is
// an error here as it is in a strand.
func (j *Call[In, Out]) once(in In) (out Out, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), j.Timeout)
	defer cancel()
	return j.Make(ctx, in)
}
