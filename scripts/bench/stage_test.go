package main

import (
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// A change at second 10, as samples tell of it: the rate falls to nothing for two seconds,
// and a newcomer has its half two seconds later.
func TestStage_WhenTheShareAndTheRateAreThere(t *testing.T) {
	old, newcomer := new(node), new(node)
	all := []*node{old, newcomer}
	epoch := time.Unix(0, 0)
	var samples []sample
	var received int64
	done := map[*node]float64{}
	for second := range 30 {
		switch {
		case second > 13:
			received, done[old], done[newcomer] = received+100, done[old]+50, done[newcomer]+50
		case second <= 10 || second > 12:
			received, done[old] = received+100, done[old]+100
		}
		samples = append(samples, sample{at: epoch.Add(time.Duration(second) * time.Second), received: received, records: map[*node]float64{old: done[old], newcomer: done[newcomer]}})
	}
	since, until := epoch.Add(10*time.Second), epoch.Add(16*time.Second)
	if got := toShare(samples, since, all, 1, 0.5, func(s sample) map[*node]float64 { return s.records }); got == nil || *got != 4 {
		t.Errorf("its share after %v", got)
	}
	if got := toShare(samples[:14], since, all, 1, 0.5, func(s sample) map[*node]float64 { return s.records }); got != nil {
		t.Errorf("its share after %v, and it has none", *got)
	}
	if got := toRate(samples, since, until, 100); got != 3 {
		t.Errorf("the rate after %v", got)
	}
	if got := toRate(samples, since.Add(6*time.Second), until, 100); got != 0 {
		t.Errorf("the rate after %v, and it was never below", got)
	}
	if got := shares(all, samples[10].records, samples[15].records); !slices.Equal(got, []float64{2. / 3, 1. / 3}) {
		t.Errorf("shares %v", got)
	}
}

// New connections go where the fewest are, and elsewhere where one is not there; what is
// open stays until it is cut.
func TestBalancer_LeastConnections(t *testing.T) {
	serve := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for nc, err := l.Accept(); err == nil; nc, err = l.Accept() {
				go func() { _, _ = io.Copy(nc, nc); nc.Close() }()
			}
		}()
		t.Cleanup(func() { l.Close() })
		return l
	}
	b, err := balance()
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	var clients []net.Conn
	dial := func(n int) {
		t.Helper()
		for range n {
			nc, err := net.Dial("tcp", b.address())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { nc.Close() })
			var echo [1]byte
			if _, err := nc.Write([]byte("x")); err == nil {
				_, err = io.ReadFull(nc, echo[:])
			}
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, nc)
		}
	}
	first, second := serve(), serve()
	b.add(first.Addr().String())
	dial(6)
	b.add(second.Addr().String())
	if n := b.connections()[first.Addr().String()]; n != 6 {
		t.Errorf("%d of 6 stay", n)
	}
	dial(4)
	if n := b.connections(); n[first.Addr().String()] != 6 || n[second.Addr().String()] != 4 {
		t.Errorf("%v, not 6 and 4", n)
	}
	second.Close()
	dial(2)
	if n := b.connections(); n[first.Addr().String()] != 8 || n[second.Addr().String()] != 4 {
		t.Errorf("%v, not 8 and 4", n)
	}
	b.cut(5)
	ended := 0
	for _, nc := range clients { // seven answer, five have ended
		var echo [1]byte
		if _, err := nc.Write([]byte("x")); err == nil {
			_, err = io.ReadFull(nc, echo[:])
			if err == nil {
				continue
			}
		}
		ended++
	}
	if ended != 5 {
		t.Errorf("%d of 5 were cut", ended)
	}
}
