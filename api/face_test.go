package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic"
	"github.com/curlew-im/curlew/logic/im"
)

// What main hands to the face is what the face asks for.
var (
	_ Chat     = (*logic.Service)(nil)
	_ Accounts = (*logic.Auth)(nil)
	_ People   = (*logic.People)(nil)
	_ Groups   = (*logic.Service)(nil)
)

const (
	goodToken  = "good-token"
	goodKey    = "backend:secret"
	testOrigin = "https://chat.example"
)

var (
	curlew = im.Profile{ID: 7, Handle: "curlew", Nickname: "Curlew", Avatar: "https://example.org/c.png"}
	godwit = im.Profile{ID: 12, Handle: "godwit", Nickname: "Godwit"}
)

// fake answers every call of both ports with plausible values, or all with fail.
type fake struct {
	mu    sync.Mutex
	fail  error
	panic bool
	sent  protocol.Sent
	block chan struct{} // where set, sends wait for it or for their context

	lastSend    protocol.Send
	lastServer  protocol.ServerSend
	lastHistory protocol.History
	lastSync    protocol.Sync
	lastPull    protocol.OfflinePull
	lastLimit   int
	lastBefore  im.MessageID
	lastIP      string
	lastWait    bool
	lastHandle  string
	lastChange  protocol.Change
	lastHide    protocol.DeleteMessages
	lastAsk     protocol.AskScheduled
	lastPatch   protocol.ChangeScheduled
	lastUsers   []im.UserID

	lastUpdate   protocol.UpdateProfile
	lastRequest  protocol.RequestContact
	lastAfter    im.UserID
	lastSince    *uint64
	lastIncoming bool
	lastSettings protocol.ChangeSettings
	lastDelete   protocol.DeleteConversation
	lastOnly     im.ListFilter

	asked []string // of groups
	late  bool     // changes of groups are not applied in time
}

func (f *fake) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.panic {
		panic("at /secret/path.go: SELECT password FROM users")
	}
	return f.fail
}

var message = im.Message{
	Conversation: "d7-12", Seq: 42, ID: 104942118400, ClientMsgID: "01JF2K9M7Q", Sender: curlew.Sender(),
	Type: im.TypeText, Content: json.RawMessage(`{"text":"<b>&"}`), StoredAt: 1792846180000,
}

var row = protocol.Conversation{
	ConversationID: "d7-12", Kind: "direct", Peer: &godwit, LastSeq: 42, LastMessage: &message,
	DeliveredSeq: 40, ReadSeq: 39, Unread: 3, PeerDelivered: 41, PeerRead: 40,
	FloorSeq: 3, Hidden: true, MarkedUnread: true, Settings: &settings.Settings,
}

var settings = protocol.ConversationSettings{ConversationID: "d7-12", FloorSeq: 3, Settings: protocol.Settings{
	Version: 4, PinnedAt: 1792846180000, MutedUntil: im.MutedForever, MarkedSeq: 43, HiddenSeq: 42,
	Draft: &protocol.Draft{Text: "low tide at", Device: "phone-1", ChangedAt: 1792846180000},
}}

var source = protocol.OfflineSource{ConversationID: "d7-12", Peer: &godwit, Count: 2, LastMessageID: message.ID, DeliveredSeq: 40, LastSeq: 42}

