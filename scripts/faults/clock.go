package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// clocks let each process of the engine have a wall clock of its own. Go asks the kernel
// and not libc, so the engine is built once more, with a package time whose Now adds a step
// to the wall clock's reading, and leaves the monotonic one alone: what a clock does that is
// set. The step stands in a file, one of each process, and may change at any moment. Other
// commands of the engine have no step.
type clocks struct {
	binary string
	dir    string // of the files
}

// clockVariable names the file with a process's step: whole seconds, in eight bytes.
const clockVariable = "CURLEW_FAULTS_CLOCK"

const (
	// timeNow is how Now begins in Go's package time, and steppedNow what it becomes.
	timeNow    = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	steppedNow = timeNow + "\tsec += faultsStep()\n"
)

// stepSource is what package time has more. The file is mapped once and then only looked
// at: Now is also called where a timer fires, on a stack on which nothing may be asked of
// the system.
const stepSource = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var faultsClock = faultsMapped()

func faultsMapped() *atomic.Int64 {
	path, ok := syscall.Getenv("` + clockVariable + `")
	if !ok {
		return nil
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic(path + ": " + err.Error())
	}
	defer syscall.Close(fd)
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(path + ": " + err.Error())
	}
	return (*atomic.Int64)(unsafe.Pointer(&b[0]))
}

func faultsStep() int64 {
	if faultsClock == nil {
		return 0
	}
	return faultsClock.Load()
}
`

// stepNow is Go's time.go with a Now that has a step.
func stepNow(source []byte) ([]byte, error) {
	if n := bytes.Count(source, []byte(timeNow)); n != 1 {
		return nil, fmt.Errorf("Go's time.go has this %d times, not once:\n%s", n, timeNow)
	}
	return bytes.Replace(source, []byte(timeNow), []byte(steppedNow), 1), nil
}

// buildClocks builds the engine into dir with the changed package time.
func buildClocks(ctx context.Context, root, dir string) (*clocks, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("GOROOT: %w", err)
	}
	at := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	source, err := os.ReadFile(filepath.Join(at, "time.go"))
	if err != nil {
		return nil, err
	}
	if source, err = stepNow(source); err != nil {
		return nil, err
	}
	k := &clocks{dir: dir}
	k.binary, err = buildOver(ctx, root, dir, map[string][]byte{
		filepath.Join(at, "time.go"): source, filepath.Join(at, "faults_step.go"): []byte(stepSource),
	})
	return k, err
}

// clocked has all processes run with clocks of their own until the returned function is
// called; see fault.engine.
func (c *cluster) clocked(ctx context.Context) (back func(context.Context) error, err error) {
	root, err := projectRoot()
	if err != nil {
		return nil, err
	}
	if c.clocks, err = buildClocks(ctx, root, filepath.Join(c.dir, "clocks")); err != nil {
		return nil, err
	}
	usual := c.binary
	for _, p := range c.procs {
		if err := c.clocks.set(p, 0); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) error { c.clocks = nil; return c.over(ctx, usual) }, c.over(ctx, c.clocks.binary)
}

// environment is what a process is told of its clock; nothing where it has the machine's.
func (k *clocks) environment(p *process) []string {
	if k == nil {
		return nil
	}
	return []string{clockVariable + "=" + k.file(p)}
}

func (k *clocks) file(p *process) string { return filepath.Join(k.dir, p.name+".step") }

// set steps a process's clock to so far from the machine's.
func (k *clocks) set(p *process, step time.Duration) error {
	f, err := os.OpenFile(k.file(p), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(step/time.Second)), 0)
	return errors.Join(err, f.Close())
}

// clockSeen is how far what a process says of the time, in whole seconds, may be from what
// it was set to, and clockShows bounds the wait for it.
const (
	clockSeen  = 2500 * time.Millisecond
	clockShows = 15 * time.Second
)

// shows waits until a process answers with the time that its clock was set to.
func (k *clocks) shows(ctx context.Context, p *process, step time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, clockShows)
	defer cancel()
	for {
		seen, err := p.clock(ctx)
		if err == nil && (seen-step).Abs() <= clockSeen {
			return nil
		}
		if late := pause(ctx, 50*time.Millisecond); late != nil {
			return errors.Join(err, fmt.Errorf("the clock of %s is %s from ours, and was set to %s: %w", p.name, seen, step, late))
		}
	}
}

// clock is how far a process's clock is ahead of ours, by the Date of an answer.
func (p *process) clock(ctx context.Context) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/health", nil)
	if err != nil {
		return 0, err
	}
	res, err := patient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	at, err := http.ParseTime(res.Header.Get("Date"))
	return time.Until(at.Add(500 * time.Millisecond)), err
}
