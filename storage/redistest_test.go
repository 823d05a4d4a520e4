package storage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// redisServer is a Redis that a test may break.
type redisServer struct {
	name  string
	addr  string
	user  string // the engine's; empty on miniredis
	ident func(context.Context) (string, error)
	admin redis.UniversalClient
	mini  *miniredis.Miniredis
	real  *realRedis
	// masters of a cluster; nil: a single server
	masters []*realRedis
}

// flush empties the server, scripts included.
func (s *redisServer) flush(t testing.TB) {
	t.Helper()
	s.each(t, func(ctx context.Context, c *redis.Client) error {
		return errors.Join(c.FlushAll(ctx).Err(), c.ScriptFlush(ctx).Err())
	})
}

func miniServer(t testing.TB) *redisServer {
	t.Helper()
	m := miniredis.RunT(t)
	s := &redisServer{name: "mini", addr: m.Addr(), mini: m,
		ident: func(context.Context) (string, error) { return "mini", nil }}
	s.admin = redis.NewClient(&redis.Options{Addr: m.Addr()})
	stop := make(chan struct{})
	var clock sync.WaitGroup
	clock.Go(func() { // its clock for TTLs stands still by itself
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				m.FastForward(50 * time.Millisecond)
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		clock.Wait()
		_ = s.admin.Close()
	})
	return s
}

// realRedis is a redis-server of the test's own, on a free port.
type realRedis struct {
	addr string
	dir  string
	args []string
	cmd  *exec.Cmd
}

// realServer starts a redis-server with the engine's user of
// scripts/services.d/redis.conf, so that its rights are tested along.
func realServer(t testing.TB, args ...string) *redisServer {
	t.Helper()
	r := newReal(t, t.TempDir(), args...)
	s := &redisServer{name: "real", addr: r.addr, user: "curlew", real: r}
	s.admin = redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() {
		_ = s.admin.Close()
		r.kill()
	})
	r.start(t)
	return s
}

func newReal(t testing.TB, dir string, args ...string) *realRedis {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("no redis-server here")
	}
	r := &realRedis{addr: ports.Free(t), dir: dir, args: args}
	acl := filepath.Join(r.dir, "users.acl")
	if err := os.WriteFile(acl, []byte("user default on nopass ~* &* +@all\n"+engineRights(t)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

func freePort(t testing.TB) string {
	addr := ports.Free(t)
	return addr[strings.LastIndexByte(addr, ':')+1:]
}

// engineRights is the engine's line of the configuration that scripts/services
// starts Redis with.
func engineRights(t testing.TB) string {
	t.Helper()
	f, err := os.Open("../scripts/services.d/redis.conf")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for in := bufio.NewScanner(f); in.Scan(); {
		if line := in.Text(); strings.HasPrefix(line, "user curlew ") {
			return strings.Replace(line, "#@ENGINE_HASH@", ">engine", 1)
		}
	}
	t.Fatal("no user curlew in redis.conf")
	return ""
}

func (r *realRedis) start(t testing.TB) {
	t.Helper()
	args := append([]string{"--bind", "127.0.0.1", "--port", r.addr[strings.LastIndexByte(r.addr, ':')+1:], "--dir", r.dir,
		"--save", "", "--aclfile", filepath.Join(r.dir, "users.acl"), "--logfile", filepath.Join(r.dir, "log")}, r.args...)
	r.cmd = exec.Command("redis-server", args...)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "redis-server answers", func() bool {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		_, _ = c.Write([]byte("PING\r\n"))
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		line, _ := bufio.NewReader(c).ReadString('\n')
		return strings.HasPrefix(line, "+PONG")
	})
}

// kill is a crash.
func (r *realRedis) kill() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
	r.cmd = nil
}

func (r *realRedis) pause()  { _ = r.cmd.Process.Signal(syscall.SIGSTOP) }
func (r *realRedis) resume() { _ = r.cmd.Process.Signal(syscall.SIGCONT) }

// onEach runs a test on miniredis and, where there is one, on a real redis-server and on
// a cluster of them.
func onEach(t *testing.T, test func(t *testing.T, s *redisServer)) {
	t.Run("mini", func(t *testing.T) { test(t, miniServer(t)) })
	t.Run("real", func(t *testing.T) { test(t, realServer(t)) })
	t.Run("cluster", func(t *testing.T) { test(t, clusterServer(t)) })
}

