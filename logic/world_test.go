package logic

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// world stands in for everything a Service works with, in memory. fail makes a call
// return an error, hang makes it wait for its deadline.
type world struct {
	Accounts // what is not below is not called
	groupWorld

	mu       sync.Mutex // guards everything below
	now      time.Time
	calls    map[string]int
	fail     map[string]error
	hang     map[string]bool
	users    map[im.UserID]im.Profile
	blocked  map[pair]bool
	contacts map[pair]bool
	shy      map[im.UserID]bool // takes messages from contacts only
	external map[string]im.UserID
	members  map[im.SendKey]im.Member // by conversation and sender
	states   map[im.ConversationID]im.ConversationState
	messages []im.Message
	stored   map[im.SendKey]im.StoredRef
	hints    map[im.SendKey]im.StoredRef
	sessions map[im.UserID][]im.SessionRef
	tasks    []im.Task
	batches  []map[im.NodeID][]byte
	changes  im.Changes
	list     im.ListPage
	offline  []im.OfflineSource
	tokens   map[string]im.Identity
	revoked  bool
	take     func(n int) (int, time.Duration)
	say      func(text string) (string, error)
	produce  func(im.Task, func(error))
	notes    chan []byte
	friends  map[pair]bool // may see each other, beside who is not there at all
	presence map[im.UserID]im.Presence
	lastSeen map[im.UserID]int64
	marked   []im.DeviceSeen
	revoking []im.Revocation
	queried  im.HistoryQuery
	changed  map[im.ChangeKey]im.ChangeRef
	page     im.ChangedPage
	former   []im.FormerContent
	reactors []im.Reactor
	own      map[im.ReactionKey]bool
	hidden   map[im.Place]im.Hidden
	rows     map[im.ConversationID]im.SettingsRow
	changing []im.SettingsChange
	only     im.ListFilter
	drafted  map[im.ConversationID]im.Draft
	// meanwhile is what happens while a call is answered.
	meanwhile map[string]func()
	since     []im.Position // asked of Changes
	behind    im.Backlog    // of every partition
}

const (
	ann im.UserID = 7
	bob im.UserID = 9
	eve im.UserID = 11
)

var annsPhone = im.Identity{User: ann, Device: "phone", ExpiresAt: 1 << 50}

func newWorld() *world {
	w := &world{
		now: time.UnixMilli(1767225600000), calls: map[string]int{}, fail: map[string]error{}, hang: map[string]bool{},
		users: map[im.UserID]im.Profile{}, blocked: map[pair]bool{}, contacts: map[pair]bool{}, shy: map[im.UserID]bool{}, external: map[string]im.UserID{},
		members: map[im.SendKey]im.Member{}, states: map[im.ConversationID]im.ConversationState{},
		stored: map[im.SendKey]im.StoredRef{}, hints: map[im.SendKey]im.StoredRef{},
		sessions: map[im.UserID][]im.SessionRef{}, notes: make(chan []byte, 8),
		tokens:  map[string]im.Identity{"good": annsPhone},
		changed: map[im.ChangeKey]im.ChangeRef{}, own: map[im.ReactionKey]bool{}, hidden: map[im.Place]im.Hidden{},
		friends: map[pair]bool{}, presence: map[im.UserID]im.Presence{}, lastSeen: map[im.UserID]int64{},
	}
	for u, handle := range map[im.UserID]string{ann: "ann", bob: "bob", eve: "eve"} {
		w.users[u] = im.Profile{ID: u, Handle: handle, Nickname: handle}
	}
	w.take = func(n int) (int, time.Duration) { return n, 0 }
	w.say = func(text string) (string, error) { return text, nil }
	w.produce = func(_ im.Task, done func(error)) { go done(nil) }
	return w
}

func (w *world) service(t testing.TB, cfg Config) *Service {
	t.Helper()
	return w.serviceAt(t, cfg, func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	})
}

