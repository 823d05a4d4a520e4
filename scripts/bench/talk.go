package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// talker is one person's connection in a scenario of messages.
type talker struct {
	person
	*socket
	room *room
	to   string // protocol.To of its messages, as JSON

	mu   sync.Mutex // guards sent and the order of its frames
	sent int64
	buf  []byte

	beat    *time.Timer // pings, as a client does: who says nothing is taken for gone
	refused atomic.Int64
	check   *verify
	delays  *hdrhistogram.Histogram // send to receipt, µs; the reader's own
}

// room is what the talkers of one scenario share.
type room struct {
	run      string // starts client message IDs
	epoch    time.Time
	received atomic.Int64 // pushes of messages
	stored   atomic.Int64 // of one's own messages
	measured atomic.Bool  // delays are kept
	// next is called by the reader of a receiver for each message that came, with its
	// sender: in a closed loop it says the next one, and returns by whom.
	next    func(receiver *talker, from im.UserID) *talker
	talkers map[im.UserID]*talker
	failed  atomic.Pointer[error]
	pings   atomic.Int64           // refused
	refusal atomic.Pointer[string] // the first
	readers sync.WaitGroup
	closing atomic.Bool
}

// longestDelay bounds what is measured, µs; what takes longer counts as that.
const longestDelay = 60_000_000

// enter connects all people, spread over the connectors, and starts their readers.
func (b *bench) enter(ctx context.Context, all []person, next func(r *talker, from im.UserID) *talker) (*room, error) {
	r := &room{run: strconv.FormatInt(time.Now().UnixNano(), 36), epoch: time.Now(), next: next, talkers: make(map[im.UserID]*talker, len(all))}
	ts := make([]*talker, len(all))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(asked)
	for i, p := range all {
		g.Go(func() error {
			s, err := connect(gctx, b.engine.socket(i), p)
			if err != nil {
				return err
			}
			t := &talker{person: p, socket: s, room: r, check: newVerify(), delays: hdrhistogram.New(1, longestDelay, 3)}
			t.beat = time.AfterFunc(beatEvery, t.ping)
			ts[i] = t
			return nil
		})
	}
	err := g.Wait()
	for _, t := range ts {
		if t != nil {
			r.talkers[t.user] = t
		}
	}
	if err != nil {
		r.leave()
		return nil, fmt.Errorf("connect: %w", err)
	}
	for _, t := range ts {
		r.readers.Go(t.read)
	}
	return r, nil
}

