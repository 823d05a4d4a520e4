package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const sendBody = `{"client_msg_id":"01JF2K9M7Q","to":{"handle":"godwit"},"content":{"text":"hello"}}`

// goodRequests has one for every operation, which succeeds.
var goodRequests = map[string]struct {
	request
	status int
}{
	"health":                {request{method: "GET", path: "/health"}, 200},
	"pageConfig":            {request{method: "GET", path: "/config.json"}, 200},
	"limits":                {request{method: "GET", path: "/v1/limits"}, 200},
	"register":              {request{method: "POST", path: "/v1/auth/register", body: `{"handle":"curlew","password":"tide and mudflat","device":"phone-1"}`}, 201},
	"login":                 {request{method: "POST", path: "/v1/auth/login", body: `{"handle":"curlew","password":"tide and mudflat","device":"phone-1"}`}, 200},
	"demo":                  {request{method: "POST", path: "/v1/auth/demo", body: `{"device":"web-1"}`}, 201},
	"refresh":               {request{method: "POST", path: "/v1/auth/refresh", body: `{"refresh_token":"r"}`}, 200},
	"logout":                {request{method: "POST", path: "/v1/auth/logout", auth: asUser}, 204},
	"changePassword":        {request{method: "POST", path: "/v1/auth/password", auth: asUser, body: `{"old_password":"a","new_password":"tide and mudflat"}`}, 204},
	"listDevices":           {request{method: "GET", path: "/v1/auth/devices", auth: asUser}, 200},
	"revokeDevice":          {request{method: "DELETE", path: "/v1/auth/devices/phone-1", auth: asUser}, 204},
	"setPush":               {request{method: "PUT", path: "/v1/auth/devices/me/push", auth: asUser, body: `{"provider":"fcm","token":"dGlkZQ:APA91b"}`}, 204},
	"clearPush":             {request{method: "DELETE", path: "/v1/auth/devices/me/push", auth: asUser}, 204},
	"findUser":              {request{method: "GET", path: "/v1/users?handle=godwit", auth: asUser}, 200},
	"me":                    {request{method: "GET", path: "/v1/users/me", auth: asUser}, 200},
	"updateMe":              {request{method: "PATCH", path: "/v1/users/me", auth: asUser, body: `{"nickname":"Curlew"}`}, 200},
	"user":                  {request{method: "GET", path: "/v1/users/7", auth: asUser}, 200},
	"listContacts":          {request{method: "GET", path: "/v1/contacts?since=3&limit=20", auth: asUser}, 200},
	"setRemark":             {request{method: "PATCH", path: "/v1/contacts/12", auth: asUser, body: `{"remark":"long bill"}`}, 200},
	"removeContact":         {request{method: "DELETE", path: "/v1/contacts/12", auth: asUser}, 204},
	"listContactRequests":   {request{method: "GET", path: "/v1/contacts/requests?direction=outgoing&before=9", auth: asUser}, 200},
	"requestContact":        {request{method: "POST", path: "/v1/contacts/requests", auth: asUser, body: `{"handle":"godwit","message":"it's me"}`}, 200},
	"withdrawContact":       {request{method: "DELETE", path: "/v1/contacts/requests/5", auth: asUser}, 204},
	"acceptContact":         {request{method: "POST", path: "/v1/contacts/requests/5/accept", auth: asUser}, 200},
	"refuseContact":         {request{method: "POST", path: "/v1/contacts/requests/5/refuse", auth: asUser}, 204},
	"presence":              {request{method: "GET", path: "/v1/presence?users=12,7", auth: asUser}, 200},
	"listBlocks":            {request{method: "GET", path: "/v1/blocks", auth: asUser}, 200},
	"block":                 {request{method: "PUT", path: "/v1/blocks/12", auth: asUser}, 204},
	"unblock":               {request{method: "DELETE", path: "/v1/blocks/12", auth: asUser}, 204},
	"send":                  {request{method: "POST", path: "/v1/messages", auth: asUser, body: sendBody}, 202},
	"listScheduled":         {request{method: "GET", path: "/v1/scheduled?state=failed&conversation_id=d7-12&after=1798761600000-7&limit=20", auth: asUser}, 200},
	"scheduled":             {request{method: "GET", path: "/v1/scheduled/7", auth: asUser}, 200},
	"changeScheduled":       {request{method: "PATCH", path: "/v1/scheduled/7", auth: asUser, body: `{"content":{"text":"happy new year!"},"deliver_at":1798765200000}`}, 200},
	"cancelScheduled":       {request{method: "DELETE", path: "/v1/scheduled/7", auth: asUser}, 200},
	"sendScheduled":         {request{method: "POST", path: "/v1/scheduled/7/send", auth: asUser}, 202},
	"listConversations":     {request{method: "GET", path: "/v1/conversations?filter=pinned&before=9&limit=20", auth: asUser}, 200},
	"conversation":          {request{method: "GET", path: "/v1/conversations/d7-12", auth: asUser}, 200},
	"deleteConversation":    {request{method: "DELETE", path: "/v1/conversations/d7-12?up_to_seq=42", auth: asUser}, 200},
	"changeSettings":        {request{method: "PATCH", path: "/v1/conversations/d7-12/settings", auth: asUser, body: `{"pinned":true,"muted_until":9007199254740991,"draft":"low tide at","version":3}`}, 200},
	"history":               {request{method: "GET", path: "/v1/conversations/d7-12/messages?before_seq=43&limit=20", auth: asUser}, 200},
	"change":                {request{method: "POST", path: "/v1/conversations/d7-12/messages/42/changes?wait=stored", auth: asUser, body: `{"client_change_id":"01JF2K9M7Z","kind":"edit","content":{"text":"hi"},"base_change":4}`}, 202},
	"edits":                 {request{method: "GET", path: "/v1/conversations/d7-12/messages/42/edits", auth: asUser}, 200},
	"reactors":              {request{method: "GET", path: "/v1/conversations/d7-12/messages/42/reactions?reaction=%F0%9F%91%8D&after=3", auth: asUser}, 200},
	"deleteMessages":        {request{method: "POST", path: "/v1/conversations/d7-12/deletions", auth: asUser, body: `{"seqs":[3,4]}`}, 202},
	"deletions":             {request{method: "GET", path: "/v1/conversations/d7-12/deletions?after=3&limit=9", auth: asUser}, 200},
	"receipts":              {request{method: "POST", path: "/v1/conversations/d7-12/receipts", auth: asUser, body: `{"read_seq":42}`}, 200},
	"offlineSources":        {request{method: "GET", path: "/v1/offline", auth: asUser}, 200},
	"offlinePull":           {request{method: "GET", path: "/v1/offline/d7-12?after_seq=3", auth: asUser}, 200},
	"offlineAck":            {request{method: "POST", path: "/v1/offline/d7-12/ack", auth: asUser, body: `{"seq":42}`}, 200},
	"sync":                  {request{method: "GET", path: "/v1/sync?epoch=g1&version=3&merged_at=1767225600000001&limit=20", auth: asUser}, 200},
	"listGroups":            {request{method: "GET", path: "/v1/groups?after=2&limit=20", auth: asUser}, 200},
	"createGroup":           {request{method: "POST", path: "/v1/groups", auth: asUser, body: `{"name":"Waders","avatar":"https://example.org/w.png","members":["12"],"join_policy":"request","history_visible":true,"client_group_id":"01JF2K9M7G"}`}, 200},
	"group":                 {request{method: "GET", path: "/v1/groups/3", auth: asUser}, 200},
	"updateGroup":           {request{method: "PATCH", path: "/v1/groups/3", auth: asUser, body: `{"name":"Waders of the north","muted_all":true}`}, 200},
	"dissolveGroup":         {request{method: "DELETE", path: "/v1/groups/3", auth: asUser}, 200},
	"listGroupMembers":      {request{method: "GET", path: "/v1/groups/3/members?after=7", auth: asUser}, 200},
	"addGroupMembers":       {request{method: "POST", path: "/v1/groups/3/members", auth: asUser, body: `{"user_ids":["12","15"]}`}, 200},
	"removeGroupMember":     {request{method: "DELETE", path: "/v1/groups/3/members/me", auth: asUser}, 200},
	"setRole":               {request{method: "PUT", path: "/v1/groups/3/members/12/role", auth: asUser, body: `{"role":"admin"}`}, 200},
	"muteMember":            {request{method: "PUT", path: "/v1/groups/3/members/12/mute", auth: asUser, body: `{"until":1792846180000}`}, 200},
	"transferGroup":         {request{method: "POST", path: "/v1/groups/3/transfer", auth: asUser, body: `{"user_id":"12"}`}, 200},
	"joinGroup":             {request{method: "POST", path: "/v1/groups/3/join", auth: asUser, body: `{"message":"curlew here"}`}, 200},
	"withdrawJoin":          {request{method: "DELETE", path: "/v1/groups/3/join", auth: asUser}, 204},
	"listJoinRequests":      {request{method: "GET", path: "/v1/groups/3/requests?limit=5", auth: asUser}, 200},
	"acceptJoin":            {request{method: "POST", path: "/v1/groups/3/requests/12/accept", auth: asUser}, 200},
	"refuseJoin":            {request{method: "POST", path: "/v1/groups/3/requests/12/refuse", auth: asUser}, 200},
	"createChannel":         {request{method: "POST", path: "/v1/groups/3/channels", auth: asUser, body: `{"name":"ringing","private":true,"members":["12"]}`}, 200},
	"renameChannel":         {request{method: "PATCH", path: "/v1/groups/3/channels/c4", auth: asUser, body: `{"name":"rings"}`}, 200},
	"removeChannel":         {request{method: "DELETE", path: "/v1/groups/3/channels/c4", auth: asUser}, 200},
	"listChannelMembers":    {request{method: "GET", path: "/v1/groups/3/channels/c4/members?after=7&limit=9", auth: asUser}, 200},
	"addChannelMembers":     {request{method: "POST", path: "/v1/groups/3/channels/c4/members", auth: asUser, body: `{"user_ids":["12"]}`}, 200},
	"removeChannelMember":   {request{method: "DELETE", path: "/v1/groups/3/channels/c4/members/12", auth: asUser}, 200},
	"receiptCounts":         {request{method: "GET", path: "/v1/conversations/c4/receipts?seq=3&seq=4", auth: asUser}, 200},
	"recipients":            {request{method: "GET", path: "/v1/conversations/c4/messages/42/receipts?state=undelivered&after=7", auth: asUser}, 200},
	"upsertUsers":           {request{method: "POST", path: "/v1/server/users", auth: asServer, body: `{"users":[{"external_id":"crm-7","handle":"curlew"}]}`}, 200},
	"issueTokens":           {request{method: "POST", path: "/v1/server/tokens", auth: asServer, body: `{"external_id":"crm-7","device":"web-1"}`}, 201},
	"serverScheduled":       {request{method: "GET", path: "/v1/server/scheduled/7", auth: asServer}, 200},
	"serverCancelScheduled": {request{method: "DELETE", path: "/v1/server/scheduled/7", auth: asServer}, 200},
	"serverSend":            {request{method: "POST", path: "/v1/server/messages", auth: asServer, body: sendBody}, 202},
}