// open connects an engine's Redis to the server; its Run is going.
func (s *redisServer) open(t testing.TB) *Redis {
	t.Helper()
	return s.openAs(t, nil, func(*RedisConfig) {})
}

func (s *redisServer) openAs(t testing.TB, d doubts, change func(*RedisConfig)) *Redis {
	t.Helper()
	cfg := RedisConfig{Addr: s.addr}
	if s.user != "" {
		cfg.Username, cfg.Password = s.user, "engine"
	}
	change(&cfg)
	r, err := OpenRedis(cfg, s.ident, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if d != nil {
		r.WatchDoubts(d)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
		_ = r.Close()
	})
	return r
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never true: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// fakeRecord stands for MySQL: messages with their senders, cursors, uncounted
// rows, rows of doubt.
type fakeRecord struct {
	mu        sync.Mutex
	convs     map[im.ConversationID][]fakeMessage // by seq
	cursors   map[im.UserID]map[im.ConversationID]*im.Member
	uncounted map[im.ConversationID][]im.UncountedSeq
	settings  map[im.UserID]map[im.ConversationID]im.Settings
	channels  map[im.ConversationID]*fakeChannel
	lastID    im.MessageID
	doubt     uint64
	reads     int    // of whole users
	endReads  int    // of ends
	afterRead func() // runs when a whole user has been read and before the answer is used
	fail      error
}

type fakeMessage struct {
	id     im.MessageID
	sender im.UserID
}

func newFakeRecord() *fakeRecord {
	return &fakeRecord{
		convs:     map[im.ConversationID][]fakeMessage{},
		cursors:   map[im.UserID]map[im.ConversationID]*im.Member{},
		uncounted: map[im.ConversationID][]im.UncountedSeq{},
		settings:  map[im.UserID]map[im.ConversationID]im.Settings{},
		channels:  map[im.ConversationID]*fakeChannel{},
		lastID:    1 << 52, // where a double has no bit to spare
	}
}

// member is u's row, made on demand; the caller holds mu.
func (f *fakeRecord) member(u im.UserID, c im.ConversationID) *im.Member {
	if f.cursors[u] == nil {
		f.cursors[u] = map[im.ConversationID]*im.Member{}
	}
	m := f.cursors[u][c]
	if m == nil {
		m = &im.Member{Conversation: c, User: u, Join: 1}
		if isChannel(c) {
			m.Join = 0 // who joins has one
		}
		f.cursors[u][c] = m
	}
	return m
}

// store commits a message and returns what projects it.
func (f *fakeRecord) store(from, to im.UserID, counted im.Uncounted) im.Projection {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := im.DirectConversation(from, to)
	sender, recipient := f.member(from, c), f.member(to, c)
	f.lastID++
	f.convs[c] = append(f.convs[c], fakeMessage{id: f.lastID, sender: from})
	seq := im.Seq(len(f.convs[c]))
	var p im.Projection
	switch counted {
	case im.UncountedForAll:
		p.Uncounted = []im.UncountedSeq{{Conversation: c, Seq: seq}}
	case im.UncountedForSender:
		p.Uncounted = []im.UncountedSeq{{Conversation: c, Seq: seq, User: from}}
	default:
		sender.Read = seq
	}
	f.uncounted[c] = append(f.uncounted[c], p.Uncounted...)
	p.Users = []im.UserRaise{{User: from, State: f.state(from, c)}}
	if to != from {
		p.Users = append(p.Users, im.UserRaise{User: to, State: f.state(to, c), Offline: []im.OfflineEntry{{Seq: seq, ID: f.lastID}}})
	}
	_ = recipient
	return p
}

// ack moves cursors and returns what projects that.
func (f *fakeRecord) ack(u im.UserID, c im.ConversationID, delivered, read im.Seq) im.Projection {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.member(u, c)
	m.Delivered, m.Read = max(m.Delivered, delivered, read), max(m.Read, read)
	p := im.Projection{Users: []im.UserRaise{{User: u, State: f.state(u, c), ClearOffline: m.Delivered}}}
	if peer, ok := c.Peer(u); ok && peer != u {
		p.Users = append(p.Users, im.UserRaise{User: peer, State: f.state(peer, c)})
	}
	return p
}

// state is u's row of c as MySQL would give it; the caller holds mu.
func (f *fakeRecord) state(u im.UserID, c im.ConversationID) im.ConversationState {
	m := f.member(u, c)
	s := im.ConversationState{Conversation: c, Delivered: m.Delivered, Read: m.Read, Join: m.Join, Leave: m.Leave, Floor: m.Floor, Settings: f.settings[u][c]}
	if n := len(f.convs[c]); n > 0 {
		s.LastSeq, s.LastID = im.Seq(n), f.convs[c][n-1].id
	}
	if peer, ok := c.Peer(u); ok {
		if p := f.cursors[peer][c]; p != nil {
			s.PeerDelivered, s.PeerRead = p.Delivered, p.Read
		}
	}
	if isChannel(c) {
		f.channels[c].show(&s, m, f.convs[c])
	}
	for _, r := range f.uncounted[c] {
		if r.User == im.SystemUser || r.User == u {
			s.LastUncounted = max(s.LastUncounted, r.Seq)
		}
	}
	return s
}

func (f *fakeRecord) UserStates(_ context.Context, u im.UserID) ([]im.ConversationState, error) {
	f.mu.Lock()
	f.reads++
	if f.fail != nil {
		defer f.mu.Unlock()
		return nil, f.fail
	}
	var all []im.ConversationState
	for _, c := range slices.Sorted(maps.Keys(f.cursors[u])) {
		all = append(all, f.state(u, c))
	}
	after := f.afterRead
	f.mu.Unlock()
	if after != nil {
		after()
	}
	return all, nil
}

func (f *fakeRecord) UserState(_ context.Context, u im.UserID, c im.ConversationID) (im.ConversationState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return im.ConversationState{}, f.fail
	}
	if f.cursors[u][c] == nil {
		return im.ConversationState{}, im.ErrNotFound
	}
	return f.state(u, c), nil
}