func (f *fake) SendAndWait(ctx context.Context, _ im.Identity, req protocol.Send, wait bool) (protocol.Sent, error) {
	f.lastSend, f.lastWait = req, wait
	if f.block != nil {
		select {
		case <-f.block:
		case <-ctx.Done():
			return protocol.Sent{}, errors.Join(im.ErrUnknownOutcome, ctx.Err())
		}
	}
	return f.sent, f.err()
}
func (f *fake) ServerSend(_ context.Context, req protocol.ServerSend, wait bool) (protocol.Sent, error) {
	f.lastServer, f.lastWait = req, wait
	return f.sent, f.err()
}
func (f *fake) Conversations(_ context.Context, _ im.Identity, only im.ListFilter, before im.MessageID, limit int) (protocol.Conversations, error) {
	f.lastOnly, f.lastBefore, f.lastLimit = only, before, limit
	return protocol.Conversations{Items: []protocol.Conversation{row, channelRow}, HasMore: true, Next: "104942118400", UnreadTotal: 3}, f.err()
}
func (f *fake) Conversation(context.Context, im.Identity, im.ConversationID) (protocol.Conversation, error) {
	return row, f.err()
}
func (f *fake) History(_ context.Context, _ im.Identity, req protocol.History) (protocol.Page, error) {
	f.lastHistory = req
	return protocol.Page{Items: []im.Message{message}, HasMore: true}, f.err()
}
func (f *fake) ChangeAndWait(_ context.Context, _ im.Identity, req protocol.Change, wait bool) (protocol.ChangeAnswer, error) {
	f.lastChange, f.lastWait = req, wait
	return protocol.ChangeAnswer{State: protocol.StateAccepted, ConversationID: "d7-12", ClientChangeID: "01JF2K9M7Z"}, f.err()
}
func (f *fake) Edits(context.Context, im.Identity, im.ConversationID, im.Seq) (protocol.Edits, error) {
	return protocol.Edits{Items: []protocol.Edit{{Content: message.Content, At: 1}, {Change: 5, Content: message.Content, At: 2}}}, f.err()
}
func (f *fake) Reactors(_ context.Context, _ im.Identity, _ im.ConversationID, _ im.Seq, reaction string, after uint64, limit int) (protocol.Reactors, error) {
	return protocol.Reactors{Items: []protocol.Reactor{{User: godwit, Reaction: reaction, Change: after + 1}}, HasMore: true, Next: "4"}, f.err()
}
func (f *fake) DeleteMessagesNow(_ context.Context, _ im.Identity, req protocol.DeleteMessages) error {
	f.lastHide = req
	if len(req.Seqs) == 0 {
		return im.Invalid("seqs", "must be 1 to 100")
	}
	return f.err()
}
func (f *fake) Deletions(context.Context, im.Identity, im.ConversationID, uint64, int) (protocol.Deletions, error) {
	return protocol.Deletions{Items: []im.Hidden{{Seq: 42, Deletion: 4}}}, f.err()
}
func (f *fake) Receipts(_ context.Context, _ im.Identity, _ im.ConversationID, r protocol.Receipts) (protocol.Receipts, error) {
	return r, f.err()
}
func (f *fake) ChangeSettings(_ context.Context, _ im.Identity, c im.ConversationID, req protocol.ChangeSettings) (protocol.ConversationSettings, error) {
	f.lastSettings = req
	return settings, f.err()
}
func (f *fake) DeleteConversation(_ context.Context, _ im.Identity, req protocol.DeleteConversation) (protocol.ConversationSettings, error) {
	f.lastDelete = req
	return settings, f.err()
}
func (f *fake) OfflineSources(context.Context, im.Identity) (protocol.OfflineSources, error) {
	return protocol.OfflineSources{Items: []protocol.OfflineSource{source}}, f.err()
}
func (f *fake) OfflinePull(_ context.Context, _ im.Identity, req protocol.OfflinePull) (protocol.Page, error) {
	f.lastPull = req
	return protocol.Page{}, f.err()
}
func (f *fake) Sync(_ context.Context, _ im.Identity, req protocol.Sync) (protocol.Synced, error) {
	f.lastSync = req
	return protocol.Synced{
		User: curlew, Full: true, Conversations: []protocol.Conversation{row}, Offline: []protocol.OfflineSource{source},
		Position: im.Position{Epoch: "g1", Version: 9}, ContactsVersion: &version, ServerTime: 1792846180000, Limits: f.Limits(),
	}, f.err()
}
func (f *fake) Presence(_ context.Context, _ im.Identity, users []im.UserID) (protocol.Presences, error) {
	f.lastUsers = users
	return protocol.Presences{Items: []protocol.Presence{{UserID: 12, Online: true, Platforms: []string{"ios"}}, {UserID: 7, LastSeen: 1}}}, f.err()
}
func (f *fake) Limits() protocol.Limits {
	return protocol.Limits{MaxMessageBytes: 65536, MaxTextBytes: im.MaxTextBytes, MaxPage: 100, SendPerSecond: 20, SendBurst: 40}
}

