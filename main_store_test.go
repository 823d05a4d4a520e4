package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// within is above what a request may take (5 s), by what a busy machine adds.
const within = 8 * time.Second

// refusals asks until answered with the code, and fails where an answer takes too long.
func refusals(t *testing.T, code string, ask func() error) {
	t.Helper()
	var err error
	defer func() {
		if t.Failed() {
			t.Logf("want %s, got %v", code, err)
		}
	}()
	devtest.Eventually(t, code, func() bool {
		start := time.Now()
		err = ask()
		if took := time.Since(start); took > within {
			t.Errorf("answered after %s", took)
		}
		return client.IsCode(err, code)
	})
	var e *protocol.Error
	if errors.As(err, &e) && (!e.Retryable || e.RetryAfterMS <= 0) {
		t.Errorf("%s does not say when to come back: %+v", code, e)
	}
}

// Redis is emptied at any moment, with the scripts it knew. Nobody is ever given a part
// of a list: what was said long ago is in it whenever it is read.
func TestRedis_FlushedUnderLoad(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	l := startLoad(t, e.http, e.socket)
	quiet := enrol(t, e.http, e.socket, "old")[0]
	for _, p := range l.people {
		again(t, "a word long ago", func() error {
			_, err := quiet.http.Send(t.Context(), textTo(p.id, "long ago"), true)
			return err
		})
	}
	l.met()
	for _, p := range l.people { // of all, and of the quiet one
		devtest.Eventually(t, p.name+" has heard of everybody", func() bool { return len(p.list()) == len(l.people) })
	}
	for round := range 8 {
		l.more(20 + rand.IntN(60))
		s.Redis.Flush()
		if round%2 == 1 {
			l.more(50) // what comes meanwhile is not taken for all there is
		}
		for _, p := range l.people {
			rows := p.list()
			i := slices.IndexFunc(rows, func(c protocol.Conversation) bool { return c.Peer != nil && c.Peer.ID == quiet.id })
			if len(rows) != len(l.people) || i < 0 || rows[i].Unread != 1 || rows[i].LastSeq != 1 {
				t.Errorf("round %d: %s's list after a flush is %+v", round, p.name, rows)
			}
			if o := p.offline()[im.DirectConversation(p.id, quiet.id)]; o.Count != 1 && p == l.people[3] {
				t.Errorf("round %d: %s's offline sources after a flush have %+v", round, p.name, o)
			}
		}
	}
	l.more(50)
	l.finish()
	l.check(true)
}

// Redis dies, stays away for a moment and comes back empty.
func TestRedis_RestartedEmptyUnderLoad(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	l := startLoad(t, e.http, e.socket)
	l.met()
	l.more(100)
	s.Redis.Stop()
	l.more(50) // accepting goes on
	if n := len(l.people[3].list()); n != 3 {
		t.Errorf("%d conversations while Redis is away", n)
	}
	s.Redis.Start()
	l.more(100)
	l.finish()
	l.check(true)
	if len(l.refused) > 0 {
		t.Errorf("refused while only Redis was away: %v", l.refused)
	}
}

// Redis answers nothing for three seconds.
func TestRedis_PausedUnderLoad(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	l := startLoad(t, e.http, e.socket)
	l.more(100)
	s.Redis.Pause()
	time.Sleep(3 * time.Second) // the fault itself
	l.more(20)
	s.Redis.Resume()
	l.more(100)
	l.finish()
	l.check(true)
	if len(l.refused) > 0 {
		t.Errorf("refused while only Redis was away: %v", l.refused)
	}
}

// MySQL is cut off, then frozen: sends go on from what is known of memberships, what
// reads it says so, and all heals.
func TestMySQL_AwayUnderLoad(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	if s.DB == nil {
		t.Skip("SQLite is a file and cannot be taken away")
	}
	e := startEngine(t, s)
	l := startLoad(t, e.http, e.socket)
	ann, ben := l.people[0], l.people[1]
	conv := im.DirectConversation(ann.id, ben.id)
	l.more(200)
	history := func() error {
		_, err := ann.http.History(context.Background(), protocol.History{ConversationID: conv})
		return err
	}
	for _, away := range []struct{ begin, end func() }{{s.DB.Stop, s.DB.Start}, {s.DB.Pause, s.DB.Resume}} {
		l.met()
		away.begin()
		refusals(t, "store_unavailable", history)
		refusals(t, "store_unavailable", func() error {
			_, err := (&client.HTTP{Base: e.http}).Login(context.Background(), protocol.Login{Handle: "ann", Password: "not this one", Device: "phone"})
			return err
		})
		l.more(100)
		if rows := ann.list(); len(rows) != 3 || rows[0].LastMessage != nil {
			t.Errorf("the list without MySQL: %+v", rows)
		}
		away.end()
		devtest.Eventually(t, "history is back", func() bool { return history() == nil })
		l.more(100)
	}
	l.finish()
	l.check(true)
	if len(l.refused) > 0 {
		t.Errorf("refused while only MySQL was away: %v", l.refused)
	}
}

// Kafka dies and comes back: what was refused never appears, what was accepted does.
func TestKafka_KilledUnderLoad(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t, devtest.OwnKafka)
	e := startEngine(t, s)
	l := startLoad(t, e.http, e.socket)
	ann := l.people[0]
	conv := im.DirectConversation(ann.id, l.people[1].id)
	l.met()
	s.Kafka.Stop()
	n := 0
	refusals(t, "queue_unavailable", func() error {
		n++
		return l.once(fmt.Sprint("while Kafka is away ", n))
	})
	refusals(t, "queue_unavailable", func() error {
		return ann.http.Receipts(context.Background(), conv, protocol.Receipts{DeliveredSeq: im.MaxID}) // up to the end
	})
	// Everything that only reads goes on.
	if _, err := ann.http.History(context.Background(), protocol.History{ConversationID: conv}); err != nil {
		t.Errorf("history without Kafka: %v", err)
	}
	if n := len(ann.list()); n != 3 {
		t.Errorf("%d conversations without Kafka", n)
	}
	s.Kafka.Start()
	l.recovered("Kafka is back")
	l.more(200)
	l.finish()
	l.check(false)
}

// Kafka answers nothing for five seconds. What was on its way may be in the log or not:
// it appears at most once, whatever the retries.
func TestKafka_PausedUnderLoad(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t, devtest.OwnKafka)
	e := startEngine(t, s)
	l := startLoad(t, e.http, e.socket)
	l.more(200)
	s.Kafka.Pause()
	time.Sleep(5 * time.Second) // the fault itself
	s.Kafka.Resume()
	l.recovered("Kafka answers again")
	l.more(200)
	l.finish()
	l.check(false)
}
