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

// Logged says whether text is in the last lines of the engines' logs.
func (s *Stack) Logged(text string) bool {
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	for _, line := range s.logs.lines {
		if bytes.Contains(line, []byte(text)) {
			return true
		}
	}
	return false
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