// [A6]: every route is in the contract, and the other way round.
func TestContract_HasEveryRouteAndNoOther(t *testing.T) {
	f := newFace(t)
	if err := f.doc.Validate(context.Background()); err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	said := map[string]bool{}
	for path, item := range f.doc.Paths.Map() {
		for method := range item.Operations() {
			said[method+" "+path] = true
		}
	}
	served := map[string]bool{}
	param := regexp.MustCompile(`:(\w+)`)
	for _, r := range f.server.engine.Routes() {
		if strings.HasPrefix(r.Path, "/v1") || r.Path == "/health" || r.Path == "/config.json" {
			served[r.Method+" "+param.ReplaceAllString(r.Path, "{$1}")] = true
		}
	}
	for _, route := range slices.Sorted(maps.Keys(served)) {
		if !said[route] {
			t.Errorf("%s is served and not in openapi.yaml", route)
		}
	}
	for _, route := range slices.Sorted(maps.Keys(said)) {
		if !served[route] {
			t.Errorf("%s is in openapi.yaml and not served", route)
		}
	}
}

func TestContract_HasEveryErrorCode(t *testing.T) {
	enum := map[string]bool{}
	for _, v := range loadContract(t).Components.Schemas["Error"].Value.Properties["code"].Value.Enum {
		enum[v.(string)] = true
	}
	for _, name := range append(codeNames(), "invalid_request", "invalid_text", "rate_limited", "limit_reached", "internal") {
		if !enum[name] {
			t.Errorf("code %s is not in openapi.yaml", name)
		}
		delete(enum, name)
	}
	for name := range enum {
		t.Errorf("code %s is in openapi.yaml and in no table", name)
	}
}

