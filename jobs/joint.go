package jobs

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// joint makes one call to a store of what strands ask of it at the same time. A call
// leaves at once while few are on their way; what is asked meanwhile leaves together when
// one of them has come back. So a lone batch waits for nothing, and in a crowd a
// statement or a round trip is shared: that is where the cost of small batches is.
type joint[In, Out any] struct {
	flights int           // calls on their way at most
	room    int           // what one call takes of weigh; one that is larger goes alone
	timeout time.Duration // of one call
	weigh   func(In) int
	join    func([]In) In
	call    func(context.Context, In) (Out, error)
	// alone says that an error may be the fault of one of several, which are then called
	// for one by one; nil: it is everybody's.
	alone func(error) bool

	mu      sync.Mutex // guards what follows
	flying  int
	waiting []*request[In, Out] // bounded by the strands: each has one at most
}

// request is one caller's part.
type request[In, Out any] struct {
	in   In
	out  Out
	err  error
	done chan struct{}
	gone bool // its caller no longer waits; guarded by the joint's mutex
}

// do asks and waits. Where ctx ends first, what was asked has been done, or will never be,
// or is on its way, as with any call.
func (j *joint[In, Out]) do(ctx context.Context, in In) (Out, error) {
	a := &request[In, Out]{in: in, done: make(chan struct{})}
	j.mu.Lock()
	j.waiting = append(j.waiting, a)
	if j.flying < j.flights {
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
func (j *joint[In, Out]) fly() {
	for {
		batch := j.take()
		if len(batch) == 0 {
			return
		}
		j.serve(batch)
	}
}

// take is what the next call is for; the flight has ended where that is nothing.
func (j *joint[In, Out]) take() (batch []*request[In, Out]) {
	j.mu.Lock()
	defer j.mu.Unlock()
	weight := 0
	for len(j.waiting) > 0 {
		a := j.waiting[0]
		if !a.gone {
			if weight += j.weigh(a.in); weight > j.room && len(batch) > 0 {
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

func (j *joint[In, Out]) serve(batch []*request[In, Out]) {
	in := batch[0].in
	if len(batch) > 1 {
		all := make([]In, len(batch))
		for i, a := range batch {
			all[i] = a.in
		}
		in = j.join(all)
	}
	out, err := j.once(in)
	if err != nil && len(batch) > 1 && j.alone != nil && j.alone(err) {
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
func (j *joint[In, Out]) once(in In) (out Out, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), j.timeout)
	defer cancel()
	return j.call(ctx, in)
}
