package connector

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// TestRooms_AnyHistory has users come, go, join and leave while messages and notices
// are delivered, delayed, overtaken and lost, and both stores come and go. Nobody sees
// a message of a channel from when they were not in it, nobody sees two out of order,
// and once all is quiet every room is as its channel.
func TestRooms_AnyHistory(t *testing.T) {
	seed := uint64(1)
	if s, err := strconv.ParseUint(os.Getenv("CURLEW_ROOMS_SEED"), 10, 64); err == nil {
		seed = s
	}
	for n := range uint64(4) {
		t.Run(fmt.Sprint(seed+n), func(t *testing.T) { anyHistory(t, rand.New(rand.NewPCG(seed+n, 0))) })
	}
}

const (
	modelUsers    = 6
	modelChannels = 3
	modelSteps    = 400
)

// past is what one channel has been.
type past struct {
	seq, version im.Seq
	in           map[im.UserID]im.Seq
	intervals    map[im.UserID][][2]im.Seq // closed ones too; the end 0: still in
}

type modelClient struct {
	*client
	user im.UserID
	done chan struct{}
	mu   sync.Mutex
	seen []string
}

func anyHistory(t *testing.T, r *rand.Rand) {
	cfg := unlimited()
	cfg.OutboxFrames, cfg.OutboxBytes = 1<<16, 64<<20
	b := start(t, byDefault, cfg)
	channels := make([]*past, modelChannels)
	for i := range channels {
		channels[i] = &past{in: map[im.UserID]im.Seq{}, intervals: map[im.UserID][][2]im.Seq{}}
	}
	clients := map[im.UserID]*modelClient{}
	var all []*modelClient
	var delayed []protocol.Delivery
	name := func(c int) im.ConversationID { return im.ChannelConversation(uint64(c + 1)) }

	publish := func(d protocol.Delivery) {
		switch r.IntN(10) {
		case 0: // lost
			return
		case 1:
			delayed = append(delayed, d)
			return
		case 2: // comes again later too
			delayed = append(delayed, d)
		}
		b.publish(d)
		if len(delayed) > 0 && r.IntN(3) == 0 {
			b.publish(delayed[0])
			delayed = delayed[1:]
		}
	}
	for step := range modelSteps {
		c := r.IntN(modelChannels)
		ch, u := channels[c], im.UserID(1+r.IntN(modelUsers))
		switch r.IntN(12) {
		case 0, 1, 2: // somebody comes or goes
			if mc := clients[u]; mc != nil {
				mc.nc.Close()
				<-mc.done
				delete(clients, u)
				continue
			}
			mc := &modelClient{client: b.upgraded(), user: u, done: make(chan struct{})}
			mc.text(fmt.Sprintf("connect %d d", u))
			go mc.read()
			clients[u] = mc
			all = append(all, mc)
		case 3, 4, 5: // joins or leaves, told or not
			ch.seq++
			var d protocol.Delivery
			if _, in := ch.in[u]; in {
				b.dir.leaves(name(c), ch.seq, u)
				delete(ch.in, u)
				ch.intervals[u][len(ch.intervals[u])-1][1] = ch.seq
				d = notice(name(c), ch.version, ch.seq, nil, []im.UserID{u})
			} else {
				b.dir.joins(name(c), ch.seq, u)
				ch.in[u] = ch.seq
				ch.intervals[u] = append(ch.intervals[u], [2]im.Seq{ch.seq, 0})
				d = notice(name(c), ch.version, ch.seq, []im.UserID{u}, nil)
			}
			ch.version = ch.seq
			d.Frame = fmt.Appendf(nil, "%d %d", c, ch.seq)
			publish(d)
		case 6:
			switch r.IntN(6) {
			case 0:
				b.dir.set(func() { b.dir.noSQL = !b.dir.noSQL })
			case 1:
				b.dir.set(func() { b.dir.away = !b.dir.away })
			case 2:
				b.publish()
				b.dir.lost["n1"]()
			}
		default:
			ch.seq++
			publish(says(name(c), ch.seq, ch.version, fmt.Sprintf("%d %d", c, ch.seq)))
		}
		if step%50 == 49 {
			b.dir.set(func() { b.dir.noSQL, b.dir.away = false, false })
		}
	}
	b.dir.set(func() { b.dir.noSQL, b.dir.away = false, false })
	for _, d := range delayed {
		b.publish(d)
	}
	b.dir.lost["n1"]()
	for c := range channels { // what is pushed to a room finds it out of date
		ch := channels[c]
		ch.seq++
		b.publish(says(name(c), ch.seq, ch.version, fmt.Sprintf("%d %d", c, ch.seq)))
	}
	eventually(t, "every room is as its channel", func() bool { return b.settled(channels, clients) })
	for c := range channels {
		channels[c].seq++
		b.publish(says(name(c), channels[c].seq, channels[c].version, fmt.Sprintf("%d %d", c, channels[c].seq)))
	}
	for u, mc := range clients {
		for c, ch := range channels {
			if _, in := ch.in[u]; in {
				last := fmt.Sprintf("%d %d", c, ch.seq)
				eventually(t, fmt.Sprintf("user %d has %s", u, last), func() bool {
					mc.mu.Lock()
					defer mc.mu.Unlock()
					return slices.Contains(mc.seen, last) || mc.gone()
				})
			}
		}
	}
	for _, mc := range all {
		mc.check(t, channels)
	}
}

