package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// process is one whose costs are counted.
type process struct {
	role string // connector, logic, jobs, api, redis, mysql, kafka, generator
	pid  int
}

// usage is what a process has used so far.
type usage struct {
	cpu      time.Duration
	syscalls int64 // reads and writes of any kind of descriptor
	bytes    int64 // read and written, to files and sockets
	rss      int64 // bytes, now
}

// use reads /proc. A process that has ended has used nothing since.
func (p process) use() (u usage, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(p.pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, err
	}
	// The name, in parentheses, may hold spaces.
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(f) < 22 {
		return u, fmt.Errorf("%s/stat has %d fields", dir, len(f))
	}
	ticks := func(s string) time.Duration {
		n, _ := strconv.ParseInt(s, 10, 64) // the kernel's own
		return time.Duration(n) * (time.Second / 100)
	}
	u.cpu = ticks(f[11]) + ticks(f[12])
	pages, _ := strconv.ParseInt(f[21], 10, 64)
	u.rss = pages * int64(os.Getpagesize())
	io, err := os.ReadFile(filepath.Join(dir, "io"))
	for line := range strings.Lines(string(io)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, _ := strconv.ParseInt(value, 10, 64)
		switch name {
		case "syscr", "syscw":
			u.syscalls += n
		case "rchar", "wchar":
			u.bytes += n
		}
	}
	return u, err
}

// costs is a snapshot of all counters of a bench.
type costs struct {
	at       time.Time
	use      map[string]usage // by role, summed
	cpu      map[process]time.Duration
	counters map[string]float64
}

// costsNow takes one. What cannot be read is left out, and shows as 0.
func (b *bench) costsNow(ctx context.Context) costs {
	c := costs{at: time.Now(), use: make(map[string]usage), cpu: make(map[process]time.Duration), counters: make(map[string]float64)}
	for _, p := range b.engine.processes() {
		u, err := p.use()
		if err != nil {
			continue
		}
		c.cpu[p] = u.cpu
		sum := c.use[p.role]
		sum.cpu += u.cpu
		sum.syscalls += u.syscalls
		sum.bytes += u.bytes
		sum.rss += u.rss
		c.use[p.role] = sum
	}
	for _, addr := range b.engine.admins() {
		scrape(ctx, addr, c.counters)
	}
	for name, n := range b.engine.stores.counters(ctx) {
		c.counters[name] += n
	}
	return c
}

// scraped are the metrics that are kept, summed over labels and processes.
var scraped = []string{
	"curlew_jobs_batch_records_sum", "curlew_jobs_batch_records_count",
	"curlew_queue_produce_records_sum", "curlew_queue_produce_records_count",
	"curlew_queue_fetched_total", "curlew_connector_messages_total", "curlew_connector_connections",
}

// scrape adds a process's metrics to sums.
func scrape(ctx context.Context, addr string, sums map[string]float64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		line := lines.Text()
		for _, name := range scraped {
			if rest, ok := strings.CutPrefix(line, name); ok && (strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "{")) {
				n, _ := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
				sums[name] += n
			}
		}
	}
}

// Costs is what a run cost, per message or per delivery as its scenario says.
type Costs struct {
	// CPU is µs for each of the units, by role; Server is over all but the generator.
	CPU       map[string]float64 `json:"cpu_us"`
	ServerCPU float64            `json:"server_cpu_us"`
	// Least is the share of the least busy process of a role that has several, of an even
	// one: 1 where they share evenly.
	Least    map[string]float64 `json:"least_of_even,omitempty"`
	Syscalls map[string]float64 `json:"syscalls"`
	// Bytes are read and written, to files and sockets; of the database what it counts
	// itself, to sockets and its log, as it receives by a call that the kernel leaves out.
	Bytes      map[string]float64 `json:"bytes"`
	RSS        map[string]int64   `json:"rss_bytes"` // at the end
	Publishes  float64            `json:"redis_publishes"`
	Commands   float64            `json:"redis_commands"`
	Statements float64            `json:"mysql_statements"`
	Fsyncs     float64            `json:"mysql_fsyncs"`
	Batch      float64            `json:"records_per_batch"`   // of a strand
	Request    float64            `json:"records_per_request"` // of a producer
}

// between is the costs from one snapshot to another for each of units.
func between(from, to costs, units int64) Costs {
	c := Costs{CPU: make(map[string]float64), Syscalls: make(map[string]float64), Bytes: make(map[string]float64), RSS: make(map[string]int64)}
	n := float64(max(units, 1))
	for role, u := range to.use {
		us := float64((u.cpu - from.use[role].cpu).Microseconds()) / n
		c.CPU[role] = us
		if role != "generator" {
			c.ServerCPU += us
		}
		c.Syscalls[role] = float64(u.syscalls-from.use[role].syscalls) / n
		c.Bytes[role] = float64(u.bytes-from.use[role].bytes) / n
		c.RSS[role] = u.rss
	}
	c.Least = least(from, to)
	d := func(name string) float64 { return to.counters[name] - from.counters[name] }
	ratio := func(name string) float64 {
		if count := d(name + "_count"); count > 0 {
			return d(name+"_sum") / count
		}
		return 0
	}
	c.Publishes, c.Commands = d("redis_publish")/n, d("redis_commands")/n
	c.Bytes["mysql"] = d("mysql_bytes") / n
	c.Statements, c.Fsyncs = d("mysql_statements")/n, d("mysql_fsyncs")/n
	c.Batch, c.Request = ratio("curlew_jobs_batch_records"), ratio("curlew_queue_produce_records")
	return c
}

// least is Costs.Least, by what CPU the processes took.
func least(from, to costs) map[string]float64 {
	spent := make(map[string][]time.Duration)
	for p, cpu := range to.cpu {
		spent[p.role] = append(spent[p.role], cpu-from.cpu[p])
	}
	shares := make(map[string]float64)
	for role, all := range spent {
		var sum time.Duration
		for _, cpu := range all {
			sum += cpu
		}
		if len(all) > 1 && sum > 0 {
			shares[role] = float64(slices.Min(all)) * float64(len(all)) / float64(sum)
		}
	}
	return shares
}