var tokens = protocol.Tokens{User: curlew, Device: "phone-1", AccessToken: "a", ExpiresAt: 1, RefreshToken: "r", RefreshExpiresAt: 2}

func (f *fake) Register(_ context.Context, req protocol.Register, ip string) (protocol.Tokens, error) {
	f.lastIP, f.lastHandle = ip, req.Handle
	return tokens, f.err()
}
func (f *fake) Login(_ context.Context, _ protocol.Login, ip string) (protocol.Tokens, error) {
	f.lastIP = ip
	return tokens, f.err()
}
func (f *fake) Refresh(context.Context, string) (protocol.Tokens, error) { return tokens, f.err() }
func (f *fake) Verify(_ context.Context, token string) (im.Identity, error) {
	if token != goodToken {
		return im.Identity{}, im.ErrUnauthenticated
	}
	return im.Identity{User: 7, Device: "phone-1"}, nil
}
func (f *fake) Logout(context.Context, im.Identity) error { return f.err() }
func (f *fake) ChangePassword(context.Context, im.Identity, protocol.ChangePassword) error {
	return f.err()
}
func (f *fake) Devices(context.Context, im.Identity) ([]im.Device, error) {
	return []im.Device{{ID: "phone-1", Platform: "ios", CreatedAt: 1, SeenAt: 2}}, f.err()
}
func (f *fake) RevokeDevice(context.Context, im.Identity, im.DeviceID) error { return f.err() }
func (f *fake) SetPush(context.Context, im.Identity, protocol.SetPush) error { return f.err() }
func (f *fake) ClearPush(context.Context, im.Identity) error                 { return f.err() }
func (f *fake) Profile(context.Context, im.Identity, im.UserID) (im.Profile, error) {
	return curlew, f.err()
}
func (f *fake) FindByHandle(context.Context, im.Identity, string) (im.Profile, error) {
	return godwit, f.err()
}
func (f *fake) Me(context.Context, im.Identity) (protocol.Me, error) {
	return protocol.Me{Profile: curlew, MessagePolicy: im.MessagesFromEveryone}, f.err()
}
func (f *fake) UpdateProfile(_ context.Context, _ im.Identity, req protocol.UpdateProfile) (protocol.Me, error) {
	f.lastUpdate = req
	return protocol.Me{Profile: curlew, MessagePolicy: im.MessagesFromContacts}, f.err()
}

var (
	askingID = im.ContactRequestID(5)
	asking   = protocol.Contact{User: godwit, State: im.ContactIncoming, RequestID: &askingID, Message: "it's me", Version: 3, ChangedAt: 1792846180000}
	version  = uint64(9)
)

func (f *fake) RequestContact(_ context.Context, _ im.Identity, req protocol.RequestContact) (protocol.Contact, error) {
	f.lastRequest = req
	return asking, f.err()
}
func (f *fake) AcceptContact(context.Context, im.Identity, im.ContactRequestID) (protocol.Contact, error) {
	return protocol.Contact{User: godwit, State: im.ContactYes, Version: 4}, f.err()
}
func (f *fake) RefuseContact(context.Context, im.Identity, im.ContactRequestID) error {
	return f.err()
}
func (f *fake) WithdrawContact(context.Context, im.Identity, im.ContactRequestID) error {
	return f.err()
}
func (f *fake) RemoveContact(context.Context, im.Identity, im.UserID) error { return f.err() }
func (f *fake) SetRemark(_ context.Context, _ im.Identity, _ im.UserID, remark string) (protocol.Contact, error) {
	return protocol.Contact{User: godwit, State: im.ContactYes, Remark: remark, Version: 5}, f.err()
}
func (f *fake) Contacts(_ context.Context, _ im.Identity, after im.UserID, since *uint64, limit int) (protocol.Contacts, error) {
	f.lastAfter, f.lastSince, f.lastLimit = after, since, limit
	return protocol.Contacts{Items: []protocol.Contact{asking}, Full: since == nil, HasMore: true, Next: "12", Version: &version}, f.err()
}
func (f *fake) ContactRequests(_ context.Context, _ im.Identity, incoming bool, _ im.ContactRequestID, limit int) (protocol.ContactRequests, error) {
	f.lastIncoming, f.lastLimit = incoming, limit
	return protocol.ContactRequests{Items: []protocol.Contact{asking}, HasMore: true, Next: "5"}, f.err()
}
func (f *fake) Blocks(context.Context, im.Identity) ([]im.UserID, error)     { return nil, f.err() }
func (f *fake) SetBlock(context.Context, im.Identity, im.UserID, bool) error { return f.err() }
func (f *fake) IssueTokens(context.Context, protocol.IssueTokens) (protocol.Tokens, error) {
	return tokens, f.err()
}
func (f *fake) VerifyServerKey(id, secret string) error {
	if id+":"+secret != goodKey {
		return im.ErrUnauthenticated
	}
	return nil
}
func (f *fake) UpsertUsers(_ context.Context, users []protocol.ServerUser) ([]im.Profile, error) {
	return make([]im.Profile, len(users)), f.err()
}

