package main

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// front is every role but jobs.
func front() func(*configs.Config) {
	return roles(configs.RoleConnector, configs.RoleLogic, configs.RoleAPI)
}

// steps between two effects of a batch (see jobs.Deps.Steps).
var steps = []string{"insert", "cursors", "project", "publish", "moves", "commit"}

// diesAfter is a hook that lets a worker die after a step, and says when it has. The
// first strand that comes there lingers for some commits, while others go on: an offset
// committed too early would be out.
func diesAfter(step string) (dead *atomic.Bool, hook func(string) error) {
	dead = new(atomic.Bool)
	var first atomic.Bool
	return dead, func(now string) error {
		if now == step && first.CompareAndSwap(false, true) {
			time.Sleep(300 * time.Millisecond)
			dead.Store(true)
		}
		if dead.Load() {
			return errDied
		}
		return nil
	}
}

func quickCommits(c *configs.Config) {
	c.Jobs.CommitEvery, c.Jobs.CursorsEvery = 50*time.Millisecond, 100*time.Millisecond
}

var errDied = errors.New("died here")

// A worker dies right after each of its steps, with all its later steps; the next one
// finishes what it left.
func TestWorker_DiesBetweenEveryTwoSteps(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, front())
	l := startLoad(t, e.http, e.socket)
	for _, step := range steps {
		dead, hook := diesAfter(step)
		worker := startSteps(t, s, hook, roles(configs.RoleJobs), quickCommits)
		devtest.Eventually(t, "a worker has died after "+step, dead.Load)
		l.more(20)
		worker.stop()
	}
	startEngine(t, s, roles(configs.RoleJobs))
	l.more(20)
	l.finish()
	l.check(true)
	if len(l.refused) > 0 {
		t.Errorf("workers that die are not the senders' matter: %v", l.refused)
	}
}

// The same where nothing comes after: what a dead worker has left half done is done by
// the next one, not covered up by later messages. Everybody has looked before, so that
// their lists are complete in Redis and not read from the record.
func TestWorker_DiesWithTheLastMessage(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, front())
	ada := enrol(t, e.http, e.socket, "ada")[0]
	var hears, reads []string
	for _, step := range steps {
		hears, reads = append(hears, "hears-"+step), append(reads, "reads-"+step)
	}
	hearers, readers := enrol(t, e.http, e.socket, hears...), enrol(t, e.http, e.socket, reads...)
	conv := func(p *person) im.ConversationID { return im.DirectConversation(ada.id, p.id) }
	send := func(to *person) {
		again(t, "send to "+to.name, func() error {
			_, err := ada.http.Send(t.Context(), textTo(to.id, "to "+to.name), false)
			return err
		})
	}
	healthy := startEngine(t, s, roles(configs.RoleJobs))
	for _, p := range readers {
		send(p)
	}
	for _, p := range readers {
		devtest.Eventually(t, p.name+" has something to read", func() bool { return p.row(conv(p)).Unread == 1 && p.offline()[conv(p)].Count == 1 })
	}
	for _, p := range hearers {
		if len(p.list()) != 0 || len(p.offline()) != 0 {
			t.Errorf("%s has a conversation before the first message", p.name)
		}
	}
	if n := len(ada.list()); n != len(readers) {
		t.Errorf("Ada has %d conversations", n)
	}
	healthy.stop()

	for i, step := range steps {
		dead, hook := diesAfter(step)
		worker := startSteps(t, s, hook, roles(configs.RoleJobs), quickCommits)
		hearer, reader := hearers[i], readers[i]
		send(hearer)
		again(t, reader.name+" reads", func() error {
			return reader.http.Receipts(t.Context(), conv(reader), protocol.Receipts{ReadSeq: 1})
		})
		devtest.Eventually(t, "a worker has died after "+step, dead.Load)
		worker.stop()
	}
	startEngine(t, s, roles(configs.RoleJobs))
	for i, step := range steps {
		hearer, reader := hearers[i], readers[i]
		devtest.Eventually(t, step+": the message is in the list, unread and waiting", func() bool {
			row, waits := hearer.row(conv(hearer)), hearer.offline()[conv(hearer)]
			return row.LastSeq == 1 && row.Unread == 1 && waits.Count == 1
		})
		devtest.Eventually(t, step+": its sender has it, and has read it", func() bool {
			row := ada.row(conv(hearer))
			return row.LastSeq == 1 && row.ReadSeq == 1 && row.Unread == 0
		})
		devtest.Eventually(t, step+": what was read is read on both sides, and waits no more", func() bool {
			return reader.row(conv(reader)).Unread == 0 && ada.row(conv(reader)).PeerRead == 1 && len(reader.offline()) == 0
		})
		if ms := hearer.history(conv(hearer)); len(ms) != 1 {
			t.Errorf("%s: %d messages", step, len(ms))
		}
	}
}

// Two processes of workers share the partitions; one comes and goes under load.
func TestWorker_RebalanceUnderLoad(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	l := startLoad(t, e.http, e.socket)
	for range 3 {
		second := startEngine(t, s, roles(configs.RoleJobs))
		l.more(100)
		second.stop()
		l.more(30)
	}
	l.finish()
	l.check(true)
}
