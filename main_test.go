package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// The tests of this package run the wired engine end to end, on real sockets, through
// the Go client and the public protocol only. They run on embedded stores, and on real
// ones where their addresses are set (see scripts/devtest).

func TestMain(m *testing.M) {
	atStart := goleak.IgnoreCurrent() // what the libraries start by themselves
	code := m.Run()
	devtest.Close()
	removeBinary()
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(atStart); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// engine is an App in this process.
type engine struct {
	*App
	http, socket, admin string
	stop                func() // ends it in good order; stopping twice is fine
}

// startEngine runs an App on the stack's stores until the test ends.
func startEngine(t *testing.T, s *devtest.Stack, change ...func(*configs.Config)) *engine {
	t.Helper()
	return startSteps(t, s, nil, change...)
}

// startSteps is startEngine with a hook between a worker's steps (see jobs.Deps).
func startSteps(t *testing.T, s *devtest.Stack, steps func(string) error, change ...func(*configs.Config)) *engine {
	t.Helper()
	cfg := s.Config()
	for _, f := range change {
		f(cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	name := ""
	for _, r := range cfg.Roles {
		name += string(r)[:1]
	}
	app := &App{cfg: cfg, log: s.Logger(name), reg: prometheus.NewRegistry(), steps: steps}
	if err := app.open(ctx); err != nil {
		cancel()
		t.Fatal(errors.Join(err, app.close()))
	}
	e := &engine{App: app}
	e.http, e.socket, e.admin = app.Addresses()
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("engine ended: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the engine does not stop")
		}
	})
	t.Cleanup(e.stop)
	devtest.Eventually(t, "the engine is ready", func() bool { return answers(e.admin + "/ready") })
	return e
}

// roles makes an engine play only some.
func roles(r ...configs.Role) func(*configs.Config) {
	return func(c *configs.Config) { c.Roles = r }
}

// bridge is where the engines of a test that decide listen for its connectors.
type bridge string

// engine runs an App that plays only some roles, and meets the others over the bridge.
func (b bridge) engine(t *testing.T, s *devtest.Stack, r ...configs.Role) *engine {
	t.Helper()
	return startEngine(t, s, roles(r...), func(c *configs.Config) {
		c.Logic.GRPC.Listen, c.Connector.Upstream.Addresses = string(b), []string{string(b)}
	})
}

// connector starts one in a process of its own.
func (b bridge) connector(t *testing.T, s *devtest.Stack, more map[string]string) *child {
	t.Helper()
	settings := map[string]string{"roles": string(configs.RoleConnector), "connector.upstream.addresses": string(b)}
	maps.Copy(settings, more)
	c := newChild(t, s, settings)
	c.start()
	return c
}

// answers says whether url answers 200.
func answers(url string) bool {
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// serverAPI is a backend's own access to the engine at base.
func serverAPI(base string) *client.HTTP {
	return client.ServerKey(base, devtest.ServerKeyID, devtest.ServerKeySecret)
}

// person is a user, with as many devices as the test lets them have.
type person struct {
	t      *testing.T
	name   string
	id     im.UserID
	base   string // HTTP address
	socket string
	http   *client.HTTP
}

// enrol creates users by the server's key, and logs each in on a device named "http".
func enrol(t *testing.T, base, socket string, names ...string) []*person {
	t.Helper()
	users := make([]protocol.ServerUser, len(names))
	for i, n := range names {
		users[i] = protocol.ServerUser{ExternalID: "ext-" + n, Handle: n, Nickname: strings.ToUpper(n[:1]) + n[1:]}
	}
	var made protocol.ServerProfiles
	again(t, "upsert users", func() (err error) {
		made, err = serverAPI(base).UpsertUsers(t.Context(), users)
		return err
	})
	people := make([]*person, len(names))
	for i, n := range names {
		p := &person{t: t, name: n, id: made.Users[i].ID, base: base, socket: socket}
		token := p.issue("http").AccessToken
		p.http = &client.HTTP{Base: base, Token: func() string { return "Bearer " + token }}
		people[i] = p
	}
	return people
}

// pair is two people on the engine.
func (e *engine) pair(t *testing.T) (a, b *person, conv im.ConversationID) {
	t.Helper()
	p := enrol(t, e.http, e.socket, "ada", "bob")
	return p[0], p[1], im.DirectConversation(p[0].id, p[1].id)
}

// issue logs the person in on a device.
func (p *person) issue(device im.DeviceID) (tokens protocol.Tokens) {
	p.t.Helper()
	again(p.t, "issue tokens", func() (err error) {
		tokens, err = serverAPI(p.base).IssueTokens(context.Background(), protocol.IssueTokens{UserID: &p.id, Device: device})
		return err
	})
	return tokens
}

// again repeats f while what it meets heals by itself.
func again(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	devtest.Eventually(t, what, func() bool {
		err = f()
		var e *protocol.Error
		return err == nil || errors.As(err, &e) && !e.Retryable
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// device is a connected device and all that its application was told.
type device struct {
	*client.Client
	p    *person
	name im.DeviceID
	done chan error
	end  context.CancelFunc

	mu       sync.Mutex // guards what follows
	got      map[im.ConversationID][]im.Message
	receipts []protocol.CursorMoved
	readSelf []protocol.CursorMoved
	syncs    []protocol.Synced
	lost     []error // why connections ended
}

// connect starts a device and waits until the server has accepted it.
func (p *person) connect(name im.DeviceID, change ...func(*client.Options)) *device {
	p.t.Helper()
	d := p.start(name, change...)
	devtest.Eventually(p.t, p.name+"'s "+string(name)+" has connected and synced", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.syncs) > 0
	})
	return d
}

// start starts a device without waiting.
func (p *person) start(name im.DeviceID, change ...func(*client.Options)) *device {
	p.t.Helper()
	d := &device{p: p, name: name, done: make(chan error, 1), got: map[im.ConversationID][]im.Message{}}
	token := p.issue(name).AccessToken
	opt := client.Options{
		Socket: p.socket, Device: name, Platform: "test",
		Token:    func(context.Context) (string, error) { return token, nil },
		RetryMin: 20 * time.Millisecond, RetryMax: 500 * time.Millisecond,
		OnMessage: func(m im.Message) {
			d.mu.Lock()
			d.got[m.Conversation] = append(d.got[m.Conversation], m)
			d.mu.Unlock()
		},
		OnReceipt: func(m protocol.CursorMoved) {
			d.mu.Lock()
			d.receipts = append(d.receipts, m)
			d.mu.Unlock()
		},
		OnReadSelf: func(m protocol.CursorMoved) {
			d.mu.Lock()
			d.readSelf = append(d.readSelf, m)
			d.mu.Unlock()
		},
		OnSync: func(s protocol.Synced) {
			d.mu.Lock()
			d.syncs = append(d.syncs, s)
			d.mu.Unlock()
		},
		OnState: func(up bool, err error) {
			if !up {
				d.mu.Lock()
				d.lost = append(d.lost, err)
				d.mu.Unlock()
			}
		},
	}
	for _, f := range change {
		f(&opt)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.Client, d.end = client.New(opt), cancel
	go func() { d.done <- d.Run(ctx) }()
	p.t.Cleanup(d.leave)
	return d
}

// leave ends the device's connection and its client.
func (d *device) leave() {
	d.end()
	err := <-d.done
	d.done <- err // for who asks again
}

// inbox collects what a device's application is told of one kind.
type inbox[T any] struct {
	mu  sync.Mutex // guards got
	got []T
}

func (in *inbox[T]) add(v T) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.got = append(in.got, v)
}

// all is what was told so far.
func (in *inbox[T]) all() []T {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.got)
}

// texts is what the application was shown of a conversation, in the order shown.
func (d *device) texts(conv im.ConversationID) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]string, len(d.got[conv]))
	for i, m := range d.got[conv] {
		all[i] = textOf(m)
	}
	return all
}

