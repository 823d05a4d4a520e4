package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// gcPercent is how much garbage there may be, in percent of what lives, before it is
// collected. What a process of ours keeps is small beside what passes through it: at Go's
// 100, pairs at 10,000 messages a second collect several times a second, for 9 % of the
// CPU time of everything but the broker. GOGC and GOMEMLIMIT, where set, have their way.
const gcPercent = 400

// Once nothing has been collected for idleAfter, garbage and free pages above idleWaste
// bytes go back to the system: who held a crowd weighs again what its connections weigh.
const (
	idleAfter = 10 * time.Second
	idleWaste = 8 << 20
)

// paceCollector sets how often is collected.
func paceCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// giveBack gives to the system what a quiet process does not need, until ctx ends.
func giveBack(ctx context.Context, idleAfter time.Duration) {
	tick := time.NewTicker(idleAfter)
	defer tick.Stop()
	for last := heapNow(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := heapNow()
		if now.cycles == last.cycles && now.waste() > idleWaste {
			debug.FreeOSMemory()
			now = heapNow()
		}
		last = now
	}
}

// heap is what the collector says of itself, bytes.
type heap struct {
	cycles              uint64 // collections so far
	live, objects, free uint64 // found alive by the last one; allocated now; kept from the system
}

// waste is what a collection and the system could have.
func (h heap) waste() uint64 { return h.free + max(h.objects, h.live) - h.live }

func heapNow() heap {
	s := []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	return heap{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64(), s[3].Value.Uint64()}
}