func codeNames() (names []string) {
	for _, c := range protocol.Codes {
		if !slices.Contains(names, c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestRoutes_GoodRequestsKeepTheContract(t *testing.T) {
	f := newFace(t)
	operations := map[string]bool{}
	for _, item := range f.doc.Paths.Map() {
		for _, op := range item.Operations() {
			operations[op.OperationID] = true
		}
	}
	for id := range operations {
		good, ok := goodRequests[id]
		if !ok {
			t.Errorf("no request tries %s", id)
			continue
		}
		req := good.build()
		route, params, err := f.router.FindRoute(req)
		if err != nil || route.Operation.OperationID != id {
			t.Errorf("%s: the contract has no such request: %v", id, err)
			continue
		}
		err = openapi3filter.ValidateRequest(context.Background(), &openapi3filter.RequestValidationInput{
			Request: req, PathParams: params, Route: route,
			Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
		})
		if err != nil {
			t.Errorf("%s: the request breaks the contract: %v", id, err)
		}
		want(t, id, f.do(good.request), good.status, "")
	}
}

// Every error a neighbour may return is answered by the table, on every route, with
// nothing of its cause ([A1]).
func TestRoutes_NeighbourErrorsAreAnsweredByTheTable(t *testing.T) {
	cases := []struct {
		err     error
		status  int
		code    string
		outcome im.Outcome
	}{
		{im.ErrNotFound, 404, "not_found", im.OutcomeRefused},
		{im.ErrUnauthenticated, 401, "unauthenticated", im.OutcomeRefused},
		{im.ErrBlocked, 403, "blocked", im.OutcomeRefused},
		{im.ErrNotContact, 403, "not_a_contact", im.OutcomeRefused},
		{&im.FullError{Limit: "contacts", Max: im.MaxContacts}, 409, "limit_reached", im.OutcomeRefused},
		{im.ErrForbidden, 403, "forbidden", im.OutcomeRefused},
		{im.ErrMuted, 403, "muted", im.OutcomeRefused},
		{im.ErrPending, 409, "membership_pending", im.OutcomeRefused},
		{im.ErrMsgIDConflict, 409, "client_msg_id_conflict", im.OutcomeRefused},
		{&im.RejectedError{Cause: im.ErrMsgIDConflict}, 409, "client_msg_id_conflict", im.OutcomeRejected},
		{&im.RejectedError{Cause: im.ErrUnstorable}, 422, "unstorable", im.OutcomeRejected},
		{im.ErrChangeIDConflict, 409, "client_change_id_conflict", im.OutcomeRefused},
		{im.ErrRecalled, 409, "recalled", im.OutcomeRefused},
		{&im.RejectedError{Cause: im.ErrEditConflict}, 409, "edit_conflict", im.OutcomeRejected},
		{im.ErrTooLate, 403, "too_late", im.OutcomeRefused},
		{im.ErrConflict, 409, "conflict", im.OutcomeRefused},
		{im.ErrContentRefused, 422, "content_refused", im.OutcomeRefused},
		{im.ErrTooLarge, 413, "too_large", im.OutcomeRefused},
		{im.ErrUnsupported, 400, "unsupported", im.OutcomeRefused},
		{im.Invalid("to", "missing"), 400, "invalid_request", im.OutcomeRefused},
		{im.Invalid("content.text", "empty"), 400, "invalid_text", im.OutcomeRefused},
		{&im.LimitError{Limit: "send", RetryAfter: 1500 * time.Millisecond}, 429, "rate_limited", im.OutcomeRefused},
		{im.ErrStore, 503, "store_unavailable", im.OutcomeRefused},
		{im.ErrCache, 503, "cache_unavailable", im.OutcomeRefused},
		{im.ErrQueue, 503, "queue_unavailable", im.OutcomeRefused},
		{im.ErrUnknownOutcome, 503, "outcome_unknown", im.OutcomeUnknown},
		{im.ErrOverloaded, 503, "overloaded", im.OutcomeRefused},
		{im.ErrShuttingDown, 503, "shutting_down", im.OutcomeRefused},
		{im.ErrTimeout, 503, "timeout", im.OutcomeRefused},
		{context.DeadlineExceeded, 503, "timeout", im.OutcomeUnknown},
		{context.Canceled, 499, "cancelled", im.OutcomeUnknown},
		{errors.New("dial tcp 10.0.0.5:3306"), 500, "internal", im.OutcomeUnknown},
	}
	f := newFace(t)
	for id, good := range goodRequests {
		if id == "health" || id == "pageConfig" || id == "limits" {
			continue
		}
		for _, c := range cases {
			f.fail = fmt.Errorf("SELECT secret FROM users at 10.0.0.5: %w", c.err)
			w := f.do(good.request)
			want(t, fmt.Sprintf("%s with %v", id, c.err), w, c.status, c.code)
			if strings.Contains(w.Body.String(), "SELECT") || strings.Contains(w.Body.String(), "10.0.0.5") {
				t.Errorf("%s with %v shows its inside: %s", id, c.err, w.Body)
			}
			e := shownError(t, w)
			if e.Retryable != (w.Header().Get("Retry-After") != "") || e.Retryable != (e.RetryAfterMS > 0) {
				t.Errorf("%s with %v: retryable %t, Retry-After %q, retry_after_ms %d", id, c.err, e.Retryable, w.Header().Get("Retry-After"), e.RetryAfterMS)
			}
			outcome := im.Outcome("")
			if id == "send" || id == "serverSend" || id == "change" {
				outcome = c.outcome
			}
			if e.Outcome != outcome {
				t.Errorf("%s with %v: outcome %q, want %q", id, c.err, e.Outcome, outcome)
			}
		}
	}
	f.fail = &im.LimitError{Limit: "send", RetryAfter: 1500 * time.Millisecond}
	if got := f.do(goodRequests["send"].request).Header().Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After of 1.5 s: %q, want 2", got)
	}
}

func TestRoutes_PanicIsInternalAndShowsNothing(t *testing.T) {
	f := newFace(t)
	f.panic = true
	for _, id := range []string{"send", "sync", "login"} {
		w := f.do(goodRequests[id].request)
		want(t, id, w, 500, "internal")
		if strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s shows the panic: %s", id, w.Body)
		}
	}
	if !strings.Contains(f.log.String(), "SELECT password") {
		t.Error("the panic is not in the log")
	}
	f.panic = false
	want(t, "after a panic", f.do(goodRequests["sync"].request), 200, "")
}

func TestSend_StatusSaysHowFarTheMessageIs(t *testing.T) {
	f := newFace(t)
	id := im.MessageID(104942118400)
	stored := protocol.Sent{State: protocol.StateStored, ConversationID: "d7-12", ClientMsgID: "01JF2K9M7Q", Seq: 42, MessageID: &id, StoredAt: 1}
	accepted := f.sent
	for _, c := range []struct {
		sent   protocol.Sent
		query  string
		status int
	}{
		{accepted, "", http.StatusAccepted},
		{stored, "", http.StatusOK},
		{stored, "?wait=stored", http.StatusCreated},
		{accepted, "?wait=stored", http.StatusAccepted},
	} {
		for path, auth := range map[string]string{"/v1/messages": asUser, "/v1/server/messages": asServer} {
			f.sent = c.sent
			w := f.do(request{method: "POST", path: path + c.query, auth: auth, body: sendBody})
			want(t, path+c.query+" "+string(c.sent.State), w, c.status, "")
			if f.lastWait != (c.query != "") {
				t.Errorf("%s%s: wait %t", path, c.query, f.lastWait)
			}
		}
	}
	if f.lastSend.To.Handle != "godwit" || string(f.lastSend.Content) != `{"text":"hello"}` {
		t.Errorf("send reached logic as %+v", f.lastSend)
	}
}

func TestAnswers_KeepTextAsItWasSent(t *testing.T) {
	f := newFace(t)
	w := f.do(goodRequests["history"].request)
	if !strings.Contains(w.Body.String(), `{"text":"<b>&"}`) {
		t.Errorf("text was rewritten: %s", w.Body)
	}
	if w := f.do(goodRequests["offlinePull"].request); !strings.Contains(w.Body.String(), `"items":[]`) {
		t.Errorf("an empty page is not an empty array: %s", w.Body)
	}
}
