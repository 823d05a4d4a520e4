package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// thread is a one-to-one conversation of two talkers.
type thread struct {
	ends [2]im.UserID
	said [2]int64 // messages of each
}

func (t *thread) id() im.ConversationID { return im.DirectConversation(t.ends[0], t.ends[1]) }

// threadsAmong has n conversations among all people, who come up in turn; n is at most
// mostThreads of them.
func threadsAmong(all []person, n int) []thread {
	ts := make([]thread, n)
	for k := range ts {
		i, apart := k%len(all), k/len(all)+1
		ts[k].ends = [2]im.UserID{all[i].user, all[(i+apart)%len(all)].user}
	}
	return ts
}

// mostThreads is how many conversations people can have so that each has as many, and
// none comes up twice.
func mostThreads(people int) int { return people * ((people - 1) / 2) }

// threadsOfPairs has everybody talk to one other.
func threadsOfPairs(all []person) []thread {
	ts := make([]thread, len(all)/2)
	for k := range ts {
		ts[k].ends = [2]im.UserID{all[2*k].user, all[2*k+1].user}
	}
	return ts
}

// turns is a closed loop over threads: one message in each in turn, by its ends in turn.
type turns struct {
	mu      sync.Mutex // guards the rest, and that a sender's messages leave as they are numbered
	room    *room
	threads []thread
	at      int
	stopped bool
}

// say says the next message, and returns who said it: nobody once the loop has stopped.
func (l *turns) say() *talker {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil
	}
	th := &l.threads[l.at%len(l.threads)]
	who := l.at / len(l.threads) % 2
	l.at++
	return l.room.tell(th, who, "")
}

func (l *turns) stop() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
}

// tell has one end of a thread say its next message there; without a text, one of
// textBytes. The caller sees to it that one end says one thing at a time.
func (r *room) tell(th *thread, who int, text string) *talker {
	t := r.talkers[th.ends[who]]
	t.mu.Lock()
	at := time.Since(r.epoch).Microseconds()
	t.buf = appendText(t.buf[:0], t.sent+2, toUser(th.ends[1-who]), r.run, t.user, th.said[who], at, text)
	t.sent++
	t.put(t.buf)
	t.mu.Unlock()
	th.said[who]++
	return t
}

// inFlight is how many messages are on their way at once in loops over threads: as many
// as in pairs by default.
const inFlight = 800

// talk runs a closed loop over threads, whose people are connected for it.
func (b *bench) talk(ctx context.Context, name string, all []person, threads []thread) (Result, error) {
	loop := &turns{threads: threads}
	r, err := b.enter(ctx, all, func(*talker, im.UserID) *talker { return loop.say() })
	if err != nil {
		return Result{}, err
	}
	defer r.leave()
	loop.room = r
	for range inFlight {
		_ = loop.say().flush() // its reader sees the end
	}
	from, to, received, err := b.measure(ctx, name, r, b.warm, b.span)
	loop.stop()
	r.settle(ctx, r.said())
	res := b.result(name, "message", from, to, received, r.delays())
	res.Setting = fmt.Sprintf("%d users online, %d conversations in turn, each written %.2f times, %d in flight",
		len(all), len(threads), float64(r.said())/float64(len(threads)), inFlight)
	res.Faults = r.faultsOf(r.dueIn(threads))
	return res, errors.Join(err, r.problem())
}

// dueIn is what each talker should have got of whom.
func (r *room) dueIn(threads []thread) map[*talker]map[im.UserID]int64 {
	due := make(map[*talker]map[im.UserID]int64)
	for i := range threads {
		for who, n := range threads[i].said {
			to := r.talkers[threads[i].ends[1-who]]
			if due[to] == nil {
				due[to] = make(map[im.UserID]int64)
			}
			if n > 0 {
				due[to][threads[i].ends[who]] = n
			}
		}
	}
	return due
}
