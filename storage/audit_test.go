package storage

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

// compare is what an audit of u finds at rest.
func compare(t testing.TB, x *Index, u im.UserID) im.Comparison {
	t.Helper()
	c, err := (&Auditor{&Rebuilder{x: x}}).Compare(t.Context(), u)
	if err != nil {
		t.Fatalf("compare user %s: %v", u, err)
	}
	return c
}

// alike fails the test where an audit finds drift; a Redis that does not answer says
// nothing.
func alike(t testing.TB, x *Index, u im.UserID) {
	t.Helper()
	c, err := (&Auditor{&Rebuilder{x: x}}).Compare(t.Context(), u)
	if err != nil && !errors.Is(err, im.ErrCache) {
		t.Fatalf("compare user %s: %v", u, err)
	}
	if len(c.Drift) > 0 {
		t.Fatalf("user %s drifts: %+v", u, c.Drift)
	}
}

// auditWorld is Bob's: one-to-ones with Ann (undelivered, with uncounted rows and
// settings) and Eve (read), a channel that is written and one that is merged at read.
func auditWorld(t *testing.T, s *redisServer) (*Index, *fakeRecord) {
	t.Helper()
	f := newFakeRecord()
	r := s.open(t)
	x, p := NewIndex(r, f), NewProjector(r)
	for range 5 {
		project(t, p, f.store(ann, bob, im.CountedForAll))
	}
	project(t, p, f.store(ann, bob, im.UncountedForAll))
	project(t, p, f.store(eve, bob, im.CountedForAll))
	project(t, p, f.ack(bob, im.DirectConversation(bob, eve), 1, 1))
	change(t, NewSettings(r, f), bob, im.DirectConversation(ann, bob), im.SettingsChange{MutedUntil: ptr(int64(1 << 45))})
	for c, merged := range map[im.ConversationID]bool{"c5": false, "c6": true} {
		f.channel(c, merged)
		project(t, p, f.join(c, true, ann, bob))
		project(t, p, f.say(c, ann, im.CountedForAll, bob))
		project(t, p, f.say(c, ann, im.UncountedForAll, 0))
	}
	agree(t, x, f, ann, bob, eve)
	if c := compare(t, x, bob); !c.Sealed {
		t.Fatal("nothing to compare")
	}
	return x, f
}

// seeded is a lie in each field that an audit knows, told behind the engine's back.
func seeded(t *testing.T, s *redisServer) map[string]struct {
	field im.DriftField
	lie   func()
} {
	direct, ctx := im.DirectConversation(ann, bob), t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// number sets the i-th packed number of a conversation in a hash to what it is plus by.
	number := func(key string, c im.ConversationID, i int, by int64) func() {
		return func() {
			packed, err := s.admin.HGet(ctx, key, string(c)).Result()
			must(err)
			n := strings.Split(packed, " ")
			n[i] = fmt.Sprint(int64(parseNumber(n[i])) + by)
			must(s.admin.HSet(ctx, key, string(c), strings.Join(n, " ")).Err())
		}
	}
	do := func(args ...any) func() { return func() { must(s.admin.Do(ctx, args...).Err()) } }
	type lie = struct {
		field im.DriftField
		lie   func()
	}
	newest := s.admin.ZRevRange(ctx, offlineListKey(bob, direct), 0, 0).Val()
	if len(newest) == 0 {
		t.Fatal("nothing is undelivered")
	}
	return map[string]lie{
		"last seq too high":        {im.DriftLast, number(stateKey(bob), direct, 0, 3)},
		"last seq too low":         {im.DriftLast, number(stateKey(bob), direct, 0, -1)},
		"last ID":                  {im.DriftLast, number(stateKey(bob), direct, 1, 1)},
		"last change":              {im.DriftChange, number(stateKey(bob), direct, 2, 4)},
		"read":                     {im.DriftCursor, number(stateKey(bob), direct, 3, 2)},
		"delivered":                {im.DriftCursor, number(stateKey(bob), "c5", 4, 1)},
		"join":                     {im.DriftInterval, number(stateKey(bob), direct, 5, 1)},
		"leave":                    {im.DriftInterval, number(stateKey(bob), "c5", 6, 1)},
		"joined":                   {im.DriftInterval, number(stateKey(bob), "c5", 13, 1)},
		"floor":                    {im.DriftFloor, number(stateKey(bob), direct, 7, 1)},
		"other side's read":        {im.DriftPeer, number(stateKey(bob), direct, 8, 1)},
		"other side's delivered":   {im.DriftPeer, number(stateKey(bob), direct, 9, 1)},
		"last uncounted":           {im.DriftUncounted, number(stateKey(bob), direct, 10, -6)},
		"mention":                  {im.DriftMention, number(stateKey(bob), "c5", 11, 1)},
		"deletions":                {im.DriftDeletions, number(stateKey(bob), direct, 12, 1)},
		"merged":                   {im.DriftMerged, number(stateKey(bob), "c5", 14, 1)},
		"mute":                     {im.DriftSettings, number(settingsKey(bob), direct, 2, 7)},
		"a conversation is lost":   {im.DriftState, do("hdel", stateKey(bob), string(direct))},
		"a conversation too many":  {im.DriftState, do("hset", stateKey(bob), "d7-99", packState(im.ConversationState{Conversation: "d7-99", LastSeq: 1, LastID: 9}))},
		"not in the list":          {im.DriftList, do("zrem", convsKey(bob), string(direct))},
		"elsewhere in the list":    {im.DriftList, do("zadd", convsKey(bob), 12, string(direct))},
		"listed and unknown":       {im.DriftList, do("zadd", convsKey(bob), 12, "d7-98")},
		"without a version":        {im.DriftVersion, do("zrem", versKey(bob), string(direct))},
		"not among the merged":     {im.DriftMerged, do("zrem", mergedKey(bob), "c6")},
		"not a source":             {im.DriftOffline, do("zrem", offlineKey(bob), string(direct))},
		"a channel is no source":   {im.DriftOffline, do("zrem", offlineKey(bob), "c5")},
		"an undelivered is lost":   {im.DriftOffline, do("zrem", offlineListKey(bob, direct), newest[0])},
		"one undelivered too many": {im.DriftOffline, do("zadd", offlineListKey(bob, direct), 3, "12345")},
		"an uncounted row is lost": {im.DriftCount, do("zrem", uncountedKey(direct), "6")},
		"one uncounted too many":   {im.DriftCount, do("zadd", uncountedKey(direct), 2, "2")},
		"the end of a channel": {im.DriftEnd, func() {
			kept, err := s.admin.Get(ctx, endKey("c6")).Result()
			must(err)
			n := strings.SplitN(kept, " ", 2)
			must(s.admin.Set(ctx, endKey("c6"), fmt.Sprint(parseNumber(n[0])+5)+" "+n[1], redis.KeepTTL).Err())
		}},
	}
}

