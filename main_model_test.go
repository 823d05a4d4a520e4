package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// People do what comes to their minds, and at every quiet moment each of them sees
// exactly what a plain model says, whichever way the engine keeps it: the same steps are
// played on an engine that writes members' lists and on one that merges them at read.
func TestModel_EveryoneSeesWhatTheModelSays(t *testing.T) {
	t.Parallel()
	runs := budget(t)
	modes := make(map[string]*mode)
	for name, above := range map[string]int{"written": 0, "merged": -1} {
		s := devtest.Start(t)
		modes[name] = &mode{stack: s, e: startEngine(t, s, lenient, func(c *configs.Config) { c.Jobs.MergeAbove = above })}
	}
	cases, steps := 0, 0
	t.Cleanup(func() { t.Logf("%d cases with %d steps, each in both modes", cases, steps) })
	failing := false
	rapid.Check(t, func(rt *rapid.T) {
		if !failing && !runs() {
			return
		}
		// Some cases at once, each with users of its own: most of a case's time is waiting.
		all := rapid.SliceOfN(rapid.Custom(drawCase), 1, 5).Draw(rt, "cases")
		patience := 30 * time.Second
		if failing { // and is being made smaller
			patience = 6 * time.Second
		}
		var mu sync.Mutex
		var why []string
		var wg sync.WaitGroup
		for i, c := range all {
			cases, steps = cases+1, steps+len(c.Steps)
			for name, md := range modes {
				wg.Go(func() {
					if w := md.play(c, patience); w != "" {
						mu.Lock()
						defer mu.Unlock()
						why = append(why, fmt.Sprintf("case %d of %d, %s: %s", i, len(all), name, w))
					}
				})
			}
		}
		wg.Wait()
		if len(why) > 0 {
			failing = true
			rt.Errorf("%s", strings.Join(why, "\n"))
		}
	})
}

// drama is a case: how many users, and what they do.
type drama struct {
	Users int
	Steps []step
}

func drawCase(t *rapid.T) drama {
	return drama{rapid.IntRange(2, 4).Draw(t, "users"), rapid.SliceOfN(rapid.Custom(drawStep), 30, 90).Draw(t, "steps")}
}

// mode is an engine and the way it keeps channels.
type mode struct {
	e     *engine
	stack *devtest.Stack

	mu      sync.Mutex // guards flushed
	flushed time.Time
}

func (md *mode) flush() {
	md.mu.Lock()
	defer md.mu.Unlock()
	md.stack.Redis.Flush()
	md.flushed = time.Now()
}

// shaken says that Redis was emptied not long ago.
func (md *mode) shaken() bool {
	md.mu.Lock()
	defer md.mu.Unlock()
	return time.Since(md.flushed) < 10*time.Second
}

func lenient(c *configs.Config) {
	c.Logic.RecallWithin, c.Logic.EditWithin = time.Hour, time.Hour
	c.Logic.GroupsPerMinute, c.Logic.GroupJoinsPerMinute, c.Logic.GroupChangesPerMinute = 1000, 1000, 1000
}

// play plays a case; it answers with what was wrong.
func (md *mode) play(c drama, patience time.Duration) (why string) {
	g := &play{mode: md, w: newWorld(), deadEnd: patience}
	at := -1
	defer g.leave()
	defer func() {
		switch f := recover().(type) {
		case nil:
		case failed:
			if at < len(c.Steps) {
				why = fmt.Sprintf("at step %d, %v: %s", at, c.Steps[max(at, 0)], f.why)
			} else {
				why = "at the end: " + f.why
			}
		default:
			panic(f)
		}
	}()
	g.enter(c.Users)
	for i, s := range c.Steps {
		at = i
		g.do(s)
	}
	at = len(c.Steps)
	g.quiet()
	return ""
}

// deeds are what a step may be, as often as it comes up. What does not matter to a failure
// becomes rest.
var deeds = strings.Fields(`
rest
say say say say say say reply mention mention talk talk read read read ack ack
recall edit edit react react react unreact delete clear settings settings settings
connect connect connect drop drop quiet
group group group invite invite invite kick kick quit promote promote mute update update join join decide
storm storm channel channel channel rename close admit admit expel transfer dissolve
`)

func drawStep(t *rapid.T) step {
	if even(t, "fate", 400) == 399 {
		return step{Do: "flush"}
	}
	deed := deeds[even(t, "deed", len(deeds))]
	if deed == "rest" {
		return step{Do: deed}
	}
	return step{deed, even(t, "who", 4), even(t, "where", 60), even(t, "what", 60)}
}

// even draws any of n numbers as often as another, which rapid's own do not.
func even(t *rapid.T, label string, n int) (drawn int) {
	bit := rapid.Bool()
	for range 10 {
		drawn *= 2
		if bit.Draw(t, label) {
			drawn++
		}
	}
	return drawn % n
}

// budget lets cases run for as long as the suite has time for them, 15 s, or as many as
// -rapid.checks or RAPID_CHECKS says.
func budget(t *testing.T) (runs func() bool) {
	t.Helper()
	must(t, flag.Set("rapid.nofailfile", "true")) // the trace says it all
	checks := flag.Lookup("rapid.checks")
	if _, set := os.LookupEnv("RAPID_CHECKS"); set || checks.Value.String() != checks.DefValue {
		return func() bool { return true }
	}
	must(t, flag.Set("rapid.checks", "100000"))
	t.Cleanup(func() { _ = flag.Set("rapid.checks", checks.DefValue) })
	end := time.Now().Add(15 * time.Second)
	return func() bool { return time.Now().Before(end) }
}
