package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	auditLists = 50  // offline lists and uncounted sets of one user that are compared
	auditDrift = 200 // differences of one user that are named
	activeRows = 500 // of the last messages, from which active users are drawn
)

// Auditor holds what a sealed Redis says of users against MySQL. It looks twice at
// nothing and waits for nothing: what differs may be on its way (jobs.Auditor).
type Auditor struct {
	*Rebuilder
}

// NewAuditor makes an Auditor that repairs by the Rebuilder.
func NewAuditor(r *Rebuilder) *Auditor { return &Auditor{r} }

// Sample draws at most n users: a half of those who have just been active, the rest
// from all.
func (a *Auditor) Sample(ctx context.Context, n int) ([]im.UserID, error) {
	users, err := a.db.ActiveUsers(ctx, activeRows)
	if err != nil {
		return nil, err
	}
	rand.Shuffle(len(users), func(i, j int) { users[i], users[j] = users[j], users[i] })
	users = users[:min(len(users), (n+1)/2)]
	last, err := a.db.LastUser(ctx)
	if err != nil || last == 0 {
		return users, err
	}
	rest, err := a.db.UserIDs(ctx, im.UserID(rand.Uint64N(uint64(last))), n-len(users))
	for _, u := range rest {
		if !slices.Contains(users, u) {
			users = append(users, u)
		}
	}
	return users, err
}

// Doubtful says that a worker could not project something, and no new generation stands
// for it yet.
func (a *Auditor) Doubtful(ctx context.Context) (bool, error) {
	_, any, err := a.db.Doubts(ctx)
	return any, err
}

// Reset sets a new generation.
func (a *Auditor) Reset(ctx context.Context) error {
	return a.x.redis.gen.reset(ctx, a.x.redis, "audit")
}

// held is what Redis holds of a user, read at one instant.
type held struct {
	gen     im.Generation
	states  map[im.ConversationID]im.ConversationState
	convs   map[im.ConversationID]uint64
	vers    map[im.ConversationID]uint64
	merged  map[im.ConversationID]uint64
	offline map[im.ConversationID]uint64 // nil: not sealed
	laid    map[im.ConversationID]bool   // merged at read: the end of the channel is laid over the state
}

// Compare reads both sides.
func (a *Auditor) Compare(ctx context.Context, u im.UserID) (im.Comparison, error) {
	h, sealed, err := a.read(ctx, u)
	if err != nil || !sealed {
		return im.Comparison{}, err
	}
	rows, err := a.x.record.UserStates(ctx, u)
	if err != nil {
		return im.Comparison{}, fmt.Errorf("audit user %s: %w", u, err)
	}
	c := &comparer{user: u, held: h, out: im.Comparison{Sealed: true, Generation: h.gen}}
	if err := a.layBoth(ctx, h, rows); err != nil {
		return im.Comparison{}, err
	}
	c.states(rows)
	c.indexes()
	if err := a.lists(ctx, c, rows); err != nil {
		return im.Comparison{}, fmt.Errorf("audit user %s: %w", u, err)
	}
	return c.out, nil
}

// read takes what Redis holds, if its readers trust it.
func (a *Auditor) read(ctx context.Context, u im.UserID) (h *held, sealed bool, err error) {
	opCtx, done := a.x.redis.op(ctx, "audit")
	defer done()
	token := getGeneration(opCtx)
	reads := [][]any{{"hgetall", stateKey(u)}, {"hgetall", settingsKey(u)}}
	for _, key := range []string{convsKey(u), versKey(u), mergedKey(u), offlineKey(u)} {
		reads = append(reads, []any{"zrange", key, "0", "-1", "withscores"})
	}
	instant, err := a.x.redis.instant(opCtx, token, reads...)
	if err != nil {
		return nil, false, fmt.Errorf("audit user %s: %w", u, cacheError(err))
	}
	h = &held{gen: im.Generation(token.Val())}
	var own map[string]string
	h.states, own, err = unpackAll(instant[0])
	if err != nil {
		return nil, false, fmt.Errorf("audit user %s: %w", u, err)
	}
	settings := instant[1]
	if h.gen == "" || own[fieldSeal] != string(h.gen) || slices.Contains(settings, fieldOpen) || addSettings(settings, h.gen, h.states) != nil {
		return nil, false, nil
	}
	for i, to := range []*map[im.ConversationID]uint64{&h.convs, &h.vers, &h.merged, &h.offline} {
		ranks, sealed := ranksOf(instant[2+i], h.gen)
		switch {
		case sealed:
			*to = ranks
		case to != &h.offline:
			return nil, false, nil
		}
	}
	return h, true, nil
}

