package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// About is where and on what a run was made.
type About struct {
	At         string            `json:"at"`
	Commit     string            `json:"commit"`
	CPU        string            `json:"cpu"`
	Cores      int               `json:"cores"`
	MemoryGB   int               `json:"memory_gb"`
	Kernel     string            `json:"kernel"`
	Load       string            `json:"load_before"` // one, five, fifteen minutes
	Versions   map[string]string `json:"versions"`
	Durability map[string]string `json:"durability"`
	Processes  map[string]int    `json:"processes"` // of each role
}

func (b *bench) about(ctx context.Context) About {
	a := About{
		At: time.Now().UTC().Format(time.RFC3339), Cores: runtime.NumCPU(),
		Commit: commit(ctx), Processes: make(map[string]int),
		Versions: map[string]string{"go": runtime.Version()},
	}
	a.CPU = field("/proc/cpuinfo", "model name")
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		a.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	kb, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	if n, err := strconv.Atoi(kb); err == nil {
		a.MemoryGB = n >> 20
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		a.Kernel = strings.TrimSpace(string(release))
	}
	for store, version := range b.engine.stores.versions(ctx) {
		a.Versions[store] = version
	}
	a.Durability = b.engine.stores.durability(ctx)
	for _, p := range b.engine.processes() {
		a.Processes[p.role]++
	}
	return a
}

// field is the first value of a "name : value" file.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (a About) print(w io.Writer) {
	fmt.Fprintf(w, "%s, commit %s\n%s, %d cores, %d GB, Linux %s; load before %s\n", a.At, a.Commit, a.CPU, a.Cores, a.MemoryGB, a.Kernel, a.Load)
	for _, m := range []struct {
		name   string
		values map[string]string
	}{{"versions", a.Versions}, {"durability", a.Durability}} {
		fmt.Fprintf(w, "%s:", m.name)
		for _, k := range byName(m.values) {
			fmt.Fprintf(w, " %s %s;", k, m.values[k])
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "processes:")
	for _, role := range byName(a.Processes) {
		fmt.Fprintf(w, " %d %s", a.Processes[role], role)
	}
	fmt.Fprintln(w)
}

// commit is what is checked out, with a plus where files differ from it.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty=+").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
