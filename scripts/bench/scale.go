package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/curlew-im/curlew/scripts/devtest/balancer"
)

// scaling is one run of scale.
type scaling struct {
	b     *bench
	crowd *crowd
	front *balancer.Balancer
	watch *watch
	rate  float64 // of the last stage
}

// change is one process more, or the oldest of a role away.
type change struct {
	name string
	role string
	away syscall.Signal // none: one more
}

// changes in their order: the two of a role share the work at every second stage, and as
// with a rolling restart it is always the older one that goes.
var changes = []change{
	{"a second jobs process", "jobs", 0},
	{"a second connector", "connector", 0},
	{"the older connector ends (SIGTERM)", "connector", syscall.SIGTERM},
	{"a second connector again", "connector", 0},
	{"the older connector is killed", "connector", syscall.SIGKILL},
	{"the older jobs process ends (SIGTERM)", "jobs", syscall.SIGTERM},
	{"a second jobs process again", "jobs", 0},
	{"the older jobs process is killed", "jobs", syscall.SIGKILL},
}

const (
	// changeTakes bounds the wait until a change has done what it does.
	changeTakes = 2 * time.Minute
	// afterChange is measured as part of the change.
	afterChange = 2 * time.Second
	// leaving is how many of the clients come anew each second while a new connector has not
	// its share, as their networks and their pockets let them: sockets that are open stay.
	leaving = 0.05
)

// scale has pairs talk in a closed loop on one jobs and one connector process, and adds
// and takes away one of each under that load. The engine is the usual one again at its end.
func (b *bench) scale(ctx context.Context, counts map[string]int, extra map[string]string) (res Result, err error) {
	if err := b.engine.fresh(ctx, map[string]int{}, extra); err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, b.engine.fresh(ctx, counts, extra)) }()
	all, err := b.people(ctx, "scale", b.users)
	if err != nil {
		return res, err
	}
	s := &scaling{b: b}
	if s.front, err = balancer.New(); err != nil {
		return res, err
	}
	defer s.front.Close()
	s.watch = observe()
	defer s.watch.close()
	for _, n := range b.engine.nodes {
		if n.role == "connector" {
			s.front.Add(n.listen)
		}
		s.watch.add(n)
	}
	s.crowd = gather(ctx, all, s.front.Addr(), b.window)
	s.watch.follow(&s.crowd.received)
	defer s.crowd.running.Wait()
	defer s.crowd.leave()
	if err := s.await(ctx, "everybody is connected", s.everybody); err != nil {
		return res, err
	}
	pause(ctx, b.warm)
	s.crowd.since()
	from, before := b.costsNow(ctx), s.crowd.received.Load()
	calm, err := s.stage(ctx, "one of each")
	if err != nil {
		return res, err
	}
	to, received := b.costsNow(ctx), s.crowd.received.Load()-before
	res = b.result("scale", "message", from, to, received, s.crowd.since())
	res.Delay = calm.Delay
	res.Setting = fmt.Sprintf("%d users in pairs, %d in flight each, one jobs and one connector process; then changes under that load", b.users, b.window)
	res.Stages = append(res.Stages, calm)
	for _, c := range changes {
		st, err := s.make(ctx, c)
		if err != nil {
			return res, fmt.Errorf("%s: %w", c.name, err)
		}
		res.Stages = append(res.Stages, st)
		fmt.Fprintf(os.Stderr, "scale: %s: %.0f a second\n", c.name, st.Rate)
	}
	res.Faults = s.crowd.end(ctx)
	res.Extra = map[string]float64{"messages in all": float64(s.crowd.received.Load())}
	return res, nil
}

// make makes a change, waits until it has done what it does, and measures what follows.
func (s *scaling) make(ctx context.Context, c change) (Stage, error) {
	s.crowd.since()
	since := time.Now()
	var err error
	if c.away == 0 {
		err = s.more(ctx, c.role)
	} else {
		err = s.less(ctx, c.role, c.away)
	}
	if err != nil {
		return Stage{}, err
	}
	until := time.Now()
	pause(ctx, afterChange)
	waits := s.crowd.since()
	st, err := s.stage(ctx, c.name)
	if err != nil {
		return Stage{}, err
	}
	st.LongestWait = delayOf(waits).Max
	samples, nodes := s.watch.all(), s.nodes(c.role)
	st.ToRate = toRate(samples, since, until.Add(afterChange), st.Rate)
	if newest := len(nodes) - 1; c.away == 0 {
		kept, of := st.Records, func(s sample) map[*node]float64 { return s.records }
		if c.role == "connector" {
			kept, of = st.Messages, func(s sample) map[*node]float64 { return s.messages }
		}
		st.ToShare = toShare(samples, since, nodes, newest, kept[newest], of)
	}
	return st, nil
}

