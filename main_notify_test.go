package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/jobs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

const hookSecret = "4d0f7a1c95be83620d9c1f5e7ab34826"

// receiver takes notifications as an application's backend does.
type receiver struct {
	url string

	mu     sync.Mutex // guards what follows
	got    []jobs.Notification
	calls  int
	status int // of the answer; 0: 200
	wrong  []string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	t.Cleanup(func() {
		for _, w := range r.wrong {
			t.Error(w)
		}
	})
	r.url = s.URL + "/hook"
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	mac := hmac.New(sha256.New, []byte(hookSecret))
	fmt.Fprintf(mac, "%s.%s", req.Header.Get("Curlew-Timestamp"), body)
	var call struct{ Notifications []jobs.Notification }
	err := json.Unmarshal(body, &call)
	r.mu.Lock()
	defer r.mu.Unlock()
	if req.Header.Get("Curlew-Signature") != "v1="+hex.EncodeToString(mac.Sum(nil)) || err != nil || req.Header.Get("Idempotency-Key") == "" {
		r.wrong = append(r.wrong, fmt.Sprintf("not ours: %v %s", req.Header, body))
	}
	r.calls++
	if r.status != 0 && r.status != http.StatusOK {
		w.WriteHeader(r.status)
		return
	}
	r.got = append(r.got, call.Notifications...)
}

// answers from now on with that status.
func (r *receiver) answers(status int) {
	r.mu.Lock()
	r.status = status
	r.mu.Unlock()
}

// heard is what was taken, in any order, without repeats.
func (r *receiver) heard() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.got {
		all = append(all, fmt.Sprintf("%s: %s", n.Token, n.Preview))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// hears waits until exactly these were taken.
func (r *receiver) hears(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	devtest.Eventually(t, fmt.Sprint("the receiver has ", want), func() bool { return len(r.heard()) >= len(want) })
	if got := r.heard(); !slices.Equal(got, want) {
		t.Errorf("the receiver has %q, want %q", got, want)
	}
}

func (r *receiver) last() jobs.Notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[len(r.got)-1]
}

// wired has an engine notify r, and try again soon.
func (r *receiver) wired(c *configs.Config) {
	c.Jobs.Notify.Webhook = jobs.WebhookConfig{URL: r.url, Secret: hookSecret}
	c.Jobs.Retry.BackoffMin, c.Jobs.Retry.BackoffMax = 10*time.Millisecond, 100*time.Millisecond
}

// reachable gives the person's device "http" a token.
func (p *person) reachable() {
	p.t.Helper()
	must(p.t, p.http.SetPush(p.t.Context(), "fcm", "token-of-"+p.name))
}

func TestNotify_WhoIsNotConnectedIsTold(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	e := startEngine(t, devtest.Start(t), r.wired)
	ada, bob, conv := e.pair(t)
	adas := ada.connect("phone")
	ada.reachable()
	adas.say(bob, "before he has a token")
	settle(t, e.admin)
	bob.reachable()
	sent := adas.say(bob, "one")
	r.hears(t, "token-of-bob: one")
	n := r.last()
	if n.User != bob.id || n.Device != "http" || n.Provider != "fcm" || n.Conversation != conv || n.Seq != sent.Seq || n.MessageID != *sent.MessageID ||
		n.Sender.ID != ada.id || n.Sender.Nickname != "Ada" || n.Type != im.TypeText || n.Badge != 2 || n.Mentioned {
		t.Errorf("%+v", n)
	}

	// Connected, on any device, he is pushed to; away again he is told.
	bobs := bob.connect("tablet")
	adas.say(bob, "two")
	devtest.Eventually(t, "Bob has two", func() bool { return slices.Contains(bobs.texts(conv), "two") })
	bobs.leave()
	devtest.Eventually(t, "Bob is away", func() bool {
		seen, err := ada.http.Presence(t.Context(), bob.id)
		return err == nil && len(seen) == 1 && !seen[0].Online
	})
	adas.say(bob, "three")
	r.hears(t, "token-of-bob: one", "token-of-bob: three")

	// Muted he is not; nor by what he reads, or what was recalled.
	forever, never := im.MutedForever, int64(0)
	_, err := bob.http.ChangeSettings(t.Context(), conv, protocol.ChangeSettings{MutedUntil: &forever})
	must(t, err)
	adas.say(bob, "four")
	settle(t, e.admin)
	_, err = bob.http.ChangeSettings(t.Context(), conv, protocol.ChangeSettings{MutedUntil: &never})
	must(t, err)
	adas.say(bob, "five")
	r.hears(t, "token-of-bob: one", "token-of-bob: three", "token-of-bob: five")
	if n := r.last(); n.Badge < 3 {
		t.Errorf("badge %d", n.Badge)
	}

	// The token moves with the device to another user; a logout ends it.
	must(t, ada.http.SetPush(t.Context(), "fcm", "token-of-bob"))
	adas.say(bob, "six")
	settle(t, e.admin)
	bob.reachable() // takes it back
	adas.say(bob, "seven")
	want := []string{"token-of-bob: one", "token-of-bob: three", "token-of-bob: five", "token-of-bob: seven"}
	r.hears(t, want...)
	must(t, bob.http.Do(t.Context(), http.MethodPost, "/v1/auth/logout", nil, nil))
	adas.say(bob, "eight")
	settle(t, e.admin)
	token := bob.issue("http").AccessToken
	bob.http = &client.HTTP{Base: bob.base, Token: func() string { return "Bearer " + token }}
	adas.say(bob, "nine")
	settle(t, e.admin)
	bob.reachable()
	adas.say(bob, "ten")
	r.hears(t, append(want, "token-of-bob: ten")...)
	must(t, bob.http.ClearPush(t.Context()))
	adas.say(bob, "eleven")
	settle(t, e.admin)
	r.hears(t, append(want, "token-of-bob: ten")...)
}