func (f *fakeRecord) Undelivered(_ context.Context, u im.UserID, c im.ConversationID, after im.Seq, limit int) ([]im.OfflineEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	var out []im.OfflineEntry
	for seq := im.Seq(len(f.convs[c])); seq > after && len(out) < limit; seq-- {
		if m := f.convs[c][seq-1]; m.sender != u {
			out = append(out, im.OfflineEntry{Seq: seq, ID: m.id})
		}
	}
	return out, nil
}

func (f *fakeRecord) CountUncounted(_ context.Context, c im.ConversationID, u im.UserID, after, upTo im.Seq) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return 0, f.fail
	}
	seqs := map[im.Seq]bool{}
	for _, r := range f.uncounted[c] {
		if r.Seq > after && r.Seq <= upTo && (r.User == im.SystemUser || r.User == u) {
			seqs[r.Seq] = true
		}
	}
	return uint64(len(seqs)), nil
}

func (f *fakeRecord) UncountedSeqs(_ context.Context, c im.ConversationID, limit int) ([]im.UncountedSeq, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	rows := slices.Clone(f.uncounted[c])
	slices.SortFunc(rows, func(a, b im.UncountedSeq) int { return int(b.Seq) - int(a.Seq) })
	return rows[:min(len(rows), limit)], nil
}

func (f *fakeRecord) noteDoubt() {
	f.mu.Lock()
	f.doubt++
	f.mu.Unlock()
}

func (f *fakeRecord) Doubts(context.Context) (uint64, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.doubt, f.doubt > 0, nil
}

func (f *fakeRecord) ClearDoubts(_ context.Context, upTo uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.doubt <= upTo {
		f.doubt = 0
	}
	return nil
}

// view is everything that the index says about a user.
type view struct {
	List    []im.ConversationState // with Unread
	Total   uint64
	Offline []im.OfflineSource
}

