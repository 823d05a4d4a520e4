package logic

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func TestSend_GuessingNamesIsLimited(t *testing.T) {
	w := newWorld()
	left := 5
	w.take = func(n int) (int, time.Duration) { n = min(n, left); left -= n; return n, time.Second }
	s := w.service(t, Config{})
	limited := 0
	for i := range 20 {
		m := text("abcdefgh", "hello")
		m.To = protocol.To{Handle: fmt.Sprint("guess", i)}
		if _, err := sendNow(t, s, m); code(err) == "rate_limited refused" {
			limited++
		}
	}
	if limited != 15 || w.count("UserByHandle") != 5 {
		t.Errorf("%d limited, %d looked up", limited, w.count("UserByHandle"))
	}
}

func TestSendLimit_DrawsTokensInChunks(t *testing.T) {
	w := newWorld()
	s := w.service(t, Config{})
	for range 16 {
		if _, err := sendNow(t, s, text("abcdefgh", "hello")); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.count("Take"); n != 2 {
		t.Fatalf("the bucket was asked %d times for 16 messages", n)
	}
	w.pass(drawnFor) // what was drawn long ago is not kept for a burst later
	w.set(func() { w.take = func(int) (int, time.Duration) { return 0, 300 * time.Millisecond } })
	for range 2 {
		_, err := sendNow(t, s, text("abcdefgh", "hello"))
		var limit *im.LimitError
		if !errors.As(err, &limit) || limit.RetryAfter != 300*time.Millisecond {
			t.Fatal(err)
		}
	}
	if n := w.count("Take"); n != 3 {
		t.Fatalf("a denied user asked the bucket again: %d", n)
	}
}
