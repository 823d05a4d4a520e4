package joint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// calls stands for a store that a joint calls: it notes what it is given, and waits until
// it is let go on.
type calls struct {
	mu    sync.Mutex
	given [][]int
	fail  func([]int) error
	gate  chan struct{} // nil: it does not wait
}

func (c *calls) call(ctx context.Context, in []int) (int, error) {
	c.mu.Lock()
	c.given = append(c.given, slices.Clone(in))
	fail := c.fail
	c.mu.Unlock()
	if c.gate != nil {
		select {
		case <-c.gate:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if fail != nil {
		if err := fail(in); err != nil {
			return 0, err
		}
	}
	return len(in), nil
}

func (c *calls) joint(flights, room int) *Call[[]int, int] {
	return &Call[[]int, int]{
		Flights: flights, Room: room, Timeout: time.Second,
		Weigh: func(in []int) int { return len(in) }, Join: func(all [][]int) []int { return slices.Concat(all...) }, Make: c.call,
	}
}

func TestCall_WhatIsAskedMeanwhileLeavesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &calls{gate: make(chan struct{})}
		j := c.joint(1, 4)
		var asked sync.WaitGroup
		ask := func(in ...int) {
			asked.Go(func() {
				if _, err := j.Do(t.Context(), in); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		ask(1) // leaves at once, alone
		ask(2)
		ask(3, 3)
		ask(4, 4) // one too many for the second call
		ask(5, 5, 5, 5, 5)
		for range 4 {
			c.gate <- struct{}{}
		}
		asked.Wait()
		synctest.Wait()
		if got := fmt.Sprint(c.given); got != "[[1] [2 3 3] [4 4] [5 5 5 5 5]]" {
			t.Error(got)
		}
		if j.flying != 0 || len(j.waiting) != 0 {
			t.Errorf("%d flying, %d waiting", j.flying, len(j.waiting))
		}
	})
}

func TestCall_SeveralFlightsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &calls{gate: make(chan struct{})}
		j := c.joint(2, 100)
		var asked sync.WaitGroup
		for i := range 6 {
			asked.Go(func() { _, _ = j.Do(t.Context(), []int{i}) })
			synctest.Wait()
		}
		if got := fmt.Sprint(c.given); got != "[[0] [1]]" {
			t.Error(got)
		}
		close(c.gate)
		asked.Wait()
		if got := len(c.given); got > 4 {
			t.Errorf("%d calls for four that waited: %v", got-2, c.given)
		}
	})
}

// One that cannot be done must not keep back those that it shared a call with; where
// nobody knows what was done, nobody is told that it was.
func TestCall_AnErrorIsOnlyTheirsWhoseFaultItMayBe(t *testing.T) {
	bad, lost := errors.New("bad"), errors.New("lost")
	for _, fault := range []error{bad, lost} {
		synctest.Test(t, func(t *testing.T) {
			c := &calls{gate: make(chan struct{}), fail: func(in []int) error {
				if slices.Contains(in, 3) {
					return fault
				}
				return nil
			}}
			j := c.joint(1, 100)
			j.Alone = func(err error) bool { return errors.Is(err, bad) }
			errs := make([]error, 5)
			var asked sync.WaitGroup
			for i := range errs {
				asked.Go(func() { _, errs[i] = j.Do(t.Context(), []int{i}) })
				synctest.Wait()
			}
			close(c.gate)
			asked.Wait()
			for i, err := range errs {
				if want := i == 3 || i > 0 && fault == lost; want != errors.Is(err, fault) {
					t.Errorf("%v: %d got %v", fault, i, err)
				}
			}
		})
	}
}

func TestCall_WhoNoLongerWaitsIsLeftOutAndDoesNotHoldTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &calls{gate: make(chan struct{})}
		j := c.joint(1, 100)
		ctx, leave := context.WithCancel(t.Context())
		var asked sync.WaitGroup
		for i := range 4 {
			asked.Go(func() {
				under := t.Context()
				if i == 0 || i == 2 { // one is on its way, one waits
					under = ctx
				}
				if _, err := j.Do(under, []int{i}); (err != nil) != (under == ctx) {
					t.Errorf("%d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		leave()
		synctest.Wait()
		close(c.gate)
		asked.Wait()
		synctest.Wait()
		if got := fmt.Sprint(c.given); got != "[[0] [1 3]]" {
			t.Error(got)
		}
	})
}

func TestCall_APanicIsAnErrorOfWhoseFaultItMayBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &calls{gate: make(chan struct{}), fail: func(in []int) error {
			if slices.Contains(in, 2) {
				panic("a bug")
			}
			return nil
		}}
		j := c.joint(1, 100)
		j.Alone = func(error) bool { return true }
		var asked sync.WaitGroup
		for i := range 4 {
			asked.Go(func() {
				if _, err := j.Do(t.Context(), []int{i}); (err != nil) != (i == 2) {
					t.Errorf("%d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		close(c.gate)
		asked.Wait()
	})
}

func TestCall_ACallHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &calls{gate: make(chan struct{})} // never let go on
		if _, err := c.joint(1, 100).Do(t.Context(), []int{1}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