// want is the view that follows from the record.
func (f *fakeRecord) want(u im.UserID) view {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := view{List: []im.ConversationState{}, Offline: []im.OfflineSource{}}
	for c := range f.cursors[u] {
		s := f.state(u, c)
		for seq := s.Base() + 1; seq <= s.Top(); seq++ {
			if !slices.ContainsFunc(f.uncounted[c], func(r im.UncountedSeq) bool {
				return r.Seq == seq && (r.User == im.SystemUser || r.User == u)
			}) {
				s.Unread++
			}
		}
		if s.LastID > 0 && !s.Hidden() {
			v.Total += s.Unread
			v.List = append(v.List, visible(s))
		}
		if isChannel(c) {
			if s.Top() > s.Settled() {
				v.Offline = append(v.Offline, f.channelSource(u, s))
			}
			continue
		}
		o := im.OfflineSource{Conversation: c, Delivered: s.Delivered, LastSeq: s.LastSeq}
		for seq := s.Settled() + 1; seq <= s.LastSeq; seq++ {
			if m := f.convs[c][seq-1]; m.sender != u {
				o.Count, o.LastID = min(o.Count+1, offlineKeep), m.id
			}
		}
		if o.Count > 0 {
			v.Offline = append(v.Offline, o)
		}
	}
	slices.SortFunc(v.List, newestFirst)
	slices.SortFunc(v.Offline, func(a, b im.OfflineSource) int { return int(b.LastID) - int(a.LastID) })
	return v
}

// got is the view that the index gives, the list read page by page.
func got(t testing.TB, x *Index, u im.UserID) view {
	t.Helper()
	v := view{List: []im.ConversationState{}, Offline: []im.OfflineSource{}}
	var before im.MessageID
	for {
		page, err := x.List(t.Context(), u, before, 3)
		if err != nil {
			t.Fatalf("list of %s: %v", u, err)
		}
		for _, s := range page.States {
			v.List = append(v.List, visible(s))
		}
		v.Total = page.UnreadTotal
		if !page.HasMore {
			break
		}
		before = page.States[len(page.States)-1].LastID
	}
	sources, _, err := x.Offline(t.Context(), u, 1000)
	if err != nil {
		t.Fatalf("offline of %s: %v", u, err)
	}
	v.Offline = append(v.Offline, sources...)
	return v
}

// agree fails the test unless the index says what the record says.
func agree(t testing.TB, x *Index, f *fakeRecord, users ...im.UserID) {
	t.Helper()
	for _, u := range users {
		want := f.want(u)
		// Whichever question comes first finds the projection as it is.
		switch rand.IntN(3) {
		case 0:
			for _, w := range want.List {
				row, err := x.Row(t.Context(), u, w.Conversation)
				if err != nil || visible(row) != w {
					t.Fatalf("user %s: %v\n got %+v\nwant %+v", u, err, row, w)
				}
				row.Unread = 0
				if state, err := x.State(t.Context(), u, w.Conversation); err != nil || state != row {
					t.Fatalf("user %s: %v\nstate %+v\n  row %+v", u, err, state, row)
				}
			}
		case 1:
			if n, _, err := x.UnreadTotal(t.Context(), u); err != nil || n.All != want.Total {
				t.Fatalf("user %s: %+v unread, want %d (%v)", u, n, want.Total, err)
			}
		}
		if g, w := got(t, x, u), want; fmt.Sprintf("%+v", g) != fmt.Sprintf("%+v", w) {
			t.Fatalf("user %s\n got %+v\nwant %+v", u, g, w)
		}
		f.unseen(func() { alike(t, x, u) })
	}
}

// unseen runs do without its reads being counted.
func (f *fakeRecord) unseen(do func()) {
	f.mu.Lock()
	reads, ends := f.reads, f.endReads
	f.mu.Unlock()
	do()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads, f.endReads = reads, ends
}

// contents is every key of the server with its value.
func contents(t testing.TB, s *redisServer) map[string]string {
	t.Helper()
	ctx := t.Context()
	all := map[string]string{}
	for _, k := range s.keys(t) {
		switch s.admin.Type(ctx, k).Val() {
		case "hash":
			all[k] = fmt.Sprint(s.admin.HGetAll(ctx, k).Val())
		case "zset":
			all[k] = fmt.Sprintf("%v", s.admin.ZRangeWithScores(ctx, k, 0, -1).Val())
		default:
			all[k] = s.admin.Get(ctx, k).Val()
		}
	}
	return all
}

func project(t testing.TB, p *Projector, pr im.Projection) {
	t.Helper()
	if err := p.Project(t.Context(), pr); err != nil {
		t.Fatal(err)
	}
}
