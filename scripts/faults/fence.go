package main

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// fenced is how long after a removal has returned the removed may still be heard, and
// fencedLong the same while MySQL does not answer (DESIGN.md, contract 9).
const (
	fenced     = 2 * time.Second
	fencedLong = 60 * time.Second
)

// staleCopies counts the answers from copies of memberships that are older than fenced,
// since MySQL did not answer.
const staleCopies = "curlew_logic_stale_copies_total"

// fences are the counts of stale copies by process, as they stand.
func (c *cluster) fences(ctx context.Context) map[string]float64 {
	counts := make(map[string]float64)
	for _, p := range c.of("logic", "api") {
		counts[p.name] = p.counter(ctx, staleCopies)
	}
	return counts
}

// fence is the one that holds since before. On a busy machine MySQL may be late also where
// nothing was done to it; the engine says whether it has made use of that.
func (c *cluster) fence(ctx context.Context, before map[string]float64) time.Duration {
	for name, n := range c.fences(ctx) {
		if n != 0 && n != before[name] {
			return fencedLong
		}
	}
	return fenced
}

// counter reads one counter of a process; 0 where it does not answer.
func (p *process) counter(ctx context.Context, name string) float64 {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/metrics", nil)
	if err != nil {
		return 0
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, _ := strconv.ParseFloat(value, 64) // 0 where it is none
			return n
		}
	}
	return 0
}