func TestAudit_FindsEachLieOfASealedRedisAndRepairsIt(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		x, f := auditWorld(t, s)
		b := &Rebuilder{x: x}
		told := map[im.DriftField]bool{}
		for _, name := range slices.Sorted(maps.Keys(seeded(t, s))) {
			lie := seeded(t, s)[name]
			told[lie.field] = true
			lie.lie()
			c := compare(t, x, bob)
			found := slices.ContainsFunc(c.Drift, func(d im.Drift) bool { return d.Field == lie.field })
			if !c.Sealed || !found {
				t.Errorf("%s: %+v", name, c)
			}
			if again := compare(t, x, bob); fmt.Sprint(sorted(again.Drift)) != fmt.Sprint(sorted(c.Drift)) {
				t.Errorf("%s: looked at twice it is %+v and %+v", name, c.Drift, again.Drift)
			}
			for _, d := range c.Drift {
				if d.Field.OfConversation() {
					must(t, b.RebuildConversation(t.Context(), d.Conversation))
				}
			}
			must(t, x.rebuildFromNothing(t.Context(), bob))
			if c := compare(t, x, bob); !c.Sealed || len(c.Drift) > 0 {
				t.Fatalf("%s: after the repair %+v", name, c)
			}
			agree(t, x, f, bob)
		}
		for _, field := range im.DriftFields {
			if !told[field] {
				t.Errorf("no lie is told about %s", field)
			}
		}
	})
}

func sorted(drift []im.Drift) []im.Drift {
	return slices.SortedFunc(slices.Values(drift), func(a, b im.Drift) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
}

// What nobody trusts is not compared: its readers complete it first.
func TestAudit_ComparesOnlyWhatIsTrusted(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		x, f := auditWorld(t, s)
		for _, key := range []string{stateKey(bob), convsKey(bob), versKey(bob), mergedKey(bob), settingsKey(bob), keyGeneration} {
			must(t, s.admin.Del(t.Context(), key).Err())
			if c := compare(t, x, bob); c.Sealed || len(c.Drift) > 0 {
				t.Errorf("without %s: %+v", key, c)
			}
			agree(t, x, f, bob)
		}
		cutShort(t, x.redis, f, bob, im.DirectConversation(ann, bob), 0, im.SettingsChange{MutedUntil: ptr(int64(5))})
		if c := compare(t, x, bob); c.Sealed {
			t.Errorf("while a change of settings is under way: %+v", c)
		}
	})
}

// A message that is written between a rebuild's reading and the drop is in neither: that
// rebuild must not be believed.
func TestRebuild_BegunBeforeADropSealsNothing(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		x, f := auditWorld(t, s)
		p := NewProjector(x.redis)
		must(t, x.redis.Reset(t.Context()))
		gen, err := x.redis.gen.ensure(t.Context(), x.redis)
		must(t, err)
		read, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		f.mu.Lock()
		f.afterRead = func() {
			f.mu.Lock()
			f.afterRead = nil
			f.mu.Unlock()
			close(read)
			<-goOn
		}
		f.mu.Unlock()
		go func() { ended <- x.rebuildUser(t.Context(), bob, gen, false) }()
		<-read
		project(t, p, f.store(ann, bob, im.CountedForAll))
		f.mu.Lock()
		f.fail = im.ErrStore // so that nothing is built after the drop
		f.mu.Unlock()
		if err := x.rebuildFromNothing(t.Context(), bob); !errors.Is(err, im.ErrStore) {
			t.Fatal(err)
		}
		close(goOn)
		if err := <-ended; !errors.Is(err, errDropped) {
			t.Errorf("the rebuild that had read before: %v", err)
		}
		f.mu.Lock()
		f.fail = nil
		f.mu.Unlock()
		if c := compare(t, x, bob); c.Sealed {
			t.Errorf("sealed: %+v", c)
		}
		agree(t, x, f, bob)
	})
}

func TestRebuild_OfOneKeepsTheNoteOfWhatIsBeingSet(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		x, f := auditWorld(t, s)
		cutShort(t, x.redis, f, bob, im.DirectConversation(ann, bob), 0, im.SettingsChange{MutedUntil: ptr(int64(5))})
		must(t, x.rebuildFromNothing(t.Context(), bob))
		if s.admin.HGet(t.Context(), settingsKey(bob), fieldOpen).Val() == "" {
			t.Error("the note of the change is gone")
		}
		agree(t, x, f, bob)
	})
}