func (w *world) serviceAt(t testing.TB, cfg Config, now func() time.Time) *Service {
	t.Helper()
	s, err := NewService(cfg, Deps{
		Accounts: w, Profiles: w, Index: w, Records: w, Settings: w, Groups: w, Rooms: w, Hints: w, Limits: w, Queue: w, Backlog: w, Sessions: w,
		Auth: w, Filter: w, Presences: w, Sight: w, Revocations: w, Bus: w, Notes: w, Node: "n1", Now: now, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// set changes the world between calls.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) pass(d time.Duration) { w.set(func() { w.now = w.now.Add(d) }) }

// called counts the call and says how it ends; unlocked on return.
func (w *world) called(ctx context.Context, name string) error {
	w.mu.Lock()
	w.calls[name]++
	hang, err, meanwhile := w.hang[name], w.fail[name], w.meanwhile[name]
	w.mu.Unlock()
	if meanwhile != nil {
		meanwhile()
	}
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (w *world) count(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[name]
}

func (w *world) produced() []im.Task {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]im.Task(nil), w.tasks...)
}

func (w *world) Peer(ctx context.Context, from, to im.UserID) (im.Peer, error) {
	err := w.called(ctx, "Peer")
	w.mu.Lock()
	defer w.mu.Unlock()
	_, exists := w.users[to]
	return im.Peer{Exists: exists, Blocked: w.blocked[pair{from, to}], Contact: w.contacts[pair{from, to}], ContactsOnly: w.shy[to]}, err
}

func (w *world) ContactsVersion(ctx context.Context, _ im.UserID) (uint64, error) {
	return 5, w.called(ctx, "ContactsVersion")
}

func (w *world) UserByExternalID(ctx context.Context, id string) (im.UserID, error) {
	if err := w.called(ctx, "UserByExternalID"); err != nil {
		return 0, err
	}
	u, ok := w.external[id]
	if !ok {
		return 0, im.ErrNotFound
	}
	return u, nil
}

func (w *world) Profiles(ctx context.Context, users []im.UserID) (map[im.UserID]im.Profile, error) {
	if err := w.called(ctx, "Profiles"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[im.UserID]im.Profile, len(users))
	for _, u := range users {
		if p, ok := w.users[u]; ok {
			out[u] = p
		}
	}
	return out, nil
}

func (w *world) UserByHandle(ctx context.Context, handle string) (im.UserID, error) {
	if err := w.called(ctx, "UserByHandle"); err != nil {
		return 0, err
	}
	for u, p := range w.users {
		if p.Handle == handle {
			return u, nil
		}
	}
	return 0, im.ErrNotFound
}

func (w *world) List(ctx context.Context, _ im.UserID, _ im.MessageID, _ int) (im.ListPage, error) {
	err := w.called(ctx, "List")
	return w.list, err
}

func (w *world) ListOnly(ctx context.Context, u im.UserID, only im.ListFilter, before im.MessageID, limit int) (im.ListPage, error) {
	w.only = only
	return w.List(ctx, u, before, limit)
}

func (w *world) Changes(ctx context.Context, _ im.UserID, since im.Position, _ int) (im.Changes, error) {
	w.since = append(w.since, since)
	err := w.called(ctx, "Changes")
	return w.changes, err
}

func (w *world) State(ctx context.Context, u im.UserID, c im.ConversationID) (im.ConversationState, error) {
	st, err := w.Row(ctx, u, c)
	st.Unread = 0
	return st, err
}

func (w *world) Row(ctx context.Context, _ im.UserID, c im.ConversationID) (im.ConversationState, error) {
	if err := w.called(ctx, "State"); err != nil {
		return im.ConversationState{}, err
	}
	st, ok := w.states[c]
	if !ok {
		return st, im.ErrNotFound
	}
	return st, nil
}

func (w *world) Offline(ctx context.Context, _ im.UserID, _ int) ([]im.OfflineSource, bool, error) {
	return w.offline, false, w.called(ctx, "Offline")
}

func (w *world) UnreadTotal(ctx context.Context, _ im.UserID) (im.UnreadTotal, bool, error) {
	return im.UnreadTotal{All: 3, Badge: 2}, false, w.called(ctx, "UnreadTotal")
}

func (w *world) History(ctx context.Context, q im.HistoryQuery) (im.HistoryPage, error) {
	w.queried = q
	return im.HistoryPage{Items: w.messages, HasMoreBefore: true}, w.called(ctx, "History")
}

func (w *world) ChangeSettings(ctx context.Context, _ im.UserID, c im.ConversationID, ch im.SettingsChange) (im.SettingsRow, error) {
	w.changing = append(w.changing, ch)
	return w.settingsRow(ctx, "ChangeSettings", c)
}

func (w *world) DeleteConversation(ctx context.Context, _ im.UserID, c im.ConversationID, upTo im.Seq) (im.SettingsRow, error) {
	row, err := w.settingsRow(ctx, "DeleteConversation", c)
	row.Floor = min(upTo, w.states[c].LastSeq)
	return row, err
}

func (w *world) settingsRow(ctx context.Context, name string, c im.ConversationID) (im.SettingsRow, error) {
	if err := w.called(ctx, name); err != nil {
		return im.SettingsRow{}, err
	}
	row, ok := w.rows[c]
	if !ok {
		return row, im.ErrNotFound
	}
	return row, nil
}

func (w *world) Drafts(ctx context.Context, _ im.UserID, _ []im.ConversationID) (map[im.ConversationID]im.Draft, error) {
	if err := w.called(ctx, "Drafts"); err != nil {
		return nil, err
	}
	return w.drafted, nil
}

func (w *world) Member(ctx context.Context, c im.ConversationID, u im.UserID) (im.Member, error) {
	if err := w.called(ctx, "Member"); err != nil {
		return im.Member{}, err
	}
	m, ok := w.members[im.SendKey{Conversation: c, Sender: u}]
	if !ok {
		return m, im.ErrNotFound
	}
	m.Conversation = c
	return m, nil
}

func (w *world) LastMessages(ctx context.Context, at map[im.ConversationID]im.Seq) (map[im.ConversationID]im.Message, error) {
	if err := w.called(ctx, "LastMessages"); err != nil {
		return nil, err
	}
	out := map[im.ConversationID]im.Message{}
	for _, m := range w.messages {
		if at[m.Conversation] == m.Seq {
			out[m.Conversation] = m
		}
	}
	return out, nil
}

func (w *world) FindStored(ctx context.Context, keys []im.SendKey) (map[im.SendKey]im.StoredRef, error) {
	if err := w.called(ctx, "FindStored"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[im.SendKey]im.StoredRef{}
	for _, k := range keys {
		if ref, ok := w.stored[k]; ok {
			out[k] = ref
		}
	}
	return out, nil
}

func (w *world) Changed(ctx context.Context, q im.ChangedQuery) (im.ChangedPage, error) {
	return w.page, w.called(ctx, "Changed")
}

func (w *world) FindChange(ctx context.Context, k im.ChangeKey) (im.ChangeRef, error) {
	if err := w.called(ctx, "FindChange"); err != nil {
		return im.ChangeRef{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ref, ok := w.changed[k]
	if !ok {
		return ref, im.ErrNotFound
	}
	return ref, nil
}

func (w *world) FormerContents(ctx context.Context, _ im.Place) ([]im.FormerContent, error) {
	return w.former, w.called(ctx, "FormerContents")
}

func (w *world) Reactors(ctx context.Context, _ im.Place, _ string, _ uint64, limit int) ([]im.Reactor, bool, error) {
	return w.reactors[:min(limit, len(w.reactors))], len(w.reactors) > limit, w.called(ctx, "Reactors")
}

func (w *world) OwnReactions(ctx context.Context, _ im.UserID, _ []im.Place) (map[im.ReactionKey]bool, error) {
	return w.own, w.called(ctx, "OwnReactions")
}

func (w *world) RecalledAmong(ctx context.Context, places []im.Place) (map[im.Place]bool, error) {
	found := map[im.Place]bool{}
	for _, m := range w.messages {
		if p := (im.Place{Conversation: m.Conversation, Seq: m.Seq}); m.RecalledAt != 0 {
			found[p] = true
		}
	}
	return found, w.called(ctx, "RecalledAmong")
}

func (w *world) HiddenAmong(ctx context.Context, _ im.UserID, places []im.Place) (map[im.Place]bool, error) {
	found := map[im.Place]bool{}
	for _, p := range places {
		if _, ok := w.hidden[p]; ok {
			found[p] = true
		}
	}
	return found, w.called(ctx, "HiddenAmong")
}

func (w *world) Deletions(ctx context.Context, _ im.UserID, c im.ConversationID, after uint64, limit int) (all []im.Hidden, more bool, err error) {
	for p, h := range w.hidden {
		if p.Conversation == c && h.Deletion > after {
			all = append(all, h)
		}
	}
	return all, false, w.called(ctx, "Deletions")
}

func (w *world) Probe(ctx context.Context, k im.SendKey) (im.StoredRef, bool, error) {
	err := w.called(ctx, "Probe")
	w.mu.Lock()
	defer w.mu.Unlock()
	ref, known := w.hints[k]
	return ref, known, err
}

func (w *world) Take(ctx context.Context, _ string, n int, _ float64, _ int) (int, time.Duration, error) {
	if err := w.called(ctx, "Take"); err != nil {
		return 0, 0, err
	}
	granted, wait := w.take(n)
	return granted, wait, nil
}

func (w *world) Produce(t im.Task, done func(error)) {
	w.mu.Lock()
	w.tasks = append(w.tasks, t)
	w.mu.Unlock()
	w.produce(t, done)
}

func (w *world) Sessions(ctx context.Context, _ []im.UserID) (map[im.UserID][]im.SessionRef, error) {
	return w.sessions, w.called(ctx, "Sessions")
}

func (w *world) Presence(ctx context.Context, users []im.UserID) (map[im.UserID]im.Presence, error) {
	if err := w.called(ctx, "Presence"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[im.UserID]im.Presence{}
	for _, u := range users {
		out[u] = w.presence[u]
	}
	return out, nil
}

func (w *world) Visible(ctx context.Context, viewer im.UserID, users []im.UserID) (map[im.UserID]int64, error) {
	if err := w.called(ctx, "Visible"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[im.UserID]int64{}
	for _, u := range users {
		if w.friends[pair{viewer, u}] && !w.blocked[pair{viewer, u}] {
			out[u] = w.lastSeen[u]
		}
	}
	return out, nil
}

func (w *world) MarkSeen(ctx context.Context, seen []im.DeviceSeen) error {
	if err := w.called(ctx, "MarkSeen"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marked = append(w.marked, seen...)
	return nil
}

func (w *world) Revocations(ctx context.Context, after uint64, limit int) (page []im.Revocation, err error) {
	if err := w.called(ctx, "Revocations"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.revoking {
		if r.ID > after && len(page) < limit {
			page = append(page, r)
		}
	}
	return page, nil
}

func (w *world) LastRevocation(ctx context.Context) (last uint64, err error) {
	w.mu.Lock()
	for _, r := range w.revoking {
		last = max(last, r.ID)
	}
	w.mu.Unlock()
	return last, w.called(ctx, "LastRevocation")
}

func (w *world) ForgetRevocations(ctx context.Context, _ time.Duration) error {
	return w.called(ctx, "ForgetRevocations")
}

func (w *world) Publish(ctx context.Context, batches map[im.NodeID][]byte) error {
	w.batches = append(w.batches, batches)
	return w.called(ctx, "Publish")
}

func (w *world) Verify(ctx context.Context, token string) (im.Identity, error) {
	if err := w.called(ctx, "Verify"); err != nil {
		return im.Identity{}, err
	}
	who, ok := w.tokens[token]
	if !ok {
		return who, im.ErrUnauthenticated
	}
	return who, nil
}

func (w *world) Recheck(ctx context.Context, _ im.Identity, _ time.Duration) error {
	if w.revoked {
		return im.ErrUnauthenticated
	}
	return w.called(ctx, "Recheck")
}

func (w *world) Apply(_ context.Context, text string) (string, error) { return w.say(text) }

func (w *world) Subscribe(ctx context.Context, _ im.NodeID, batch func([]byte), _ func()) error {
	if err := w.called(ctx, "Subscribe"); err != nil {
		return err
	}
	for {
		select {
		case b := <-w.notes:
			batch(b)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func userID(u im.UserID) *im.UserID { return &u }

// text is a send of ann's to bob.
func text(id im.ClientMsgID, words string) protocol.Send {
	content, _ := json.Marshal(im.TextContent{Text: words})
	return protocol.Send{ClientMsgID: id, To: protocol.To{UserID: userID(bob)}, Content: content}
}

func hashOf(words string) im.ContentHash {
	content, _ := protocol.EncodeJSON(im.TextContent{Text: words})
	return im.HashContent(im.TypeText, content)
}
