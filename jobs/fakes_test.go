package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// chance decides about faults; safe for concurrent use.
type chance struct {
	mu  sync.Mutex
	rng *rand.Rand
	off bool
}

func newChance(seed uint64) *chance { return &chance{rng: rand.New(rand.NewPCG(seed, 7))} }

func (c *chance) hits(p float64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.off && c.rng.Float64() < p
}

func (c *chance) intn(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

func (c *chance) stop() {
	c.mu.Lock()
	c.off = true
	c.mu.Unlock()
}

// world is MySQL, Redis and the sockets, in memory, with the store's real rules: the
// three unique keys, all or none, cursors that only rise.
type world struct {
	chance *chance
	faults float64 // of any call

	mu       sync.Mutex
	rows     map[im.ConversationID][]im.Message
	keys     map[im.SendKey]im.StoredRef
	ids      map[im.MessageID]bool
	known    map[im.ConversationID][]im.UserID
	cursors  map[memberKey]im.CursorMove
	dead     map[[2]int64]im.DeadLetter
	deadKeys map[im.SendKey]im.StoredRef
	poison   func(im.Message) error
	doubts   int
	leases   [im.MessageNodes]string

	changes   map[im.ConversationID][]im.StoredChange
	changed   map[im.ChangeKey]im.ChangeRef
	reactions map[im.ReactionKey]uint64
	former    map[im.Place][]im.FormerContent
	deleted   map[memberKey][]im.Hidden
	uncounted map[im.UncountedSeq]bool // in MySQL
	indexed   map[im.UncountedSeq]bool // in Redis

	fakeGroups

	states   map[memberKey]im.ConversationState
	offline  map[memberKey]map[im.Seq]im.MessageID
	sessions map[im.UserID][]im.SessionRef
	pushed   []protocol.Delivery
	wrong    []string // what must never happen
	calls    map[string]int
}

func newWorld(seed uint64) *world {
	return &world{
		fakeGroups: newFakeGroups(),
		chance:     newChance(seed), rows: make(map[im.ConversationID][]im.Message), keys: make(map[im.SendKey]im.StoredRef),
		changes: make(map[im.ConversationID][]im.StoredChange), changed: make(map[im.ChangeKey]im.ChangeRef),
		reactions: make(map[im.ReactionKey]uint64), former: make(map[im.Place][]im.FormerContent), deleted: make(map[memberKey][]im.Hidden),
		uncounted: make(map[im.UncountedSeq]bool), indexed: make(map[im.UncountedSeq]bool),
		ids: make(map[im.MessageID]bool), known: make(map[im.ConversationID][]im.UserID), cursors: make(map[memberKey]im.CursorMove),
		dead: make(map[[2]int64]im.DeadLetter), deadKeys: make(map[im.SendKey]im.StoredRef), states: make(map[memberKey]im.ConversationState),
		offline: make(map[memberKey]map[im.Seq]im.MessageID), sessions: make(map[im.UserID][]im.SessionRef), calls: make(map[string]int),
	}
}

// enter counts a call and may fail it with the store's errors.
func (w *world) enter(op string) error {
	w.mu.Lock()
	w.calls[op]++
	w.mu.Unlock()
	switch {
	case w.chance.hits(w.faults):
		return fmt.Errorf("%s: gone away: %w", op, im.ErrStore)
	case w.chance.hits(w.faults / 4):
		return errors.New(op + ": something unheard of")
	}
	return nil
}

func (w *world) wrongf(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

func (w *world) InsertMessages(ctx context.Context, rows []im.Message) error {
	if err := w.enter("insert"); err != nil {
		return err
	}
	for _, m := range rows {
		if w.poison == nil {
			break
		}
		if err := w.poison(m); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	next := make(map[im.ConversationID]im.Seq)
	for _, m := range rows {
		key := im.SendKey{Conversation: m.Conversation, Sender: m.Sender.ID, ClientMsgID: m.ClientMsgID}
		if _, ok := w.keys[key]; ok {
			return &im.DuplicateError{Key: im.DuplicateClientMsgID, Cause: errors.New("dup")}
		}
		if _, ok := next[m.Conversation]; !ok {
			next[m.Conversation] = im.Seq(len(w.rows[m.Conversation]))
		}
		next[m.Conversation]++
		switch want := next[m.Conversation]; {
		case m.Seq < want:
			return &im.DuplicateError{Key: im.DuplicateSeq, Cause: errors.New("dup")}
		case m.Seq > want:
			w.wrongf("hole: %s got seq %d after %d", m.Conversation, m.Seq, want-1)
		}
		if w.ids[m.ID] {
			return &im.DuplicateError{Key: im.DuplicateMessageID, Cause: errors.New("dup")}
		}
		if w.known[m.Conversation] == nil && w.channels[m.Conversation] == nil {
			w.wrongf("%s got a message before its rows", m.Conversation)
		}
	}
	for _, m := range rows {
		if old := w.rows[m.Conversation]; len(old) > 0 && old[len(old)-1].ID >= m.ID {
			w.wrongf("%s: message ID not later than the one before", m.Conversation)
		}
		if m.Membership != nil {
			w.enroll(m)
		}
		w.rows[m.Conversation] = append(w.rows[m.Conversation], m)
		switch m.Uncounted {
		case im.UncountedForAll:
			w.uncounted[im.UncountedSeq{Conversation: m.Conversation, Seq: m.Seq}] = true
		case im.UncountedForSender:
			w.uncounted[im.UncountedSeq{Conversation: m.Conversation, Seq: m.Seq, User: m.Sender.ID}] = true
		}
		w.keys[im.SendKey{Conversation: m.Conversation, Sender: m.Sender.ID, ClientMsgID: m.ClientMsgID}] =
			im.StoredRef{Seq: m.Seq, ID: m.ID, StoredAt: m.StoredAt, Hash: m.Hash}
		w.ids[m.ID] = true
	}
	if w.chance.hits(w.faults) {
		return fmt.Errorf("connection lost after the statement: %w", im.ErrStore)
	}
	return nil
}

func (w *world) Lasts(ctx context.Context, convs []im.ConversationID) (map[im.ConversationID]im.LastRef, error) {
	if err := w.enter("lasts"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	lasts := make(map[im.ConversationID]im.LastRef)
	for _, c := range convs {
		if rows := w.rows[c]; len(rows) > 0 {
			lasts[c] = im.LastRef{Seq: rows[len(rows)-1].Seq, ID: rows[len(rows)-1].ID}
		}
	}
	return lasts, nil
}

func (w *world) FindStored(ctx context.Context, keys []im.SendKey) (map[im.SendKey]im.StoredRef, error) {
	if err := w.enter("find"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	found := make(map[im.SendKey]im.StoredRef)
	for _, k := range keys {
		if ref, ok := w.keys[k]; ok {
			found[k] = ref
		} else if ref, ok := w.deadKeys[k]; ok {
			found[k] = ref
		}
	}
	return found, nil
}

func (w *world) EnsureConversations(ctx context.Context, convs []im.NewConversation) error {
	if err := w.enter("ensure"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range convs {
		w.known[c.ID] = c.Members
	}
	return nil
}

func (w *world) MoveCursors(ctx context.Context, moves []im.CursorMove) error {
	if err := w.enter("cursors"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range moves {
		key := memberKey{m.Conversation, m.User}
		if isChannel(key.conv) {
			if row, there := w.members[key]; there { // who was never in has no row
				row.Delivered, row.Read = max(row.Delivered, m.Delivered), max(row.Read, m.Read)
				w.members[key] = row
			}
			continue
		}
		row := w.cursors[key]
		row.Conversation, row.User = m.Conversation, m.User
		row.Delivered, row.Read = max(row.Delivered, m.Delivered), max(row.Read, m.Read)
		w.cursors[key] = row
	}
	return nil
}

func (w *world) Park(ctx context.Context, d im.DeadLetter) error {
	if err := w.enter("park"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead[[2]int64{int64(d.Partition), d.Offset}] = d
	if d.Key.Conversation != "" {
		w.deadKeys[d.Key] = im.StoredRef{Hash: d.Hash, Parked: true}
	}
	return nil
}

func (w *world) NoteDoubt(ctx context.Context, reason string) error {
	if err := w.enter("doubt"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.doubts++
	return nil
}

func (w *world) AcquireNode(ctx context.Context, holder string, ttl time.Duration) (int, error) {
	if err := w.enter("acquire"); err != nil {
		return 0, fmt.Errorf("%w: %w", im.ErrStore, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, h := range w.leases {
		if h == "" {
			w.leases[n] = holder
			return n, nil
		}
	}
	// Leases of dead lives have long run out by the time of a next one.
	n := w.chance.intn(im.MessageNodes)
	w.leases[n] = holder
	return n, nil
}

func (w *world) RenewNode(ctx context.Context, node int, holder string, ttl time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leases[node] != holder {
		return im.ErrConflict
	}
	return nil
}

func (w *world) ReleaseNode(ctx context.Context, node int, holder string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leases[node] == holder {
		w.leases[node] = ""
	}
	return nil
}

func (w *world) Project(ctx context.Context, p im.Projection) error {
	if w.chance.hits(w.faults) {
		return fmt.Errorf("project: %w", im.ErrCache)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls["project"]++
	for _, u := range p.Uncounted {
		w.indexed[u] = true
		if !w.uncounted[u] {
			w.wrongf("%v projected as uncounted before it was stored", u)
		}
	}
	w.raiseGroups(p)
	for _, u := range p.Users {
		key := memberKey{u.State.Conversation, u.User}
		s := w.states[key]
		s.LastSeq, s.LastID = max(s.LastSeq, u.State.LastSeq), max(s.LastID, u.State.LastID)
		s.Read, s.Delivered = max(s.Read, u.State.Read), max(s.Delivered, u.State.Delivered)
		s.PeerRead, s.PeerDelivered = max(s.PeerRead, u.State.PeerRead), max(s.PeerDelivered, u.State.PeerDelivered)
		s.LastUncounted = max(s.LastUncounted, u.State.LastUncounted)
		s.LastChange, s.Deletions = max(s.LastChange, u.State.LastChange), max(s.Deletions, u.State.Deletions)
		s.LastMention = max(s.LastMention, u.State.LastMention)
		w.states[key] = s
		if w.offline[key] == nil {
			w.offline[key] = make(map[im.Seq]im.MessageID)
		}
		for _, o := range u.Offline {
			w.offline[key][o.Seq] = o.ID
		}
		maps.DeleteFunc(w.offline[key], func(seq im.Seq, _ im.MessageID) bool { return seq <= s.Delivered })
		if rows := w.rows[key.conv]; int(s.LastSeq) > len(rows) {
			w.wrongf("%s projected to seq %d before it was stored", key.conv, s.LastSeq)
		}
	}
	if w.chance.hits(w.faults) {
		return fmt.Errorf("project, done but not heard of: %w", im.ErrCache)
	}
	return nil
}

func (w *world) Sessions(ctx context.Context, users []im.UserID) (map[im.UserID][]im.SessionRef, error) {
	if w.chance.hits(w.faults) {
		return nil, im.ErrCache
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	found := make(map[im.UserID][]im.SessionRef)
	for _, u := range users {
		if s := w.sessions[u]; len(s) > 0 {
			found[u] = s
		}
	}
	return found, nil
}

func (w *world) Publish(ctx context.Context, batches map[im.NodeID][]byte) error {
	if w.chance.hits(w.faults) {
		return im.ErrCache
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range batches {
		all, err := protocol.DecodeDeliveries(b)
		if err != nil {
			w.wrongf("publish: %v", err)
		}
		for _, d := range all {
			if d.Seq != 0 && int(d.Seq) > len(w.rows[d.Conversation]) || int(max(d.About, d.Version)) > len(w.rows[d.Room]) {
				w.wrongf("%s: seq %d pushed before it was stored", d.Conversation, d.Seq)
			}
		}
		w.pushed = append(w.pushed, all...)
	}
	return nil
}

// eventually waits for a fact about the world, which f reads under its lock.
func (w *world) eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		w.mu.Lock()
		ok := f()
		w.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// brokenCache is a Redis that does not answer.
type brokenCache struct {
	*world
	calls atomic.Int64
}

func (b *brokenCache) Project(context.Context, im.Projection) error {
	b.calls.Add(1)
	return im.ErrCache
}

func (b *brokenCache) Sessions(context.Context, []im.UserID) (map[im.UserID][]im.SessionRef, error) {
	b.calls.Add(1)
	return nil, im.ErrCache
}

func (b *brokenCache) Publish(context.Context, map[im.NodeID][]byte) error {
	b.calls.Add(1)
	return im.ErrCache
}

// logbook is one partition of the log, with the group's offset.
type logbook struct {
	w         *world
	partition int
	fetchMax  int

	mu         sync.Mutex
	records    []queue.Record
	committed  int64
	generation int
	more       chan struct{} // closed and replaced when records or offset move
}

func newLogbook(w *world, partition int) *logbook {
	return &logbook{w: w, partition: partition, fetchMax: 1000, more: make(chan struct{})}
}

func (l *logbook) moved() {
	close(l.more)
	l.more = make(chan struct{})
}

func (l *logbook) append(tasks ...im.Task) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, task := range tasks {
		b, err := queue.AppendTask(nil, &task)
		if err != nil {
			panic(err)
		}
		l.raw(b)
	}
	l.moved()
}

func (l *logbook) raw(value []byte) {
	l.records = append(l.records, queue.Record{Offset: int64(len(l.records)), Time: time.Now(), Value: value})
}

// join begins an assignment at the committed offset; commits of earlier ones are
// refused from then on.
func (l *logbook) join() *joined {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation++
	return &joined{l: l, generation: l.generation, next: l.committed, horizon: int64(len(l.records))}
}

// await waits until everything is committed.
func (l *logbook) await(ctx context.Context) error {
	for {
		l.mu.Lock()
		done, more := l.committed == int64(len(l.records)), l.more
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// joined is one assignment of a logbook.
type joined struct {
	l          *logbook
	generation int
	next       int64
	horizon    int64
	trust      bool // the record is elsewhere: commits are not held against the world
}

func (j *joined) Place() queue.Place {
	return queue.Place{Topic: "im.realtime", Partition: j.l.partition}
}
func (j *joined) Horizon() int64            { return j.horizon }
func (j *joined) Progress(int64, time.Time) {}
func (j *joined) Behind(next int64) int64 {
	j.l.mu.Lock()
	defer j.l.mu.Unlock()
	return int64(len(j.l.records)) - next
}

func (j *joined) Fetch(ctx context.Context) ([]queue.Record, error) {
	for {
		j.l.mu.Lock()
		left, more := j.l.records[j.next:], j.l.more
		j.l.mu.Unlock()
		if n := len(left); n > 0 {
			if j.l.fetchMax < n {
				n = 1 + j.l.w.chance.intn(j.l.fetchMax)
			}
			j.next += int64(n)
			return left[:n], nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (j *joined) Commit(next int64) error {
	if j.l.w.chance.hits(j.l.w.faults) {
		return errors.New("commit: not answered")
	}
	j.l.mu.Lock()
	defer j.l.mu.Unlock()
	if j.generation != j.l.generation {
		return errors.New("commit: illegal generation")
	}
	if !j.trust {
		j.l.w.covers(j.l.records[:next])
	}
	j.l.committed = max(j.l.committed, next)
	j.l.moved()
	return nil
}

// covers checks [J3]: everything before an offset is stored or parked, and the cursor
// moves of it are in MySQL.
func (w *world) covers(records []queue.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range records {
		task, err := queue.DecodeTask(r.Value)
		if err != nil {
			if _, ok := w.dead[[2]int64{0, r.Offset}]; !ok {
				w.wrongf("offset %d committed: neither read nor parked", r.Offset)
			}
			continue
		}
		if _, parked := w.dead[[2]int64{0, r.Offset}]; parked {
			continue
		}
		if c := task.Change; c != nil {
			if _, ok := w.changed[im.ChangeKey{Conversation: task.Conversation, Actor: c.Actor, ClientChangeID: c.ClientChangeID}]; !ok {
				w.wrongf("offset %d committed: change %s of %s not stored", r.Offset, c.ClientChangeID, task.Conversation)
			}
		}
		if h := task.Hide; h != nil {
			for _, seq := range h.Seqs {
				if int(seq) <= len(w.rows[task.Conversation]) && !slices.ContainsFunc(w.deleted[memberKey{task.Conversation, h.User}], func(x im.Hidden) bool { return x.Seq == seq }) {
					w.wrongf("offset %d committed: %d of %s not deleted", r.Offset, seq, task.Conversation)
				}
			}
		}
		if t := task.Send; t != nil {
			key := im.SendKey{Conversation: task.Conversation, Sender: t.Sender.ID, ClientMsgID: t.ClientMsgID}
			ref, ok := w.keys[key]
			if _, dead := w.deadKeys[key]; !ok && !dead {
				w.wrongf("offset %d committed: %v neither stored nor parked", r.Offset, key)
			}
			if ok && t.AdvanceRead && ref.Hash == t.Hash && !isChannel(key.Conversation) && w.cursors[memberKey{key.Conversation, key.Sender}].Read < ref.Seq {
				w.wrongf("offset %d committed: own cursor of %v not in MySQL", r.Offset, key)
			}
		}
	}
}

// quickConfig lets nothing wait long.
func quickConfig() Config {
	return Config{
		Realtime:    PoolConfig{Size: 4, Strands: 2, Batch: 20, WindowRecords: 60, BackoffMin: time.Millisecond, BackoffMax: time.Millisecond},
		CommitEvery: time.Millisecond, CursorsEvery: 2 * time.Millisecond,
		CacheBreak:   time.Millisecond,
		StallTimeout: time.Minute, DrainTimeout: 5 * time.Second,
	}
}

func newTestRunner(t testing.TB, cfg Config, w *world, steps func(string) error) *Pool {
	t.Helper()
	r, err := NewRunner(cfg, Deps{
		Archive: w, Nodes: w, Projector: w, Sessions: w, Rooms: w, Bus: w, Steps: steps,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.pools[0]
}

// live runs a runner on assignments until ctx ends.
func live(ctx context.Context, r *Pool, assigned ...*joined) error {
	return share(ctx, r, func(ctx context.Context) error {
		var wg sync.WaitGroup
		for _, j := range assigned {
			wg.Go(func() { r.assign(ctx, j) })
		}
		wg.Wait()
		return nil
	})
}

// share is a lane of a process, around consume.
func share(ctx context.Context, r *Pool, consume func(context.Context) error) error {
	return r.share(ctx, func(ctx context.Context) error { return r.serve(ctx, consume) })
}

// untilDone runs a runner until everything in the logs is committed.
func untilDone(t testing.TB, r *Pool, logs ...*logbook) {
	t.Helper()
	limit, done := context.WithTimeout(context.Background(), 60*time.Second)
	defer done()
	ctx, cancel := context.WithCancel(limit)
	ended := make(chan error, 1)
	assigned := make([]*joined, len(logs))
	for i, l := range logs {
		assigned[i] = l.join()
	}
	go func() { ended <- live(ctx, r, assigned...) }()
	for _, l := range logs {
		if err := l.await(limit); err != nil {
			t.Errorf("partition %d: committed %d of %d: %v", l.partition, l.committed, len(l.records), err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func text(conv im.ConversationID, from im.UserID, n int) im.Task {
	content := []byte(fmt.Sprintf(`{"text":"message %d"}`, n))
	return im.Task{Conversation: conv, Send: &im.SendTask{
		Sender: im.Sender{ID: from, Handle: "u" + from.String()}, ClientMsgID: im.ClientMsgID(fmt.Sprintf("client-%06d", n)),
		Type: im.TypeText, Content: content, Hash: im.HashContent(im.TypeText, content), AdvanceRead: true,
		AcceptedAt: time.Now().UnixMilli(),
	}}
}

func ack(conv im.ConversationID, u im.UserID, delivered, read im.Seq) im.Task {
	return im.Task{Conversation: conv, Receipt: &im.ReceiptTask{User: u, Device: "phone", Delivered: delivered, Read: read}}
}

// frames are the pushes of one kind, sorted by how they read.
func (w *world) frames(kind protocol.Push) []protocol.Delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	var some []protocol.Delivery
	prefix := fmt.Sprintf(`{"push":%q,`, kind)
	for _, d := range w.pushed {
		if len(d.Frame) > len(prefix) && string(d.Frame[:len(prefix)]) == prefix {
			some = append(some, d)
		}
	}
	slices.SortStableFunc(some, func(a, b protocol.Delivery) int { return cmp.Compare(string(a.Frame), string(b.Frame)) })
	return some
}
