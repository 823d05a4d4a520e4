package storage

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

type keyRow struct {
	pattern *regexp.Regexp
	name    string
	kind    string
	ttl     bool
	seen    bool
}

// keyTable reads the table out of the comment in keys.go.
func keyTable(t *testing.T) []*keyRow {
	t.Helper()
	source, err := os.ReadFile("keys.go")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^//\t(im:\S+)\s+(hash|zset|string|channel)\s+(.*?)\s+(none\S|[0-9]+ (?:ms|s|min|h|d)|to full|-)\s+(\S.*)$`)
	var rows []*keyRow
	for _, m := range row.FindAllStringSubmatch(string(source), -1) {
		pattern := regexp.QuoteMeta(m[1])
		for _, v := range []string{"<uid>", "<conv>", "<hash>", "<bucket>", "<node>"} {
			pattern = strings.ReplaceAll(pattern, v, `[^{}]+`)
		}
		rows = append(rows, &keyRow{pattern: regexp.MustCompile("^" + pattern + "$"), name: m[1], kind: m[2], ttl: !strings.HasPrefix(m[4], "none")})
	}
	if n := strings.Count(string(source), "//\tim:"); n != len(rows) {
		t.Fatalf("%d of the table's %d rows can be read", len(rows), n)
	}
	return rows
}

