package logic

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestLazyDeadline_EndsAsAContextWithATimerDoes(t *testing.T) {
	type ending struct {
		name string
		want error
		end  func(parent, cancel context.CancelFunc)
	}
	endings := []ending{
		{"still there", nil, func(context.CancelFunc, context.CancelFunc) {}},
		{"its time is over", context.DeadlineExceeded, func(context.CancelFunc, context.CancelFunc) { time.Sleep(2 * time.Second) }},
		{"cancelled", context.Canceled, func(_, cancel context.CancelFunc) { cancel() }},
		{"its parent is", context.Canceled, func(parent, _ context.CancelFunc) { parent() }},
	}
	for _, e := range endings {
		for _, waited := range []string{"nobody waits", "somebody waits", "somebody waits afterwards"} {
			t.Run(e.name+", "+waited, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, stop := context.WithCancel(t.Context())
					defer stop()
					ctx, cancel := withTimeout(parent, time.Second)
					defer cancel()
					if waited == "somebody waits" {
						ctx.Done()
					}
					e.end(stop, cancel)
					synctest.Wait()
					if waited == "somebody waits afterwards" {
						ctx.Done()
					}
					if err := ctx.Err(); !errors.Is(err, e.want) {
						t.Fatalf("%v, want %v", err, e.want)
					}
					if waited == "nobody waits" {
						return
					}
					select {
					case <-ctx.Done():
						if e.want == nil {
							t.Fatal("ended")
						}
					default:
						if e.want != nil {
							t.Fatal("not ended")
						}
					}
				})
			})
		}
	}
}

func TestLazyDeadline_IsTheSoonerOfTwoAndBindsItsChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		ctx, cancel := withTimeout(parent, time.Minute)
		defer cancel()
		want, _ := parent.Deadline()
		if at, ok := ctx.Deadline(); !ok || !at.Equal(want) {
			t.Fatalf("%v", at)
		}
		before := runtime.NumGoroutine()
		child, end := context.WithCancel(ctx)
		defer end()
		if n := runtime.NumGoroutine(); n != before {
			t.Fatalf("%d goroutines, were %d", n, before)
		}
		<-child.Done()
		if !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Fatal(child.Err())
		}
	})
}
