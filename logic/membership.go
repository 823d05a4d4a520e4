package logic

import (
	"context"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/curlew-im/curlew/logic/im"
)

// membership says who may send where and who may see what: one place. What a send
// needs is kept in copies that are good for MembershipTTL, and for MembershipStale
// while MySQL is away ([L4]).
type membership struct {
	accounts Accounts
	records  Records
	groups   Groups
	now      func() time.Time
	ttl      time.Duration
	stale    time.Duration
	timeout  time.Duration
	metrics  *metrics
	// contactsOnly says that here nobody is sent messages by strangers.
	contactsOnly bool

	peers    *lru.Cache[pair, peerCopy]
	seats    *lru.Cache[seatKey, seatCopy]
	channels *lru.Cache[im.ConversationID, channelCopy]
	cuts     *lru.Cache[im.GroupID, time.Time] // of changes that came through this process
	flight   singleflight.Group
	breaker  breaker
}

// channelsKept bounds the copies of how channels are shown.
const channelsKept = 20_000

type pair struct{ from, to im.UserID }

// peerCopy is what MySQL said about a recipient, no later than at.
type peerCopy struct {
	im.Peer
	at time.Time
}

func newMembership(cfg Config, deps Deps, m *metrics) (*membership, error) {
	peers, err := lru.New[pair, peerCopy](cfg.Copies)
	if err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	seats, err := lru.New[seatKey, seatCopy](cfg.Copies)
	if err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	channels, _ := lru.New[im.ConversationID, channelCopy](channelsKept) // fail for a size below 1 only
	cuts, _ := lru.New[im.GroupID, time.Time](cutsKept)
	return &membership{
		accounts: deps.Accounts, records: deps.Records, groups: deps.Groups, now: deps.Now, metrics: m,
		ttl: cfg.MembershipTTL, stale: cfg.MembershipStale, timeout: cfg.StoreTimeout,
		contactsOnly: cfg.MessagePolicy == im.MessagesFromContacts,
		peers:        peers, seats: seats, channels: channels, cuts: cuts, breaker: breaker{now: deps.Now},
	}, nil
}

// MaySend returns nil where from may send to c; im.ErrNotFound where c is not theirs
// or the other side does not exist ([L5]), im.ErrBlocked, im.ErrNotContact where the
// other side or this installation takes messages from contacts only, im.ErrForbidden
// for an answer to the system, im.ErrMuted in a channel, im.ErrStore where nobody can say.
func (m *membership) MaySend(ctx context.Context, from im.UserID, c im.ConversationID) error {
	if _, channel := c.Channel(); channel {
		return m.maySpeak(ctx, from, c)
	}
	to, ok := c.Peer(from)
	switch {
	case !ok:
		return im.ErrNotFound
	case to == im.SystemUser:
		return im.ErrForbidden
	case to == from:
		return nil
	}
	p, err := m.peer(ctx, pair{from, to})
	switch {
	case err != nil:
		return err
	case !p.Exists:
		return im.ErrNotFound
	case p.Blocked:
		return im.ErrBlocked
	case !p.Contact && (p.ContactsOnly || m.contactsOnly):
		return im.ErrNotContact
	}
	return nil
}

func (m *membership) peer(ctx context.Context, k pair) (peerCopy, error) {
	known, found := m.peers.Get(k)
	age := m.now().Sub(known.at)
	if found && age < m.ttl {
		return known, nil
	}
	var err error = im.ErrStore
	if m.breaker.allow() {
		var p peerCopy
		if p, err = m.ask(ctx, k); err == nil || !away(err) {
			return p, err
		}
	}
	// Only a yes outlives its time: who did not exist may have been created since.
	if found && known.Exists && age < m.stale {
		m.metrics.stale.Inc()
		return known, nil
	}
	return peerCopy{}, storeError(err)
}

// ask reads one pair from MySQL, once for all who ask at the same time.
func (m *membership) ask(ctx context.Context, k pair) (peerCopy, error) {
	answer := m.flight.DoChan(k.from.String()+">"+k.to.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.timeout)
		defer cancel()
		p := peerCopy{at: m.now()}
		var err error
		p.Peer, err = m.accounts.Peer(ctx, k.from, k.to)
		m.breaker.done(err == nil || !away(err))
		if err == nil {
			m.peers.Add(k, p)
		}
		return p, err
	})
	select {
	case r := <-answer:
		if r.Err != nil {
			return peerCopy{}, fmt.Errorf("look up recipient: %w", r.Err)
		}
		return r.Val.(peerCopy), nil
	case <-ctx.Done():
		return peerCopy{}, fmt.Errorf("look up recipient: %w", ctx.Err())
	}
}

// window is what a user may see of a conversation: seqs in [first, last]; last 0: no
// upper end. empty: theirs, and nothing in it yet.
type window struct {
	first, last im.Seq
	deletions   uint64 // of single messages, by the user for themselves
	empty       bool
	channel     bool
}

// MaySee returns what u may see of c, im.ErrNotFound where that is nothing ([L5]).
// It asks MySQL each time: a removal is a fence.
func (m *membership) MaySee(ctx context.Context, u im.UserID, c im.ConversationID) (window, error) {
	_, channel := c.Channel()
	if _, mine := c.Peer(u); !mine && !channel {
		return window{}, im.ErrNotFound
	}
	member, err := m.records.Member(ctx, c, u)
	switch {
	case err == nil:
		return windowOf(&member), nil
	case !isNotFound(err):
		return window{}, fmt.Errorf("look up member: %w", storeError(err))
	case channel:
		return window{}, im.ErrNotFound
	}
	return window{empty: true}, m.MayOpen(ctx, u, c)
}

// windowOf is what a member sees.
func windowOf(m *im.Member) window {
	w := window{first: max(m.Join, m.Floor+1), deletions: m.Deletions}
	_, w.channel = m.Conversation.Channel()
	if !m.In() {
		w.last = m.Leave
	}
	return w
}

// again is the window once more, after messages were read through it: who has been
// removed in between sees none beyond their leave notice, and who has come back none of
// between the two ([L12]).
func (m *membership) again(ctx context.Context, u im.UserID, c im.ConversationID, w window) (window, error) {
	if !w.channel || w.last != 0 {
		return w, nil
	}
	now, err := m.MaySee(ctx, u, c)
	if err != nil {
		return w, err
	}
	now.first, now.deletions = max(w.first, now.first), w.deletions
	return now, nil
}

// holds says whether a seq is in the window.
func (w window) holds(seq im.Seq) bool {
	return !w.empty && seq >= w.first && (w.last == 0 || seq <= w.last)
}

// MayOpen returns nil where u could talk in c, though nobody has yet.
func (m *membership) MayOpen(ctx context.Context, u im.UserID, c im.ConversationID) error {
	peer, mine := c.Peer(u)
	switch {
	case !mine:
		return im.ErrNotFound
	case peer == u || peer == im.SystemUser:
		return nil
	}
	p, err := m.peer(ctx, pair{u, peer})
	if err == nil && !p.Exists {
		return im.ErrNotFound
	}
	return err
}