// face is a server under test, its fake neighbours and its contract.
type face struct {
	*fake
	t      testing.TB
	server *Server
	doc    *openapi3.T
	router routers.Router
	log    bytes.Buffer
}

func newFace(t testing.TB, change ...func(*Config)) *face {
	t.Helper()
	cfg := Config{Demo: true, AllowedOrigins: []string{testOrigin}}
	for _, c := range change {
		c(&cfg)
	}
	f := &face{fake: &fake{sent: protocol.Sent{State: protocol.StateAccepted, ConversationID: "d7-12", ClientMsgID: "01JF2K9M7Q"}}, t: t}
	s, err := NewServer(cfg, Deps{Chat: f.fake, Accounts: f.fake, People: f.fake, Groups: f.fake, Log: slog.New(slog.NewTextHandler(&f.log, nil)), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	f.server = s
	f.doc = loadContract(t)
	f.router, err = gorillamux.NewRouter(f.doc)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func loadContract(t testing.TB) *openapi3.T {
	t.Helper()
	raw, err := contracts.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	doc.Servers = nil // paths alone, whatever the host
	return doc
}

// request is one call; auth is "" for none.
type request struct {
	method, path, auth, body string
	header                   map[string]string
}

const (
	asUser   = "Bearer " + goodToken
	asServer = "ServerKey " + goodKey
)

// do serves r and holds the answer against the contract, where the contract knows
// the route.
func (f *face) do(r request) *httptest.ResponseRecorder {
	f.t.Helper()
	return record(f, r.build())
}

func record(f *face, req *http.Request) *httptest.ResponseRecorder {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.server.Handler().ServeHTTP(w, req)
	f.check(req, w)
	return w
}

func (r request) build() *http.Request {
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req := httptest.NewRequest(r.method, r.path, body)
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.auth != "" {
		req.Header.Set("Authorization", r.auth)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	return req
}

// check holds an answer against [A1] and against the contract.
func (f *face) check(req *http.Request, w *httptest.ResponseRecorder) {
	f.t.Helper()
	if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("X-Request-Id") == "" {
		f.t.Errorf("%s %s: headers %v", req.Method, req.URL, w.Header())
	}
	if w.Code >= 400 {
		e := shownError(f.t, w)
		if e.RequestID != w.Header().Get("X-Request-Id") {
			f.t.Errorf("%s %s: request ID %q in the body, %q in the header", req.Method, req.URL, e.RequestID, w.Header().Get("X-Request-Id"))
		}
	}
	route, params, err := f.router.FindRoute(req)
	if err != nil {
		return
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, Route: route, PathParams: params},
		Status:                 w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		f.t.Errorf("%s %s answers against the contract: %v", req.Method, req.URL, err)
	}
}

func shownError(t testing.TB, w *httptest.ResponseRecorder) (e protocol.Error) {
	t.Helper()
	if ct := w.Header().Get("Content-Type"); ct != "application/json; charset=utf-8" {
		t.Errorf("error of type %q", ct)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code == "" {
		t.Errorf("error body %q: %v", w.Body, err)
	}
	return e
}

func want(t testing.TB, what string, w *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	got := ""
	if w.Code >= 400 {
		got = shownError(t, w).Code
	}
	if w.Code != status || got != code {
		t.Errorf("%s: %d %q, want %d %q; body %.200s", what, w.Code, got, status, code, w.Body)
	}
}
