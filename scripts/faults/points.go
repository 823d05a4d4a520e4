package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// points are places between two effects at which a process of the engine can be made to
// end. The engine is built once more, and looks at each of them whether a file, one of each
// process, names it: then it kills itself there and then.
type points struct {
	binary string
	dir    string // of the files
}

const (
	// pointVariable names the file.
	pointVariable = "CURLEW_FAULTS_POINT"
	// passedSuffix is what the file is called besides once the process ends by it.
	passedSuffix = ".passed"
)

// passSource is what package queue has more; jobs imports it.
const passSource = `package queue

import (
	"os"
	"syscall"
)

var faultsFile = os.Getenv("` + pointVariable + `")

func FaultsPass(point string) {
	if faultsFile == "" {
		return
	}
	b, err := os.ReadFile(faultsFile)
	if err == nil && string(b) == point && os.Rename(faultsFile, faultsFile+"` + passedSuffix + `") == nil {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
`

// pointEdits are where the engine passes a point: in which file, at which text, and what
// stands there then.
var pointEdits = []struct{ file, text, with string }{
	// A step of a batch, each after it was taken: insert, change, project, publish; moves, when
	// cursors are in MySQL; commit.
	{"jobs/runner.go", "\tif r.deps.Steps == nil {\n", "\tqueue.FaultsPass(name)\n\tif r.deps.Steps == nil {\n"},
	// The log has what was sent, and nobody has been told.
	{"jobs/queue/produce.go", "\tresults, err := p.c.produce(ctx, p.topic, batches, time.Until(deadline))\n",
		"\tresults, err := p.c.produce(ctx, p.topic, batches, time.Until(deadline))\n" +
			"\tfor _, refused := range results {\n\t\tif refused == nil {\n\t\t\tFaultsPass(\"produce\")\n\t\t}\n\t}\n"},
}

// withPoints is the engine's files that differ, by path.
func withPoints(root string) (map[string][]byte, error) {
	files := map[string][]byte{filepath.Join(root, "jobs", "queue", "faults_pass.go"): []byte(passSource)}
	for _, e := range pointEdits {
		path := filepath.Join(root, filepath.FromSlash(e.file))
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if n := bytes.Count(source, []byte(e.text)); n != 1 {
			return nil, fmt.Errorf("%s has this %d times, not once:\n%s", e.file, n, e.text)
		}
		files[path] = bytes.Replace(source, []byte(e.text), []byte(e.with), 1)
	}
	return files, nil
}

// pointed has all processes run with points; see fault.engine.
func (c *cluster) pointed(ctx context.Context) (back func(context.Context) error, err error) {
	root, err := projectRoot()
	if err != nil {
		return nil, err
	}
	files, err := withPoints(root)
	if err != nil {
		return nil, err
	}
	k := &points{dir: filepath.Join(c.dir, "points")}
	if k.binary, err = buildOver(ctx, root, k.dir, files); err != nil {
		return nil, err
	}
	usual := c.binary
	c.points = k
	return func(ctx context.Context) error { c.points = nil; return c.over(ctx, usual) }, c.over(ctx, k.binary)
}

// environment is what a process is told; nothing where it has no points.
func (k *points) environment(p *process) []string {
	if k == nil {
		return nil
	}
	return []string{pointVariable + "=" + k.file(p)}
}

func (k *points) file(p *process) string { return filepath.Join(k.dir, p.name+".point") }

// arm has a process end at a point.
func (k *points) arm(p *process, point string) error {
	whole := k.file(p) + ".new"
	return errors.Join(os.WriteFile(whole, []byte(point), 0o600), os.Rename(whole, k.file(p)))
}

// disarm says whether a process ended at the point that it was armed for.
func (k *points) disarm(p *process) (passed bool, err error) {
	for _, f := range []string{k.file(p), k.file(p) + passedSuffix} {
		switch err := os.Remove(f); {
		case err == nil:
			passed = f != k.file(p)
		case !errors.Is(err, os.ErrNotExist):
			return false, err
		}
	}
	return passed, nil
}
