// Package ports gives tests and benches addresses that stay free until they are used.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The range lies below the one that systems take the local ports of outgoing
// connections from (32768 and up on Linux, 49152 on macOS): a port that was found free
// there may be somebody's end of a connection by the time a server listens, or listens
// again after a restart. The ports of scripts/services are below it.
const (
	first = 20_000
	last  = 32_000
)

// Find is a loopback address on which nobody listens just now.
func Find() (string, error) {
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first)))
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("no free port from %d to %d", first, last)
}

// Row is the first of so many loopback ports in a row on which nobody listens just now.
func Row(count int) (int, error) {
next:
	for range 1000 {
		from := first + rand.IntN(last-first-count)
		for port := from; port < from+count; port++ {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				continue next
			}
			if err := l.Close(); err != nil {
				return 0, err
			}
		}
		return from, nil
	}
	return 0, fmt.Errorf("no %d free ports in a row from %d to %d", count, first, last)
}

// Free is Find for a test, which fails where there is none.
func Free(t testing.TB) string {
	t.Helper()
	addr, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