// settled says whether rooms, members and registry are what they should be.
func (b *bench) settled(channels []*past, clients map[im.UserID]*modelClient) bool {
	b.rooms.mu.Lock()
	defer b.rooms.mu.Unlock()
	for c, ch := range channels {
		conv := im.ChannelConversation(uint64(c + 1))
		here := 0
		rm := b.rooms.rooms[conv]
		for u, mc := range clients {
			if _, in := ch.in[u]; in && !mc.gone() {
				if here++; rm == nil || !rm.has(u) {
					return false
				}
			}
		}
		switch {
		case rm == nil:
		case len(rm.members) != here || rm.held != nil || rm.dirty || here > 0 && (!rm.in || rm.version != ch.version):
			return false
		}
		if b.dir.inRegistry(conv, "n1") != (here > 0) {
			return false
		}
	}
	return len(b.rooms.users)+len(b.rooms.asks)+len(b.rooms.slow)+len(b.rooms.slowUsers)+len(b.rooms.dirty) == 0
}

// gone says that the server has ended the connection: one that was given up before it
// was accepted may still take a later one's place.
func (mc *modelClient) gone() bool {
	select {
	case <-mc.done:
		return true
	default:
		return false
	}
}

func (mc *modelClient) read() {
	defer close(mc.done)
	for {
		f, err := mc.frame()
		if err != nil || f.Header.OpCode != ws.OpText {
			return
		}
		mc.mu.Lock()
		mc.seen = append(mc.seen, string(f.Payload))
		mc.mu.Unlock()
	}
}

// check sees that all was theirs to see, and in order.
func (mc *modelClient) check(t *testing.T, channels []*past) {
	mc.mu.Lock()
	defer mc.mu.Unlock()
	last := map[int]im.Seq{}
	for _, f := range mc.seen {
		if strings.HasPrefix(f, "{") || f == "connected" {
			continue
		}
		var c int
		var seq im.Seq
		if _, err := fmt.Sscanf(f, "%d %d", &c, &seq); err != nil {
			t.Fatalf("frame %q", f)
		}
		if seq <= last[c] {
			t.Errorf("user %d: %s after %d", mc.user, f, last[c])
		}
		last[c] = seq
		if !slices.ContainsFunc(channels[c].intervals[mc.user], func(i [2]im.Seq) bool { return i[0] <= seq && (i[1] == 0 || seq <= i[1]) }) {
			t.Errorf("user %d saw %s, was in %v", mc.user, f, channels[c].intervals[mc.user])
		}
	}
}
