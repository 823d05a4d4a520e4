package logic

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const nobody im.UserID = 404

// met is a world where ann may see bob and bob may see ann, and eve nobody.
func met() *world {
	w := talked()
	w.friends[pair{ann, bob}], w.friends[pair{bob, ann}] = true, true
	w.presence[bob] = im.Presence{User: bob, Online: true, Platforms: []string{"ios", "web"}}
	w.presence[eve] = im.Presence{User: eve, Online: true}
	w.presence[ann] = im.Presence{User: ann}
	return w
}

func TestPresence_IsShownToWhoMaySeeIt(t *testing.T) { // [L9]
	w := met()
	w.friends[pair{ann, ann}] = true
	w.lastSeen[ann] = w.now.UnixMilli() - 5000
	s := w.service(t, Config{})
	got, err := s.Presence(t.Context(), annsPhone, []im.UserID{eve, bob, ann, nobody, bob})
	if err != nil {
		t.Fatal(err)
	}
	want := []protocol.Presence{{UserID: eve}, {UserID: bob, Online: true, Platforms: []string{"ios", "web"}},
		{UserID: ann, LastSeen: w.now.UnixMilli() - 5000}, {UserID: nobody}}
	if fmt.Sprint(got.Items) != fmt.Sprint(want) {
		t.Errorf("got %+v", got.Items)
	}
	w.blocked[pair{ann, bob}] = true
	if got, err := s.Presence(t.Context(), annsPhone, []im.UserID{bob}); err != nil || fmt.Sprint(got.Items) != fmt.Sprint([]protocol.Presence{{UserID: bob}}) {
		t.Errorf("blocked: %+v (%v)", got, err)
	}
}

func TestPresence_LastSeenIsTheLatestKnownAndNotInTheFuture(t *testing.T) {
	w := met()
	s := w.service(t, Config{})
	now := w.now.UnixMilli()
	for _, c := range []struct{ redis, mysql, want int64 }{
		{0, 0, 0}, {now - 9, 0, now - 9}, {0, now - 8, now - 8}, {now - 9, now - 8, now - 8}, {now - 7, now - 8, now - 7}, {now + 50, now - 8, now}, {0, now + 60, now},
	} {
		w.presence[bob], w.lastSeen[bob] = im.Presence{User: bob, SeenAt: c.redis}, c.mysql
		got, err := s.Presence(t.Context(), annsPhone, []im.UserID{bob})
		if err != nil || got.Items[0].LastSeen != c.want || got.Items[0].Online {
			t.Errorf("%+v: %+v (%v)", c, got, err)
		}
	}
}