// say sends a text and waits until it is stored.
func (d *device) say(to *person, text string) protocol.Sent {
	d.p.t.Helper()
	o, err := d.SendText(client.ToUser(to.id), text)
	if err != nil {
		d.p.t.Fatal(err)
	}
	return d.p.stored(o)
}

// stored waits for the end of an outgoing message.
func (p *person) stored(o *client.Outgoing) protocol.Sent {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := o.Stored(ctx)
	if err != nil {
		p.t.Fatalf("%s's message: %v", p.name, err)
	}
	return s
}

func (d *device) count(what func(*device) bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return what(d)
}

// row is the person's row of a conversation; the zero row where there is none.
func (p *person) row(conv im.ConversationID) (row protocol.Conversation) {
	p.t.Helper()
	for _, c := range p.list() {
		if c.ConversationID == conv {
			return c
		}
	}
	return row
}

// list is the person's whole conversation list.
func (p *person) list() (all []protocol.Conversation) {
	p.t.Helper()
	before := ""
	for {
		var page protocol.Conversations
		again(p.t, p.name+"'s list", func() (err error) {
			page, err = p.http.Conversations(context.Background(), before, 100)
			return err
		})
		all = append(all, page.Items...)
		if !page.HasMore {
			return all
		}
		before = page.Next
	}
}

// history is the whole conversation as the person sees it.
func (p *person) history(conv im.ConversationID) (all []im.Message) {
	p.t.Helper()
	after := im.Seq(0)
	for {
		var page protocol.Page
		var err error
		again(p.t, p.name+"'s history", func() error {
			page, err = p.http.History(context.Background(), protocol.History{ConversationID: conv, AfterSeq: &after, Limit: 100})
			if client.IsCode(err, "not_found") {
				return nil // nothing was stored yet
			}
			return err
		})
		all = append(all, page.Items...)
		if !page.HasMore || len(page.Items) == 0 {
			return all
		}
		after = all[len(all)-1].Seq
	}
}

// offline is what waits for the person, by conversation.
func (p *person) offline() map[im.ConversationID]protocol.OfflineSource {
	p.t.Helper()
	var got protocol.OfflineSources
	again(p.t, p.name+"'s offline sources", func() (err error) {
		got, err = p.http.Offline(context.Background())
		return err
	})
	m := make(map[im.ConversationID]protocol.OfflineSource)
	for _, s := range got.Items {
		m[s.ConversationID] = s
	}
	return m
}

// want fails the test unless err carries the code.
func want(t *testing.T, code string, err error) {
	t.Helper()
	if !client.IsCode(err, code) {
		t.Errorf("got %v, want %s", err, code)
	}
}

func seqsOf(ms []im.Message) []im.Seq {
	s := make([]im.Seq, len(ms))
	for i, m := range ms {
		s[i] = m.Seq
	}
	return s
}

func seq(n im.Seq) *im.Seq { return &n }

// sequence is from, from+1, … to.
func sequence(from, to im.Seq) (s []im.Seq) {
	for ; from <= to; from++ {
		s = append(s, from)
	}
	return s
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
