package devtest

import (
	"bytes"
	"sync"
	"testing"
)

// keepLines of all engines of a test are shown where it fails.
const keepLines = 150

// logs is a ring of lines.
type logs struct {
	mu    sync.Mutex
	lines [][]byte
	next  int
}

func newLogs(t testing.TB) *logs {
	l := &logs{}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Logf("the end of the log:\n%s", bytes.Join(append(l.lines[l.next:], l.lines[:l.next]...), nil))
	})
	return l
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := bytes.Clone(b)
	if len(l.lines) < keepLines {
		l.lines = append(l.lines, line)
		return len(b), nil
	}
	l.lines[l.next] = line
	l.next = (l.next + 1) % keepLines
	return len(b), nil
}