// connect opens one connection and logs it in.
func connect(ctx context.Context, url string, p person) (*socket, error) {
	s, err := dial(ctx, url)
	if err != nil {
		return nil, err
	}
	s.put(command(1, protocol.CmdConnect, protocol.Connect{Token: p.token, Device: p.device, Platform: "bench"}))
	if err := s.flush(); err != nil {
		s.close()
		return nil, err
	}
	frame, err := s.next(nil)
	if err == nil && look(frame).failed {
		err = fmt.Errorf("connect answered %s", frame)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// say puts the talker's next message into its buffer; at is when it was due.
func (t *talker) say(at time.Time) {
	t.mu.Lock()
	t.buf = appendSend(t.buf[:0], t.sent+2, t.to, t.room.run, t.user, t.sent, at.Sub(t.room.epoch).Microseconds())
	t.sent++
	t.put(t.buf)
	t.mu.Unlock()
}

// ping is said from time to time; the answer is read like any other.
func (t *talker) ping() {
	if t.room.closing.Load() {
		return
	}
	t.put(pingFrame)
	_ = t.flush() // its reader sees the end
	t.beat.Reset(beatEvery)
}

// read takes what the server says until the connection ends. What it makes others say
// leaves when nothing more is waiting to be read.
func (t *talker) read() {
	var buf []byte
	var err error
	var spoken []*talker
	for {
		if t.r.Buffered() == 0 {
			for _, s := range spoken {
				_ = s.flush() // its own reader sees the end
			}
			spoken = spoken[:0]
		}
		if buf, err = t.next(buf); err != nil {
			if !t.room.closing.Load() && !errors.Is(err, net.ErrClosed) {
				err = fmt.Errorf("user %d: %w", t.user, err)
				t.room.failed.CompareAndSwap(nil, &err)
			}
			return
		}
		switch f := look(buf); f.kind {
		case reply:
			if f.failed {
				if f.id == pingID {
					t.room.pings.Add(1)
				} else {
					t.refused.Add(1)
				}
				answer := string(buf)
				t.room.refusal.CompareAndSwap(nil, &answer)
			}
		case stored:
			t.room.stored.Add(1)
		case message:
			if s := t.heard(f); s != nil && !slices.Contains(spoken, s) {
				spoken = append(spoken, s)
			}
		}
	}
}

// heard takes a message that came, and returns who has said something for it.
func (t *talker) heard(f seen) *talker {
	from, n, at, ours := stamp(f.text)
	if !ours {
		return nil // a notice
	}
	t.check.got(from, n, f.seq)
	if t.room.measured.Load() {
		delay := time.Since(t.room.epoch).Microseconds() - at
		_ = t.delays.RecordValue(min(max(delay, 1), longestDelay)) // is in range
	}
	t.room.received.Add(1)
	if t.room.next == nil {
		return nil
	}
	return t.room.next(t, from)
}

// leave ends all connections and waits for their readers.
func (r *room) leave() {
	r.closing.Store(true)
	for _, t := range r.talkers {
		t.beat.Stop()
		t.close()
	}
	r.readers.Wait()
}

// problem is why a connection ended before its time.
func (r *room) problem() error {
	if p := r.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// settle waits until want messages have come, or nothing comes any more.
func (r *room) settle(ctx context.Context, want int64) {
	const patience = 20 * time.Second
	for last, since := r.received.Load(), time.Now(); ; {
		now := r.received.Load()
		if now != last {
			last, since = now, time.Now()
		}
		if now >= want || time.Since(since) > patience || ctx.Err() != nil || r.problem() != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// measure runs a scenario's middle: warm, then counted for the given time.
func (b *bench) measure(ctx context.Context, name string, r *room, warm, span time.Duration) (from, to costs, received int64, err error) {
	pause(ctx, warm)
	profiled := b.profile(ctx, name, span)
	from = b.costsNow(ctx)
	before := r.received.Load()
	r.measured.Store(true)
	pause(ctx, span)
	r.measured.Store(false)
	received = r.received.Load() - before
	to = b.costsNow(ctx)
	return from, to, received, profiled()
}

// pause is time that a measurement takes.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// faults adds up what every receiver saw. receiversOf says who should have got a
// sender's messages.
func (r *room) faults(receiversOf func(*talker) []*talker) Faults {
	due := make(map[*talker]map[im.UserID]int64)
	for _, t := range r.talkers {
		for _, to := range receiversOf(t) {
			if due[to] == nil {
				due[to] = make(map[im.UserID]int64)
			}
			due[to][t.user] = t.sent
		}
	}
	return r.faultsOf(due)
}

// faultsOf holds what came against what was due to each receiver from each sender.
func (r *room) faultsOf(due map[*talker]map[im.UserID]int64) Faults {
	var f Faults
	f.Pings = r.pings.Load()
	if first := r.refusal.Load(); first != nil {
		f.First = *first
	}
	for _, t := range r.talkers {
		f.Refused += t.refused.Load()
		t.check.finish(due[t])
		f.add(t.check)
	}
	return f
}

// delays is all receivers' together.
func (r *room) delays() *hdrhistogram.Histogram {
	all := hdrhistogram.New(1, longestDelay, 3)
	for _, t := range r.talkers {
		all.Merge(t.delays)
	}
	return all
}
