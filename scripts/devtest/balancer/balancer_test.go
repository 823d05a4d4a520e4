package balancer

import (
	"io"
	"net"
	"testing"
)

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
	b, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var clients []net.Conn
	dial := func(n int) {
		t.Helper()
		for range n {
			nc, err := net.Dial("tcp", b.Addr())
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
	b.Add(first.Addr().String())
	dial(6)
	b.Add(second.Addr().String())
	if n := b.Connections()[first.Addr().String()]; n != 6 {
		t.Errorf("%d of 6 stay", n)
	}
	dial(4)
	if n := b.Connections(); n[first.Addr().String()] != 6 || n[second.Addr().String()] != 4 {
		t.Errorf("%v, not 6 and 4", n)
	}
	second.Close()
	dial(2)
	if n := b.Connections(); n[first.Addr().String()] != 8 || n[second.Addr().String()] != 4 {
		t.Errorf("%v, not 8 and 4", n)
	}
	b.Cut(5)
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
