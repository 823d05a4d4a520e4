package storage

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

func session(u im.UserID, d im.DeviceID, s im.SessionID, n im.NodeID) im.SessionRef {
	return im.SessionRef{User: u, Device: d, Session: s, Node: n}
}

func sessionsOf(t *testing.T, r *Routes, u im.UserID) []im.SessionRef {
	t.Helper()
	all, err := r.Sessions(t.Context(), []im.UserID{u, u + 1})
	if err != nil {
		t.Fatal(err)
	}
	out := all[u]
	slices.SortFunc(out, func(a, b im.SessionRef) int { return strings.Compare(string(a.Device), string(b.Device)) })
	return out
}

func TestRoutes_NewestSessionOfADeviceStays(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := NewRoutes(s.open(t))
		ctx := t.Context()
		phone, laptop := session(ann, "phone", "s1", "n1"), session(ann, "laptop", "s2", "n1")
		taken := session(ann, "phone", "s3", "n2")
		if c, err := r.Register(ctx, []im.SessionRef{phone, laptop}, 0); err != nil || len(c.Replaced) != 0 {
			t.Fatal(c, err)
		}
		if c, err := r.Register(ctx, []im.SessionRef{phone}, 0); err != nil || len(c.Replaced) != 0 {
			t.Fatal("a session replaced itself:", c, err)
		}
		if c, err := r.Register(ctx, []im.SessionRef{taken}, 0); err != nil || !slices.Equal(c.Replaced, []im.SessionRef{phone}) {
			t.Fatal(c, err)
		}
		want := []im.SessionRef{laptop, taken}
		if got := sessionsOf(t, r, ann); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		// The old session renews and closes late: neither touches the new one's entry.
		if c, err := r.Renew(ctx, "n1", []im.SessionRef{phone, laptop}); err != nil || !slices.Equal(c.Refused, []im.SessionRef{phone}) {
			t.Fatal("it is not told that another has its place:", c, err)
		}
		if _, err := r.Remove(ctx, []im.SessionRef{phone}); err != nil {
			t.Fatal(err)
		}
		if got := sessionsOf(t, r, ann); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if _, err := r.Remove(ctx, []im.SessionRef{taken, laptop}); err != nil {
			t.Fatal(err)
		}
		if got := sessionsOf(t, r, ann); len(got) != 0 {
			t.Fatalf("after remove: %v", got)
		}
	})
}

func TestRoutes_RenewRestoresWhatRedisLost(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := NewRoutes(s.open(t))
		phone := session(ann, "phone", "s1", "n1")
		if _, err := r.Register(t.Context(), []im.SessionRef{phone}, 0); err != nil {
			t.Fatal(err)
		}
		s.flush(t)
		if _, err := r.Renew(t.Context(), "n1", []im.SessionRef{phone}); err != nil {
			t.Fatal(err)
		}
		if got := sessionsOf(t, r, ann); !slices.Equal(got, []im.SessionRef{phone}) {
			t.Fatalf("got %v", got)
		}
	})
}

func TestRoutes_EntriesOfADeadNodeAreIgnored(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := NewRoutes(s.open(t))
		dead, live := session(ann, "phone", "s1", "dead"), session(ann, "laptop", "s2", "live")
		if _, err := r.Register(t.Context(), []im.SessionRef{dead, live}, 0); err != nil {
			t.Fatal(err)
		}
		if err := s.admin.ZAddArgs(t.Context(), keyNodes, zaddOne(1, "dead")).Err(); err != nil { // its lease has run out
			t.Fatal(err)
		}
		if got := sessionsOf(t, r, ann); !slices.Equal(got, []im.SessionRef{live}) {
			t.Fatalf("got %v", got)
		}
		// A node that starts is known at once, not when the copy is a second old.
		fresh := session(bob, "phone", "s3", "fresh")
		if _, err := NewRoutes(r.redis).Register(t.Context(), []im.SessionRef{fresh}, 0); err != nil {
			t.Fatal(err)
		}
		if got := sessionsOf(t, r, bob); !slices.Equal(got, []im.SessionRef{fresh}) {
			t.Fatalf("got %v", got)
		}
	})
}

func TestRoutes_EntryNotRenewedEnds(t *testing.T) {
	s := miniServer(t)
	now := time.Now()
	s.mini.SetTime(now)
	r := NewRoutes(s.open(t))
	phone, laptop := session(ann, "phone", "s1", "n1"), session(ann, "laptop", "s2", "n2")
	if _, err := r.Register(t.Context(), []im.SessionRef{phone, laptop}, 0); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		now = now.Add(25 * time.Second)
		s.mini.SetTime(now)
		s.mini.FastForward(25 * time.Second)
		if _, err := r.Renew(t.Context(), "n2", []im.SessionRef{laptop}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Renew(t.Context(), "n1", nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := sessionsOf(t, r, ann); !slices.Equal(got, []im.SessionRef{laptop}) {
		t.Fatalf("got %v", got)
	}
}