// Everything the code writes is in the table of keys.go, with its type and TTL,
// and everything in the table is written.
func TestKeys_TableIsTrue(t *testing.T) {
	s := realServer(t)
	f := newFakeRecord()
	r := s.openAs(t, f, func(*RedisConfig) {})
	ctx := t.Context()
	x, p, routes := NewIndex(r, f), NewProjector(r), NewRoutes(r)
	pr := f.store(ann, bob, im.UncountedForAll)
	pr.Ends = []im.ChannelEnd{{Conversation: "c5", LastSeq: 1}}
	pr.Hints = []im.Hint{{Key: im.SendKey{Conversation: "d7-9", Sender: ann, ClientMsgID: "abcdefgh"}}}
	project(t, p, pr)
	agree(t, x, f, bob)
	if _, err := routes.Register(ctx, []im.SessionRef{session(ann, "phone", "s", "n")}, 0); err != nil {
		t.Fatal(err)
	}
	if err := routes.Watch(ctx, "n", []im.UserID{ann}); err != nil {
		t.Fatal(err)
	}
	if err := routes.MoveRooms(ctx, "n", []im.ConversationID{"c5"}, nil); err != nil {
		t.Fatal(err)
	}
	people := &fakePeople{all: map[im.UserID]im.Profile{}}
	people.rename(ann, "ann", "Ann")
	if _, err := openProfiles(t, s, people).Profiles(ctx, []im.UserID{ann}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewLimits(r).Take(ctx, "send:7", 1, 0.01, 10); err != nil {
		t.Fatal(err)
	}
	if err := NewPools(r, nil).ReportPools(ctx, []im.PoolReport{{Process: "p", Lane: im.LaneRealtime}}); err != nil {
		t.Fatal(err)
	}
	rows := keyTable(t)
	check := func(key string) {
		kind, ttl := s.admin.Type(ctx, key).Val(), s.admin.PTTL(ctx, key).Val()
		if kind == "none" {
			return // expired meanwhile
		}
		for _, row := range rows {
			if row.pattern.MatchString(key) {
				row.seen = true
				if kind != row.kind || (ttl > 0) != row.ttl {
					t.Errorf("%s is a %s with TTL %s; the table's %s says otherwise", key, kind, ttl, row.name)
				}
				return
			}
		}
		t.Errorf("%s is not in the table", key)
	}
	f.noteDoubt()
	eventually(t, "the doubt's lease is seen", func() bool { return s.admin.Exists(ctx, keyDoubt).Val() == 1 })
	for _, key := range s.keys(t) {
		check(key)
	}
	for _, row := range rows {
		if !row.seen && row.kind != "channel" && row.name != keyDoubt {
			t.Errorf("nothing writes %s", row.name)
		}
	}
	var channel bool
	for _, row := range rows {
		channel = channel || row.kind == "channel" && row.pattern.MatchString(nodeChannel("n"))
	}
	if !channel {
		t.Error("the node's channel is not in the table")
	}
}

// The keys of a user share a slot, so do those of a conversation, and nothing that
// a client names can bring braces in.
func TestKeys_HashTags(t *testing.T) {
	tag := regexp.MustCompile(`^im:[^{]*\{([^{}]+)\}[^{}]*$`)
	for want, keys := range map[string][]string{
		"u7":     {stateKey(7), convsKey(7), versKey(7), settingsKey(7), mergedKey(7), offlineKey(7), offlineListKey(7, "d7-9"), sessionsKey(7), watchersKey(7), profileKey(7)},
		"d7-9":   {uncountedKey("d7-9"), sentKey(im.SendKey{Conversation: "d7-9", Sender: 7, ClientMsgID: "abcdefgh"})},
		"send:7": {limitKey("send:7")},
	} {
		for _, k := range keys {
			if m := tag.FindStringSubmatch(k); m == nil || m[1] != want {
				t.Errorf("%s has not the tag %s", k, want)
			}
		}
	}
	for want, key := range map[string]string{"c5": roomKey("c5"), "c6": endKey("c6"), "n": nodeRoomsKey("n")} {
		if m := tag.FindStringSubmatch(key); m == nil || m[1] != want {
			t.Errorf("%s has not the tag %s", key, want)
		}
	}
	if m := tag.FindStringSubmatch(limitKey("login:{x}")); m == nil || len(m[1]) != 32 {
		t.Errorf("a bucket's name reached its key: %s", limitKey("login:{x}"))
	}
}

func TestState_PacksAndUnpacks(t *testing.T) {
	all := im.ConversationState{Conversation: "d7-9", LastSeq: 1, LastID: im.MaxID, LastChange: 3, Delivered: 4, Read: 5, Join: 6,
		Leave: 7, Floor: 8, PeerDelivered: 9, PeerRead: 10, LastUncounted: im.MaxID, LastMention: 11, Deletions: 12}
	channel := all
	channel.Conversation, channel.Joined, channel.Merged = "c9", 13, true
	for _, s := range []im.ConversationState{{Conversation: "d7-9"}, {Conversation: "c9"}, all, channel} {
		if got, err := unpackState(s.Conversation, packState(s)); err != nil || got != s {
			t.Errorf("%+v became %+v (%v)", s, got, err)
		}
	}
	if got, err := unpackState("c9", packState(all)); err != nil || got.Joined != 0 || got.Merged || got.Deletions != 12 {
		t.Errorf("what was written before groups became %+v (%v)", got, err)
	}
	if got, err := unpackState("d7-9", "1 2 3 4 5 6 7 8 9 10 11"); err != nil || got.LastUncounted != 11 || got.LastMention != 0 {
		t.Errorf("what was written before changes became %+v (%v)", got, err)
	}
	for _, bad := range []string{"", "1", "1 2 3 4 5 6 7 8 9 10 ", "1 2 3 4 5 6 7 8 9 10 11 12", " 1 2 3 4 5 6 7 8 9 10 11", "1 2 3 4 5 6 7 8 9 10 -1",
		"1 2 3 4 5 6 7 8 9 10 11 12 13 14", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"} {
		if _, err := unpackState("d7-9", bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestEnd_PacksAndUnpacks(t *testing.T) {
	e := im.ChannelEnd{Conversation: "c9", LastSeq: 1, LastID: im.MaxID, LastChange: 3, LastUncounted: 4, LastMention: 5, Closed: 6, MovedAt: 7}
	if got, seal, ok := unpackEnd("c9", packEnd(&e)+" 7 SEAL"); !ok || seal != "SEAL" || got != e {
		t.Errorf("%+v became %+v, %q, %v", e, got, seal, ok)
	}
	if _, seal, ok := unpackEnd("c9", packEnd(&e)+" 7 "); !ok || seal != "" {
		t.Errorf("without a seal: %q, %v", seal, ok)
	}
	for _, bad := range []string{"", " ", "1 2 3 4 5 6", "1 2 3 4 5 6 x", "1 2 3 4 5 6 7 8 x"} {
		if _, _, ok := unpackEnd("c9", bad); ok {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestRedisConfig_Validate(t *testing.T) {
	if err := (RedisConfig{}).WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
	for field, c := range map[string]RedisConfig{
		"storage.redis.database":      {Database: -1},
		"storage.redis.pool_size":     {PoolSize: 1},
		"storage.redis.timeout":       {Timeout: time.Minute},
		"storage.redis.rebuilds":      {Rebuilds: -1},
		"storage.redis.profile_cache": {ProfileCache: 1},
	} {
		if err := c.WithDefaults().Validate(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