// more starts one more process of a role, and waits until it has its share: of partitions,
// or of connections.
func (s *scaling) more(ctx context.Context, role string) error {
	if err := s.b.engine.start(ctx, role); err != nil {
		return err
	}
	n := s.b.engine.nodes[len(s.b.engine.nodes)-1]
	s.watch.add(n)
	if role == "jobs" {
		return s.await(ctx, "the partitions are shared out", s.shared)
	}
	s.front.Add(n.listen)
	tick := 0
	return s.await(ctx, "the newcomer has its connections", func(context.Context) error {
		open := s.front.Connections()
		even := float64(len(s.crowd.all)) / float64(len(s.nodes(role)))
		if float64(open[n.listen]) >= even*(1-tenth) {
			return nil
		}
		if tick++; tick%int(time.Second/awaitEvery) == 0 {
			s.front.Cut(max(1, int(leaving*float64(len(s.crowd.all)))))
		}
		return fmt.Errorf("it has %d", open[n.listen])
	})
}

// less ends the oldest process of a role, and waits until the others do what it did.
func (s *scaling) less(ctx context.Context, role string, by syscall.Signal) error {
	n := s.nodes(role)[0]
	gone := s.b.engine.stop(n, by)
	err := s.await(ctx, "the others have its work", func(ctx context.Context) error {
		select {
		case <-gone:
		default:
			return errors.New("it has not ended") // it hands over in good order
		}
		if role == "jobs" {
			return s.shared(ctx)
		}
		return s.everybody(ctx)
	})
	s.watch.remove(n)
	s.front.Remove(n.listen)
	return err
}

// everybody fails while not all are connected.
func (s *scaling) everybody(context.Context) error {
	if n := int(s.crowd.connected.Load()); n != len(s.crowd.all) {
		return fmt.Errorf("%d of %d are connected", n, len(s.crowd.all))
	}
	return nil
}

// stage measures while nothing changes.
func (s *scaling) stage(ctx context.Context, name string) (Stage, error) {
	s.crowd.since()
	from := s.watch.now(ctx)
	pause(ctx, s.b.span)
	to := s.watch.now(ctx)
	owned, _, err := s.partitions(ctx)
	if err != nil {
		return Stage{}, err
	}
	jobs, sockets := s.nodes("jobs"), s.nodes("connector")
	for _, n := range slices.Concat(jobs, sockets) {
		for _, sm := range []sample{from, to} {
			if _, ok := sm.records[n]; !ok {
				return Stage{}, fmt.Errorf("%s at %s does not tell what it did", n.role, n.admin)
			}
		}
	}
	return Stage{
		Change: name, Rate: float64(to.received-from.received) / to.at.Sub(from.at).Seconds(), Delay: delayOf(s.crowd.since()),
		Records: shares(jobs, from.records, to.records), Partitions: owned,
		Connections: shares(sockets, nil, to.connections), Messages: shares(sockets, from.messages, to.messages),
	}, ctx.Err()
}

// awaitEvery is how often something awaited is looked at.
const awaitEvery = 100 * time.Millisecond

func (s *scaling) await(ctx context.Context, what string, ready func(context.Context) error) error {
	for end := time.Now().Add(changeTakes); ; pause(ctx, awaitEvery) {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %s: %w", what, changeTakes, err)
		}
	}
}

// nodes are the processes of a role, the oldest first.
func (s *scaling) nodes(role string) (some []*node) {
	for _, n := range s.b.engine.nodes {
		if n.role == role {
			some = append(some, n)
		}
	}
	return some
}

// stop tells one process to end; it is no longer one of the engine's. The channel is closed
// when it has.
func (e *engine) stop(n *node, by syscall.Signal) <-chan struct{} {
	e.nodes = slices.DeleteFunc(slices.Clone(e.nodes), func(m *node) bool { return m == n })
	_ = n.cmd.Process.Signal(by)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = n.cmd.Wait() // told to end
		n.log.Close()
	}()
	return gone
}
