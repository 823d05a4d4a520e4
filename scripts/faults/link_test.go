package main

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/curlew-im/curlew/scripts/devtest"
)

// echo answers each connection with what it says, and "end" when it has said all.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := io.Copy(c, c); err == nil {
					_, _ = io.WriteString(c, "end") // nobody may be listening
				}
			}()
		}
	}()
	return l.Addr().String()
}

func dialLink(t *testing.T) (*link, net.Conn) {
	t.Helper()
	k, err := newLink(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", k.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); k.close() })
	say(t, c, "hello")
	return k, c
}

func say(t *testing.T, c net.Conn, s string) {
	t.Helper()
	b := make([]byte, len(s))
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil || string(b) != s {
		t.Fatalf("said %q, heard %q, %v", s, b, err)
	}
}

func TestLink_CutResetsOldAndNew(t *testing.T) {
	k, c := dialLink(t)
	k.cut()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an old connection: %v", err)
	}
	if d, err := net.Dial("tcp", k.addr()); err == nil { // it may be reset before it is made
		defer d.Close()
		if _, err := d.Read(make([]byte, 1)); err == nil {
			t.Error("a new connection is carried")
		}
	}
	k.heal()
	d, err := net.Dial("tcp", k.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	say(t, d, "again")
}

func TestLink_FreezeHoldsUpAndLosesNothing(t *testing.T) {
	k, c := dialLink(t)
	k.freeze()
	heard := make(chan string, 1)
	go func() {
		b := make([]byte, 5)
		_, _ = io.ReadFull(c, b) // what was heard tells
		heard <- string(b)
	}()
	if _, err := io.WriteString(c, "there"); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-heard:
		t.Errorf("heard %q through a frozen link", s)
	default:
	}
	k.heal()
	if s := <-heard; s != "there" {
		t.Errorf("heard %q", s)
	}
}

func TestLink_HalveEndsOneDirection(t *testing.T) {
	k, c := dialLink(t)
	k.halve()
	b, err := io.ReadAll(c)
	if err != nil || string(b) != "end" {
		t.Errorf("heard %q, %v", b, err)
	}
	c.Close()
	devtest.Eventually(t, "the connection is forgotten", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.conns) == 0
	})
}

func TestLink_RetargetResetsWhatThereIsAndGoesElsewhere(t *testing.T) {
	k, c := dialLink(t)
	k.retarget(echo(t))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("a connection to the old target: %v", err)
	}
	again, err := net.Dial("tcp", k.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	say(t, again, "elsewhere")
}
