package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// vigil is many messages scheduled for a stretch of time, and the processes that are
// killed while it lasts.
type vigil struct {
	t      *testing.T
	people []*person
	due    map[im.ClientMsgID]int64
	convs  map[im.ConversationID]int // how many each has
}

// TestSchedule_FiresOnceWhoeverIsKilled has 1,000 messages due while the engine is killed
// ten times (RELIABILITY.md, F27): each is sent once, none before its time, in order. With
// CURLEW_SCHEDULED=100000 on real stores it is that many, over CURLEW_SCHEDULED_FOR (default
// 400s) and two processes, killed in turn.
func TestSchedule_FiresOnceWhoeverIsKilled(t *testing.T) {
	n, stretch, nodes := 1000, 15*time.Second, 1
	if many, err := strconv.Atoi(os.Getenv("CURLEW_SCHEDULED")); err == nil {
		n, stretch = many, 400*time.Second
		if d, err := time.ParseDuration(os.Getenv("CURLEW_SCHEDULED_FOR")); err == nil {
			stretch = d
		}
		nodes = 2
	} else {
		t.Parallel()
	}
	s := devtest.Start(t)
	var all []*child
	for range nodes {
		c := newChild(t, s, ownStores())
		c.start()
		all = append(all, c)
	}
	v := &vigil{t: t, due: map[im.ClientMsgID]int64{}, convs: map[im.ConversationID]int{}}
	names := make([]string, 46) // a thousand pairs
	for i := range names {
		names[i] = fmt.Sprint("person-", i)
	}
	v.people = enrol(t, all[0].http(), all[0].socket(), names...)
	t.Logf("memory before: %s", memory(all))
	start := time.Now()
	v.schedule(all[0].http(), n, start.Add(ahead(n)), stretch)
	t.Logf("%d scheduled in %s, memory with all of them pending: %s", n, time.Since(start).Round(time.Second), memory(all))
	begin := start.Add(ahead(n))
	if time.Now().After(begin) {
		t.Fatalf("scheduling took longer than %s", ahead(n))
	}
	for kill := range 10 {
		at := begin.Add(stretch * time.Duration(2*kill+1) / 20)
		<-time.After(time.Until(at) + time.Duration(rand.Int64N(int64(stretch/40)))) // the moment is chance
		c := all[kill%nodes]
		held := memory(all)
		c.kill()
		c.start()
		t.Logf("kill %d, memory before it: %s", kill+1, held)
	}
	v.check(begin, all[0].http())
	t.Logf("memory after: %s", memory(all))
}

// ahead is how long before the first is due the scheduling begins.
func ahead(n int) time.Duration { return 5*time.Second + time.Duration(n)*4*time.Millisecond }

// schedule spreads n messages over the stretch and over everybody's conversations, on
// behalf of their users.
func (v *vigil) schedule(base string, n int, from time.Time, stretch time.Duration) {
	v.t.Helper()
	var wg sync.WaitGroup
	work := make(chan protocol.ServerSend)
	for range 16 {
		wg.Go(func() {
			for m := range work {
				again(v.t, "schedule", func() error { _, err := serverAPI(base).ServerSend(v.t.Context(), m, false); return err })
			}
		})
	}
	for i := range n {
		a, b := rand.IntN(len(v.people)), rand.IntN(len(v.people)-1)
		if b >= a {
			b++
		}
		m := protocol.ServerSend{Send: textTo(v.people[b].id, fmt.Sprint(i)), From: &v.people[a].id}
		m.DeliverAt = from.Add(time.Duration(rand.Int64N(int64(stretch)))).UnixMilli()
		v.due[m.ClientMsgID] = m.DeliverAt
		v.convs[im.DirectConversation(v.people[a].id, v.people[b].id)]++
		work <- m
	}
	close(work)
	wg.Wait()
}

// check waits until everything has come, and holds it against what was scheduled.
func (v *vigil) check(begin time.Time, base string) {
	v.t.Helper()
	limit := time.Now().Add(10 * time.Minute) // on a busy machine many take their time
	for _, p := range v.people {
		p.http.Base = base
		for _, state := range []im.ScheduleState{im.SchedulePending, im.ScheduleQueued} {
			for ; ; time.Sleep(100 * time.Millisecond) {
				page, err := p.http.Scheduled(v.t.Context(), protocol.AskScheduled{State: state, Limit: 1})
				if err == nil && len(page.Items) == 0 {
					break
				}
				if time.Now().After(limit) {
					v.t.Fatalf("%s still has something %s: %v", p.name, state, err)
				}
			}
		}
	}
	seen := map[im.ClientMsgID]bool{}
	var late []int64
	early, doubled, misordered := 0, 0, 0
	for conv, n := range v.convs {
		all := map[im.Seq]im.Message{}
		devtest.Eventually(v.t, fmt.Sprintf("%d messages have come to %s", n, conv), func() bool {
			low, high, _ := conv.Direct()
			for _, p := range v.people {
				if p.id != low && p.id != high {
					continue
				}
				for _, m := range p.history(conv) {
					if m.ClientMsgID != "" { // to its sender only
						all[m.Seq] = m
					}
				}
			}
			return len(all) >= n
		})
		for seq := im.Seq(1); seq <= im.Seq(len(all)); seq++ {
			m, at := all[seq], v.due[all[seq].ClientMsgID]
			if seen[m.ClientMsgID] {
				doubled++
			}
			seen[m.ClientMsgID] = true
			late = append(late, m.StoredAt-at)
			if m.StoredAt < at {
				early++
			}
			if at < v.due[all[seq-1].ClientMsgID] {
				misordered++
			}
		}
	}
	slices.Sort(late)
	missing := len(v.due) - len(seen)
	if missing+early+doubled+misordered > 0 {
		v.t.Errorf("of %d: %d missing, %d doubled, %d early, %d out of order", len(v.due), missing, doubled, early, misordered)
	}
	if len(late) > 0 {
		v.t.Logf("scheduled=%d fired=%d missing=%d doubled=%d early=%d misordered=%d | late ms p50=%d p90=%d p99=%d max=%d | took %s",
			len(v.due), len(seen), missing, doubled, early, misordered, late[len(late)/2], late[len(late)*9/10], late[len(late)*99/100],
			late[len(late)-1], time.Since(begin).Round(time.Second))
	}
}

// memory is what the processes hold.
func memory(all []*child) string {
	var held []string
	for _, c := range all {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				held = append(held, strings.TrimSpace(rest))
			}
		}
	}
	return strings.Join(held, ", ")
}