// settle waits until the log has nothing left to do: what is asked of the lane retry is
// there before the message's own record is done.
func settle(t *testing.T, operator string) {
	t.Helper()
	for _, lane := range []im.Lane{im.LaneRealtime, im.LaneRetry} {
		devtest.Eventually(t, "nothing is left in lane "+string(lane), func() bool {
			var lag admin.Lag
			r := call{method: http.MethodGet, path: "/v1/admin/lag"}.do(t, operator, "")
			if json.Unmarshal(r.body, &lag) != nil || len(lag.Partitions) == 0 {
				return false
			}
			return !slices.ContainsFunc(lag.Partitions, func(p admin.PartitionLag) bool { return p.Lane == lane && p.Records > 0 })
		})
	}
}

func TestNotify_AGroupsMembersAreToldOfWhatIsSaidThere(t *testing.T) {
	t.Parallel()
	for name, mergeAbove := range map[string]int{"written": 500, "merged": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			e := startEngine(t, devtest.Start(t), r.wired, func(c *configs.Config) { c.Jobs.MergeAbove = mergeAbove })
			p := enrol(t, e.http, e.socket, "ada", "bob", "cal", "dan")
			for _, one := range p {
				one.reachable()
			}
			ada, bob, cal := p[0], p[1], p[2]
			g := ada.found("waders", im.JoinClosed, bob, cal)
			cals := cal.connect("phone")
			ada.tell(g.MainChannelID, "all")
			send := protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToConversation(g.MainChannelID),
				Content: []byte(`{"text":"@bob"}`), Mentions: []im.UserID{bob.id, cal.id}}
			_, err := ada.http.Send(t.Context(), send, true)
			must(t, err)
			devtest.Eventually(t, "Cal hears it", func() bool { return slices.Contains(cals.texts(g.MainChannelID), "@bob") })
			if mergeAbove < 0 {
				r.hears(t, "token-of-bob: @bob")
			} else {
				r.hears(t, "token-of-bob: @bob", "token-of-bob: all")
			}
			if n := r.last(); n.User != bob.id || n.Preview == "@bob" && !n.Mentioned {
				t.Errorf("%+v", n)
			}
		})
	}
}

// What the receiver does not take is not lost with the process that tried, and what it
// says is gone is forgotten.
func TestNotify_RetriesSurviveAKill(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.answers(http.StatusServiceUnavailable)
	c := newChild(t, devtest.Start(t), ownStores())
	for k, v := range map[string]string{"jobs.notify.webhook.url": r.url, "jobs.notify.webhook.secret": hookSecret,
		"jobs.retry.backoff_min": "50ms", "jobs.retry.backoff_max": "300ms", "jobs.retry.attempts": "1000"} {
		c.settings[k] = v
	}
	c.start()
	p := enrol(t, c.http(), c.socket(), "ada", "bob")
	ada, bob := p[0], p[1]
	operator := "http://" + c.settings["admin.listen"]
	bob.reachable()
	var want []string
	for life := range 3 {
		for i := range 10 {
			text := fmt.Sprintf("life %d, %d", life, i)
			want = append(want, "token-of-bob: "+text)
			_, err := ada.http.Send(t.Context(), textTo(bob.id, text), true)
			must(t, err)
		}
		r.mu.Lock()
		before := r.calls
		r.mu.Unlock()
		devtest.Eventually(t, "it is tried again and again", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.calls > before+5
		})
		c.kill()
		c.start()
	}
	if got := r.heard(); len(got) > 0 {
		t.Fatalf("taken: %v", got)
	}
	r.answers(http.StatusOK)
	r.hears(t, want...)

	settle(t, operator)
	r.answers(http.StatusGone)
	_, err := ada.http.Send(t.Context(), textTo(bob.id, "gone"), true)
	must(t, err)
	devtest.Eventually(t, "the token is removed", func() bool {
		return metric(operator, `curlew_jobs_notifications_total{result="gone"}`) == "1"
	})
	r.answers(http.StatusOK)
	_, err = ada.http.Send(t.Context(), textTo(bob.id, "to no token"), true)
	must(t, err)
	settle(t, operator)
	bob.reachable()
	_, err = ada.http.Send(t.Context(), textTo(bob.id, "last"), true)
	must(t, err)
	r.hears(t, append(want, "token-of-bob: last")...)
}