// ranksOf reads a sealed sorted set with its scores.
func ranksOf(reply []string, gen im.Generation) (ranks map[im.ConversationID]uint64, sealed bool) {
	ranks = make(map[im.ConversationID]uint64, len(reply)/2)
	for ; len(reply) >= 2; reply = reply[2:] {
		if reply[0][0] == '~' {
			sealed = sealed || reply[0] == "~"+string(gen)
			continue
		}
		score, _ := strconv.ParseFloat(reply[1], 64) // whole, and below 2^53
		ranks[im.ConversationID(reply[0])] = uint64(score)
	}
	return ranks, sealed
}

// layBoth lays the ends of merged channels over both sides, each its own.
func (a *Auditor) layBoth(ctx context.Context, h *held, rows []im.ConversationState) error {
	h.laid = make(map[im.ConversationID]bool)
	var convs []im.ConversationID
	add := func(s im.ConversationState) {
		if s.Merged && s.In() && !slices.Contains(convs, s.Conversation) {
			convs = append(convs, s.Conversation)
		}
	}
	for _, s := range h.states { // one that is dissolved has members in Redis alone
		h.laid[s.Conversation] = s.Merged && s.In()
		add(s)
	}
	for _, r := range rows {
		add(r)
	}
	if len(convs) == 0 {
		return nil
	}
	ends, _, err := a.x.ends(ctx, h.gen, convs)
	if err != nil {
		return err
	}
	truth, err := a.x.record.ChannelEnds(ctx, convs)
	if err != nil {
		return err
	}
	for c, s := range h.states {
		h.states[c] = layEnd(s, ends[c])
	}
	for i := range rows {
		rows[i] = layEnd(rows[i], truth[rows[i].Conversation])
	}
	return nil
}

// lists compares the offline lists and the counts of what does not count.
func (a *Auditor) lists(ctx context.Context, c *comparer, rows []im.ConversationState) error {
	left := auditLists
	for _, r := range rows {
		h, known := c.held.states[r.Conversation]
		if !known || left == 0 {
			continue
		}
		listed := c.held.offline[r.Conversation] > 0
		waits := c.held.offline != nil && !isChannel(r.Conversation) && (listed || r.LastSeq > r.Settled())
		counts := r.LastUncounted > r.Base() && r.Base() < r.Top()
		if waits || counts {
			left--
		}
		if waits {
			if err := a.list(ctx, c, &r, listed); err != nil {
				return err
			}
		}
		if !counts || h.LastUncounted != r.LastUncounted || h.Base() != r.Base() || h.Top() != r.Top() {
			continue
		}
		counted, err := a.x.countUncounted(ctx, c.user, c.held.gen, []span{{r.Conversation, r.Base(), r.Top()}})
		if err != nil {
			return err
		}
		truth, err := a.x.record.CountUncounted(ctx, r.Conversation, c.user, r.Base(), r.Top())
		if err != nil {
			return err
		}
		c.differ(r.Conversation, im.DriftCount, counted[0], truth)
	}
	return nil
}

// list compares one offline list, entry by entry.
func (a *Auditor) list(ctx context.Context, c *comparer, r *im.ConversationState, listed bool) error {
	opCtx, done := a.x.redis.op(ctx, "audit")
	defer done()
	key := offlineListKey(c.user, r.Conversation)
	seal := getSeal(opCtx, key)
	entries := redis.NewStringSliceCmd(opCtx, "zrevrangebyscore", key, "+inf", "0", "withscores", "limit", 0, offlineKeep)
	if err := a.x.redis.exec(opCtx, seal, entries); err != nil {
		return cacheError(err)
	}
	if listed && !slices.Contains(seal.Val(), "~"+string(c.held.gen)) {
		return nil // its readers complete it
	}
	truth, err := a.x.record.Undelivered(ctx, c.user, r.Conversation, r.Settled(), offlineKeep)
	if err != nil {
		return err
	}
	slices.SortFunc(truth, func(x, y im.OfflineEntry) int { return int(int64(y.Seq) - int64(x.Seq)) })
	got, want := make([]string, 0, len(truth)), make([]string, 0, len(truth))
	newest := uint64(0)
	for v := entries.Val(); len(v) >= 2; v = v[2:] {
		got = append(got, v[1]+":"+v[0])
	}
	for _, e := range truth {
		newest = max(newest, uint64(e.ID))
		want = append(want, strconv.FormatUint(uint64(e.Seq), 10)+":"+e.ID.String())
	}
	c.differ(r.Conversation, im.DriftOffline, c.held.offline[r.Conversation], newest)
	if !slices.Equal(got, want) {
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		say := func(all []string) string {
			return fmt.Sprintf("%d entries, from %s", len(all), append(all, "none")[i])
		}
		c.add(r.Conversation, im.DriftOffline, say(got), say(want))
	}
	return nil
}
