package jobs

import (
	"context"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/logic/im/joint"
)

// Each of the four calls that every batch makes is shared by the strands of a process.
const (
	jointFlights = 2   // so that one fills while another is on its way
	jointRows    = 500 // messages in one statement; beyond that a row costs the same (README, Measured)
	jointUsers   = 512 // users in one round trip
)

// jointInserts inserts what several strands have in one statement. They are of different
// conversations, each numbered by its strand, so that one does not bear on another. It is
// for the first attempt: a strand that has met an error goes on alone, since what holds
// one up must not hold up the others.
type jointInserts struct {
	archive Archive
	inserts *joint.Call[[]im.Message, struct{}]
}

func joinInserts(a Archive, cfg *Config) *jointInserts {
	return &jointInserts{archive: a, inserts: &joint.Call[[]im.Message, struct{}]{
		Flights: jointFlights, Room: jointRows, Timeout: cfg.StoreTimeout,
		Weigh: func(rows []im.Message) int { return len(rows) },
		Join:  func(all [][]im.Message) []im.Message { return slices.Concat(all...) },
		Make: func(ctx context.Context, rows []im.Message) (struct{}, error) {
			return struct{}{}, a.InsertMessages(ctx, rows)
		},
		// All or nothing was written; which row it was is for its strand to find out. Where
		// that is not known, each of them looks.
		Alone: func(err error) bool { return !away(err) },
	}}
}

// InsertMessages joins rows that a plain statement writes. What brings a transaction, for
// who comes and goes or what does not count, is made alone.
func (a *jointInserts) InsertMessages(ctx context.Context, rows []im.Message) error {
	if slices.ContainsFunc(rows, func(m im.Message) bool {
		return m.Membership != nil || m.Uncounted != im.CountedForAll || len(m.Mentions) > 0 || m.MentionsAll
	}) {
		return a.archive.InsertMessages(ctx, rows)
	}
	_, err := a.inserts.Do(ctx, rows)
	return err
}

// jointProjector raises what several strands raise in one round trip.
type jointProjector struct {
	raises *joint.Call[im.Projection, struct{}]
}

func joinProjector(p Projector, cfg *Config) *jointProjector {
	return &jointProjector{&joint.Call[im.Projection, struct{}]{
		Flights: jointFlights, Room: jointUsers, Timeout: cfg.CacheTimeout,
		Weigh: func(p im.Projection) int { return len(p.Users) + len(p.Ends) },
		Join: func(all []im.Projection) (one im.Projection) {
			for _, p := range all {
				one.Users = append(one.Users, p.Users...)
				one.Ends = append(one.Ends, p.Ends...)
				one.Uncounted = append(one.Uncounted, p.Uncounted...)
				one.Hints = append(one.Hints, p.Hints...)
			}
			return one
		},
		Make: func(ctx context.Context, one im.Projection) (struct{}, error) { return struct{}{}, p.Project(ctx, one) },
	}}
}

func (p *jointProjector) Project(ctx context.Context, one im.Projection) error {
	_, err := p.raises.Do(ctx, one)
	return err
}

// jointBus publishes what several strands have for one node in one message. A strand
// publishes its next after this one, so its order stands.
type jointBus struct {
	sends *joint.Call[map[im.NodeID][]byte, struct{}]
}

func joinBus(b Bus, cfg *Config) *jointBus {
	return &jointBus{&joint.Call[map[im.NodeID][]byte, struct{}]{
		Flights: jointFlights, Room: publishBytes, Timeout: cfg.CacheTimeout,
		Weigh: func(nodes map[im.NodeID][]byte) (n int) {
			for _, share := range nodes {
				n += len(share)
			}
			return n
		},
		Join: func(all []map[im.NodeID][]byte) map[im.NodeID][]byte {
			one := make(map[im.NodeID][]byte)
			for _, nodes := range all {
				for node, share := range nodes {
					one[node] = append(one[node], share...)
				}
			}
			return one
		},
		Make: func(ctx context.Context, one map[im.NodeID][]byte) (struct{}, error) {
			return struct{}{}, b.Publish(ctx, one)
		},
	}}
}

func (b *jointBus) Publish(ctx context.Context, nodes map[im.NodeID][]byte) error {
	_, err := b.sends.Do(ctx, nodes)
	return err
}
