package storage

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func on(platform string, since int64, policy im.DevicePolicy, s im.SessionRef) im.SessionRef {
	s.Platform, s.Since, s.Policy = platform, since, policy
	return s
}

func register(t *testing.T, r *Routes, perUser int, all ...im.SessionRef) im.RouteChange {
	t.Helper()
	c, err := r.Register(t.Context(), all, perUser)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func renew(t *testing.T, r *Routes, s im.SessionRef) im.RouteChange {
	t.Helper()
	c, err := r.Renew(t.Context(), s.Node, []im.SessionRef{s})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func names(refs []im.SessionRef) string {
	var all []string
	for _, r := range refs {
		all = append(all, string(r.Session)+"@"+string(r.Node))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestRoutes_PoliciesLeaveThePlaceToTheNewest(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := NewRoutes(s.open(t))
		for u, c := range map[im.UserID]struct {
			policy im.DevicePolicy
			gone   string
			stay   string
		}{
			21: {im.DevicesAll, "", "s1@n1 s2@n2 s3@n2"},
			22: {im.DevicesOnePerPlatform, "s1@n1", "s2@n2 s3@n2"},
			23: {im.DevicesOne, "s1@n1 s2@n2", "s3@n2"},
		} {
			first := on("ios", 100, c.policy, session(u, "phone", "s1", "n1"))
			second := on("web", 200, c.policy, session(u, "laptop", "s2", "n2"))
			third := on("ios", 300, c.policy, session(u, "tablet", "s3", "n2"))
			var gone []im.SessionRef
			for _, ref := range []im.SessionRef{first, second, third} {
				gone = append(gone, register(t, r, 0, ref).Replaced...)
			}
			if got := names(gone); got != c.gone {
				t.Errorf("%s: replaced %q, want %q", c.policy, got, c.gone)
			}
			// The kicks got lost: each old session hears of it when it is renewed. Nor does it
			// come back when Redis has forgotten everything, whoever is first.
			for range 2 {
				var lost []im.SessionRef
				for _, ref := range []im.SessionRef{third, first, second} {
					lost = append(lost, renew(t, r, ref).Refused...)
				}
				if got := names(lost); got != c.gone {
					t.Errorf("%s: refused %q, want %q", c.policy, got, c.gone)
				}
				if got := names(sessionsOf(t, r, u)); got != c.stay {
					t.Errorf("%s: %q stay, want %q", c.policy, got, c.stay)
				}
				s.flush(t)
			}
			var ended []im.SessionRef
			for _, ref := range []im.SessionRef{first, second, third} {
				x := renew(t, r, ref)
				ended = append(ended, append(x.Replaced, x.Refused...)...)
			}
			if got := names(ended); got != c.gone {
				t.Errorf("%s: after a flush, the oldest first: ended %q, want %q", c.policy, got, c.gone)
			}
		}
	})
}

func TestRoutes_BoundOfDevicesHoldsOverNodes(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := NewRoutes(s.open(t))
		ref := func(i int) im.SessionRef {
			return session(ann, im.DeviceID(fmt.Sprint("d", i)), im.SessionID(fmt.Sprint("s", i)), im.NodeID(fmt.Sprint("n", i%3)))
		}
		for i := range 5 {
			c := register(t, r, 3, ref(i))
			if (len(c.Refused) == 1) != (i >= 3) {
				t.Errorf("session %d: %+v", i, c)
			}
		}
		again := session(ann, "d1", "s9", "n2")
		if c := register(t, r, 3, again); len(c.Refused) != 0 || names(c.Replaced) != "s1@n1" {
			t.Errorf("a device that is there: %+v", c)
		}
		if n := len(sessionsOf(t, r, ann)); n != 3 {
			t.Errorf("%d sessions", n)
		}
	})
}