func TestPresence_RefusesWhatItCannotAnswer(t *testing.T) {
	many := make([]im.UserID, im.MaxPresenceAsked+1)
	for name, c := range map[string]struct {
		users []im.UserID
		prep  func(*world)
		code  string
	}{
		"nobody":      {nil, nil, "invalid_request"},
		"too many":    {many, nil, "invalid_request"},
		"MySQL away":  {[]im.UserID{bob}, func(w *world) { w.fail["Visible"] = im.ErrStore }, "store_unavailable"},
		"MySQL hangs": {[]im.UserID{bob}, func(w *world) { w.hang["Visible"] = true }, "store_unavailable"},
		"Redis away":  {[]im.UserID{bob}, func(w *world) { w.fail["Presence"] = im.ErrCache }, "cache_unavailable"},
		"too often":   {[]im.UserID{bob}, func(w *world) { w.take = func(int) (int, time.Duration) { return 0, time.Second } }, "rate_limited"},
	} {
		w := met()
		if c.prep != nil {
			c.prep(w)
		}
		_, err := w.service(t, Config{StoreTimeout: 100 * time.Millisecond}).Presence(t.Context(), annsPhone, c.users)
		if err == nil || protocol.CodeOf(err).Name != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPresenceCommand_SaysWhatToWatch(t *testing.T) {
	w := met()
	s := w.service(t, Config{})
	for _, c := range []struct {
		in, reply, watch string
	}{
		{`{"users":["9","11"],"subscribe":true}`, `{"items":[{"user_id":"9","online":true,"platforms":["ios","web"]},{"user_id":"11","online":false}]}`, "[{9 +ios,web false}]"},
		{`{"users":["9"]}`, `{"items":[{"user_id":"9","online":true,"platforms":["ios","web"]}]}`, "[]"},
		{`{"users":["9","11","9"],"subscribe":false}`, `{"items":[{"user_id":"9","online":true,"platforms":["ios","web"]},{"user_id":"11","online":false}]}`, "[{9  true} {11  true}]"},
		{`{"users":[]}`, "", "[]"},
		{`{"users":"9"}`, "", "[]"},
	} {
		a := ask(t, s, `{"id":"1","cmd":"presence","data":`+c.in+`}`)
		if c.reply != "" && string(a.Frame) != `{"id":"1","data":`+c.reply+`}` || c.reply == "" && !strings.Contains(string(a.Frame), "invalid_request") {
			t.Errorf("%s\n got %s", c.in, a.Frame)
		}
		if got := fmt.Sprint(a.Watch); got != c.watch {
			t.Errorf("%s: watch %s, want %s", c.in, got, c.watch)
		}
	}
}

// typed is what was published of typing, as "n1:9 on".
func (w *world) typed(t *testing.T) (all []string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, batches := range w.batches {
		for node, b := range batches {
			deliveries, err := protocol.DecodeDeliveries(b)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range deliveries {
				var push struct{ Data protocol.TypingNow }
				if err := json.Unmarshal(d.Frame, &push); err != nil || push.Data.ExpiresMS != 6000 || push.Data.UserID != ann || push.Data.ConversationID != "d7-9" {
					t.Errorf("%s", d.Frame)
				}
				all = append(all, fmt.Sprint(node, ":", d.Users, " ", push.Data.On))
			}
		}
	}
	w.batches = nil
	slices.Sort(all)
	return all
}

func types(on bool) string {
	return fmt.Sprintf(`{"id":"1","cmd":"typing","data":{"conversation_id":"d7-9","on":%v}}`, on)
}

func TestTyping_GoesToTheNodesOfTheOtherSide(t *testing.T) {
	w := met()
	w.sessions[bob] = []im.SessionRef{{User: bob, Session: "a", Node: "n1"}, {User: bob, Session: "b", Node: "n2"}, {User: bob, Session: "c", Node: "n1"}}
	s := w.service(t, Config{})
	if a := ask(t, s, types(true)); string(a.Frame) != `{"id":"1","data":{"conversation_id":"d7-9","on":true}}` {
		t.Errorf("%s", a.Frame)
	}
	if got := fmt.Sprint(w.typed(t)); got != "[n1:[9] true n2:[9] true]" {
		t.Errorf("published %s", got)
	}
	if len(w.produced()) != 0 {
		t.Error("typing reached the log")
	}
}

func TestTyping_IsToldOnceASecondAndEndsAsItWasSaid(t *testing.T) {
	w := met()
	w.sessions[bob] = []im.SessionRef{{User: bob, Session: "a", Node: "n1"}}
	s := w.service(t, Config{})
	flush := func() {
		for k, said := range s.typing.due(s.now()) {
			s.tellTyping(t.Context(), k.conv, said.from, said.on)
		}
	}
	step := func(what, want string, pass time.Duration, say ...bool) {
		t.Helper()
		w.pass(pass)
		flush()
		for _, on := range say {
			ask(t, s, types(on))
		}
		if got := fmt.Sprint(w.typed(t)); got != want {
			t.Errorf("%s: published %s, want %s", what, got, want)
		}
	}
	step("nothing to end", "[]", 0, false)
	step("again and again", "[n1:[9] true]", 0, true, true, true)
	step("still within the second", "[]", 900*time.Millisecond, true)
	step("after it", "[n1:[9] true]", 200*time.Millisecond, true)
	step("ended within the second", "[]", 300*time.Millisecond, false, true, false)
	step("told at its end", "[n1:[9] false]", 700*time.Millisecond)
	step("ended twice", "[]", 2*time.Second, false)
	step("on, off, on within the second", "[n1:[9] true]", 2*time.Second, true, false, true)
	step("which was told already", "[]", 2*time.Second)
	step("ended later", "[n1:[9] false]", 0, false)
	for range 500 {
		ask(t, s, types(true))
		ask(t, s, types(false))
	}
	step("a flood", "[]", 0)
	step("ends as the last said", "[]", 2*time.Second)
}

func TestTyping_IsRefusedOrNotTold(t *testing.T) {
	for name, c := range map[string]struct {
		prep  func(*world)
		conv  string
		reply string
	}{
		"not one's own":       {nil, "d9-11", `"code":"not_found"`},
		"nobody":              {nil, "d7-404", `"code":"not_found"`},
		"blocked":             {func(w *world) { w.blocked[pair{ann, bob}] = true }, "d7-9", `"code":"blocked"`},
		"a stranger":          {nil, "d7-11", `"data"`},
		"oneself":             {nil, "d7-7", `"data"`},
		"no conversation":     {nil, "x", `"code":"invalid_request"`},
		"nobody can say":      {func(w *world) { w.fail["Visible"] = im.ErrStore }, "d7-9", `"data"`},
		"Redis away":          {func(w *world) { w.fail["Sessions"] = im.ErrCache }, "d7-9", `"data"`},
		"the other is not on": {func(w *world) { w.sessions[bob] = nil }, "d7-9", `"data"`},
	} {
		w := met()
		for _, u := range []im.UserID{ann, bob, eve} {
			w.sessions[u] = []im.SessionRef{{User: u, Session: "s", Node: "n1"}}
		}
		if c.prep != nil {
			c.prep(w)
		}
		a := ask(t, w.service(t, Config{}), `{"id":"1","cmd":"typing","data":{"conversation_id":"`+c.conv+`","on":true}}`)
		if !strings.Contains(string(a.Frame), c.reply) || len(w.batches) != 0 {
			t.Errorf("%s: %s, published %v", name, a.Frame, w.batches)
		}
	}
}

func TestSeen_IsWrittenAtEachEndAndNowAndThenBetween(t *testing.T) {
	w := met()
	s := w.service(t, Config{})
	marked := func(want int, what string) {
		t.Helper()
		s.seen.flush(t.Context())
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.marked) != want {
			t.Errorf("%s: %d times written, want %d", what, len(w.marked), want)
		}
		w.marked = nil
	}
	connect(t, s, `{"id":"1","cmd":"connect","data":{"token":"good","device":"phone"}}`)
	marked(1, "connected")
	for range 11 {
		w.pass(25 * time.Second)
		ask(t, s, `{"id":"1","cmd":"ping"}`)
	}
	marked(0, "pings of 5 minutes")
	w.pass(25 * time.Second)
	ask(t, s, `{"id":"1","cmd":"ping"}`)
	marked(1, "the next ping")
	s.Left(annsSession)
	s.Left(annsSession)
	w.fail["MarkSeen"] = im.ErrStore
	marked(0, "MySQL away")
	delete(w.fail, "MarkSeen")
	s.seen.flush(t.Context())
	if len(w.marked) != 1 || w.marked[0] != (im.DeviceSeen{User: ann, Device: "phone", At: w.now.UnixMilli()}) {
		t.Errorf("written %+v", w.marked)
	}
}

func TestRevocations_AreToldOnceEachInWhateverOrderTheyAreCommitted(t *testing.T) { // [L7]
	w := newWorld()
	w.revoking = []im.Revocation{{ID: 3, User: ann}}
	s := w.service(t, Config{})
	var told []uint64
	s.revoked.poll(t.Context())
	if w.count("Revocations") != 0 {
		t.Error("read though nobody listens")
	}
	s.OnRevoked(func(all []im.Revocation) {
		for _, r := range all {
			told = append(told, r.ID)
		}
	})
	for _, ids := range [][]uint64{{}, {5, 6}, {4, 7}, {}} {
		w.set(func() {
			for _, id := range ids {
				w.revoking = append(w.revoking, im.Revocation{ID: id, User: ann})
			}
			slices.SortFunc(w.revoking, func(a, b im.Revocation) int { return int(a.ID) - int(b.ID) })
		})
		s.revoked.poll(t.Context())
	}
	if fmt.Sprint(told) != "[3 5 6 4 7]" {
		t.Errorf("told %v", told)
	}
	w.fail["Revocations"] = im.ErrStore
	s.revoked.poll(t.Context())
	delete(w.fail, "Revocations")
	w.set(func() {
		for id := uint64(8); id < 3000; id++ {
			w.revoking = append(w.revoking, im.Revocation{ID: id, User: bob})
		}
	})
	told = nil
	s.revoked.poll(t.Context())
	if len(told) != 2992 {
		t.Errorf("told %d of 2992", len(told))
	}
	s.revoked.forget(t.Context(), time.Now().Add(time.Minute))
	if len(s.revoked.told) != 0 || s.revoked.floor != 2999 {
		t.Errorf("kept %d above %d", len(s.revoked.told), s.revoked.floor)
	}
}

func TestConnect_PolicyMakesRoomForTheNewerDevice(t *testing.T) {
	for _, c := range []struct {
		policy im.DevicePolicy
		room   bool
	}{{im.DevicesAll, false}, {im.DevicesOnePerPlatform, true}, {im.DevicesOne, true}} {
		w := newWorld()
		for i := range 10 {
			w.sessions[ann] = append(w.sessions[ann], im.SessionRef{User: ann, Device: im.DeviceID(fmt.Sprint("d", i)), Platform: fmt.Sprint("p", i%8)})
		}
		a := connect(t, w.service(t, Config{DevicePolicy: c.policy}), `{"id":"1","cmd":"connect","data":{"token":"good","device":"phone","platform":"p1"}}`)
		if (a.Session != nil) != c.room || c.room && (a.Session.Policy != c.policy || a.Session.Since != w.now.UnixMilli()) {
			t.Errorf("%s: %+v %s", c.policy, a.Session, a.Frame)
		}
	}
	if err := (Config{DevicePolicy: "two"}).Validate(); err == nil || !strings.Contains(err.Error(), "logic.device_policy") {
		t.Errorf("%v", err)
	}
}