func TestPresence_FollowsSessionsAndLeases(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := NewRoutes(s.open(t))
		of := func(u im.UserID) im.Presence {
			t.Helper()
			r.mu.Lock()
			r.asked = r.asked.Add(-nodesFresh) // leases as they are now
			r.mu.Unlock()
			all, err := r.Presence(t.Context(), []im.UserID{u})
			if err != nil {
				t.Fatal(err)
			}
			return all[u]
		}
		if p := of(ann); p.Online || p.SeenAt != 0 || p.State() != "" {
			t.Errorf("never there: %+v", p)
		}
		phone, web := on("ios", 1, "", session(ann, "phone", "s1", "n1")), on("web", 2, "", session(ann, "web", "s2", "n2"))
		register(t, r, 0, phone, web)
		if p := of(ann); !p.Online || p.State() != "+ios,web" || !reflect.DeepEqual(p.Nodes, []im.NodeID{"n1", "n2"}) || p.SeenAt != 0 {
			t.Errorf("on two: %+v", p)
		}
		if _, err := r.Remove(t.Context(), []im.SessionRef{phone}); err != nil {
			t.Fatal(err)
		}
		if p := of(ann); p.State() != "+web" {
			t.Errorf("on one: %+v", p)
		}
		// The other's node dies.
		if err := s.admin.ZAddArgs(t.Context(), keyNodes, zaddOne(1, "n2")).Err(); err != nil {
			t.Fatal(err)
		}
		now := s.admin.Time(t.Context()).Val().UnixMilli()
		if live, err := r.LiveNodes(t.Context()); err != nil || live["n2"] || !live["n1"] {
			t.Errorf("live: %v (%v)", live, err)
		}
		if p := of(ann); p.Online || p.SeenAt == 0 || p.SeenAt > now || p.SeenAt < now-10_000 {
			t.Errorf("killed: %+v at %d", p, now)
		}
		s.flush(t)
		if p := of(ann); p.Online || p.SeenAt != 0 {
			t.Errorf("forgotten: %+v", p)
		}
		renew(t, r, web)
		if p := of(ann); !p.Online {
			t.Errorf("entered anew: %+v", p)
		}
	})
}

func TestWatch_ChangesNameTheNodesThatWatch(t *testing.T) {
	onEach(t, func(t *testing.T, s *redisServer) {
		r := NewRoutes(s.open(t))
		ctx := t.Context()
		phone, web := on("ios", 1, "", session(ann, "phone", "s1", "n1")), on("web", 2, "", session(ann, "web", "s2", "n2"))
		watching := func(want string, got map[im.NodeID][]im.UserID) {
			t.Helper()
			var all []string
			for n, users := range got {
				all = append(all, fmt.Sprint(n, users))
			}
			slices.Sort(all)
			if text := strings.Join(all, " "); text != want {
				t.Errorf("told %q, want %q", text, want)
			}
		}
		removed := func(refs ...im.SessionRef) map[im.NodeID][]im.UserID {
			t.Helper()
			w, err := r.Remove(ctx, refs)
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		watching("", register(t, r, 0, phone).Watchers)
		watching("", removed(phone))
		for _, node := range []im.NodeID{"n7", "n8", "n7"} {
			if err := r.Watch(ctx, node, []im.UserID{ann, bob}); err != nil {
				t.Fatal(err)
			}
		}
		watching("n7[7] n8[7]", register(t, r, 0, phone).Watchers)
		watching("", register(t, r, 0, phone).Watchers) // nothing has changed
		watching("", renew(t, r, phone).Watchers)
		watching("n7[7 9] n8[7 9]", register(t, r, 0, web, session(bob, "phone", "s3", "n1")).Watchers)
		watching("n7[7] n8[7]", removed(web))
		watching("", removed(web)) // gone before
		if err := r.Unwatch(ctx, "n8", []im.UserID{ann}); err != nil {
			t.Fatal(err)
		}
		watching("n7[7]", removed(phone))
		// Who does not watch any more and did not say so.
		if err := s.admin.ZAddArgs(ctx, watchersKey(ann), zaddOne(1, "n7")).Err(); err != nil {
			t.Fatal(err)
		}
		watching("", register(t, r, 0, phone).Watchers)
		if err := r.Watch(ctx, "n9", []im.UserID{ann}); err != nil {
			t.Fatal(err)
		}
		if n := s.admin.ZCard(ctx, watchersKey(ann)).Val(); n != 1 {
			t.Errorf("%d watchers are kept", n)
		}
	})
}
