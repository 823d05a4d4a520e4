package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// post is a POST without a token, from the address of the n-th client.
func (e *engine) post(t *testing.T, n int, path string, body any) reply {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return call{method: "POST", path: path, body: string(b), from: address(n)}.do(t, e.http, "")
}

func (e *engine) register(t *testing.T, n int, handle, password string) reply {
	t.Helper()
	return e.post(t, n, "/v1/auth/register", protocol.Register{Handle: handle, Password: password, Device: "phone"})
}

func (e *engine) login(t *testing.T, n int, handle, password string) reply {
	t.Helper()
	return e.post(t, n, "/v1/auth/login", protocol.Login{Handle: handle, Password: password, Device: "phone"})
}

// same is a refusal without what differs in every answer.
func (r reply) same() string {
	r.err.RequestID, r.err.RetryAfterMS = "", 0
	return fmt.Sprint(r.status, r.err, len(r.header))
}

// A password is kept as argon2id with a salt of its own, counts to its last character,
// and is in no answer and no log.
func TestAbuse_PasswordsAreKeptSalted(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, shipped)
	const password = "correct horse battery"
	for n, handle := range []string{"anna", "berta"} {
		r := e.register(t, n, handle, password)
		if r.status != http.StatusCreated || strings.Contains(string(r.body), "horse") || strings.Contains(string(r.body), "argon2") {
			t.Errorf("%s: %d %s", handle, r.status, r.body)
		}
	}
	var stored []string
	for _, handle := range []string{"anna", "berta"} {
		stored = append(stored, recorded[string](t, e, "SELECT password_hash FROM users WHERE handle = ?", handle))
	}
	for _, phc := range stored {
		parts := strings.Split(phc, "$") // "", argon2id, v=19, costs, salt, key
		if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != "v=19" || parts[3] != "m=19456,t=2,p=1" || len(parts[4]) < 22 || len(parts[5]) < 43 {
			t.Errorf("stored as %q", phc)
		}
	}
	if len(stored) == 2 && (stored[0] == stored[1] || strings.Split(stored[0], "$")[4] == strings.Split(stored[1], "$")[4]) {
		t.Error("the same password with the same salt")
	}

	long := strings.Repeat("ж", 127) // far above the 72 bytes at which bcrypt ends
	for i, c := range []struct {
		name, password string
		status         int
	}{
		{"7 characters", "1234567", 400}, {"8 characters", "12345678", 201}, {"8 emoji", strings.Repeat("🙂", 8), 201},
		{"128 characters", long + "1", 201}, {"129 characters", long + "12", 400}, {"a megabyte", strings.Repeat("x", 200<<10), 413},
		{"NUL", "correct\x00horse", 400}, {"none", "", 400},
	} {
		if r := e.register(t, 10+i, fmt.Sprint("length", i), c.password); r.status != c.status || strings.Contains(string(r.body), c.password) && c.password != "" {
			t.Errorf("%s: %d %.200s", c.name, r.status, r.body)
		}
	}
	for what, c := range map[string]struct {
		password string
		status   int
	}{"the same": {long + "1", 200}, "another last character": {long + "2", 401}, "the last one missing": {long, 401}, "with NUL": {long + "1\x00", 401}} {
		if r := e.login(t, 30, "length3", c.password); r.status != c.status {
			t.Errorf("a long password, %s: %d %s", what, r.status, r.body)
		}
	}
	if s.Logged("horse") || s.Logged("argon2") || s.Logged(long[:20]) {
		t.Error("a password is in the log")
	}
}

// Guessing is slowed per account and per address, whatever addresses are claimed; the
// right password is no better while it is; and whoever waits gets in.
func TestAbuse_GuessingIsSlowedNotLockedOut(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	const right = "correct horse battery"
	for n, handle := range []string{"victim", "other"} {
		if r := e.register(t, n, handle, right); r.status != http.StatusCreated {
			t.Fatal(r.status, string(r.body))
		}
	}
	open := wireOf(t, e, "other", right) // somebody's session, before any of it

	// One address against many accounts.
	counts := map[int]int{}
	for i := range 30 {
		counts[e.login(t, 50, fmt.Sprint("nobody", i), "wrong horse").status]++
	}
	if counts[401] < 20 || counts[401] > 23 || counts[401]+counts[429] != 30 {
		t.Errorf("one address: %v of 30", counts)
	}
	limited := e.login(t, 50, "other", "wrong horse")
	if limited.status != 429 || limited.err.Code != "rate_limited" || !limited.err.Retryable || limited.err.RetryAfterMS <= 0 || limited.header.Get("Retry-After") == "" {
		t.Errorf("one more: %d %s %v", limited.status, limited.body, limited.header)
	}
	if r := e.login(t, 50, "other", right); r.same() != limited.same() {
		t.Errorf("the right password: %s, a wrong one %s", r.same(), limited.same())
	}
	for _, header := range []string{"X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP", "True-Client-IP"} {
		for i := range 3 {
			value := fmt.Sprintf("203.0.113.%d", i)
			if header == "Forwarded" {
				value = "for=" + value
			}
			b := fmt.Sprintf(`{"handle":"other","password":%q,"device":"phone"}`, right)
			r := call{method: "POST", path: "/v1/auth/login", body: b, from: address(50), header: map[string]string{header: value}}.do(t, e.http, "")
			if r.status != 429 {
				t.Errorf("%s: %s: %d", header, value, r.status)
			}
		}
	}
	if r := e.login(t, 51, "other", right); r.status != 200 {
		t.Errorf("another address meanwhile: %d %s", r.status, r.body)
	}

	// Many addresses against one account.
	counts = map[int]int{}
	for i := range 30 {
		counts[e.login(t, 60+i, "victim", "wrong horse").status]++
	}
	if counts[401] < 20 || counts[401] > 23 || counts[401]+counts[429] != 30 {
		t.Errorf("one account: %v of 30", counts)
	}
	r := e.login(t, 100, "victim", right)
	if r.same() != limited.same() {
		t.Errorf("its owner at the same time: %s", r.same())
	}
	// By how they are spelled accounts do not multiply.
	if r := e.login(t, 101, "ＶＩＣＴＩＭ", right); r.status != 429 {
		t.Errorf("its owner, in capitals of another width: %d", r.status)
	}
	begun := time.Now()
	devtest.Eventually(t, "its owner is let in after as long as was said", func() bool {
		r = e.login(t, 102, "victim", right)
		if r.status == 429 {
			time.Sleep(time.Duration(r.err.RetryAfterMS) * time.Millisecond)
		}
		return r.status == 200
	})
	t.Logf("its owner got in after %.1f s", time.Since(begun).Seconds())
	open.alive("all of it") // who is in stays in

	// A refresh and a password change are no way around.
	me := call{method: "POST", path: "/v1/auth/password", body: `{"old_password":"wrong horse","new_password":"battery staple"}`, from: address(103)}
	var token protocol.Tokens
	if err := json.Unmarshal(r.body, &token); err != nil {
		t.Fatal(err)
	}
	codes := map[int]int{}
	for range 30 {
		codes[me.do(t, e.http, "Bearer "+token.AccessToken).status]++
	}
	if codes[403] > 23 || codes[429] == 0 || codes[403]+codes[429] != 30 {
		t.Errorf("guessing by a password change: %v of 30", codes)
	}
}

// wireOf logs in and connects.
func wireOf(t *testing.T, e *engine, handle, password string) *wire {
	t.Helper()
	var tokens protocol.Tokens
	if r := e.login(t, 199, handle, password); json.Unmarshal(r.body, &tokens) != nil || r.status != 200 {
		t.Fatal(r.status, string(r.body))
	}
	w := dialWireFrom(t, address(199), e.socket)
	if a := w.ask("1", protocol.CmdConnect, protocol.Connect{Token: tokens.AccessToken, Device: "phone"}); a.Error != nil {
		t.Fatal(a.Error)
	}
	return w
}

// Login and the search say nothing of who exists but what they must: the same answer,
// after the same work.
func TestAbuse_WhoExistsIsNotTold(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped, func(c *configs.Config) {
		c.Logic.Auth.LoginPerMinute = -1 // many, to be timed
	})
	set := record(t, e)
	for n, handle := range []string{"exists", "banned"} {
		if r := e.register(t, n, handle, "correct horse"); r.status != http.StatusCreated {
			t.Fatal(r.status, string(r.body))
		}
	}
	set("UPDATE users SET state = 1 WHERE handle = ?", "banned")
	p := enrol(t, e.http, e.socket, "ada", "nopassword")
	kinds := []struct{ name, handle, password string }{
		{"a wrong password", "exists", "wrong horse"}, {"nobody", "nobody-at-all", "wrong horse"}, {"banned, right password", "banned", "correct horse"},
		{"no password", "nopassword", "wrong horse"}, {"cannot be", "\u202Eexists", "wrong horse"}, {"a password that cannot be", "exists", "short"},
	}
	took := make([][]time.Duration, len(kinds))
	rounds := 8
	if abuse() {
		rounds = 100
	}
	var want string
	for range rounds {
		for i, k := range kinds {
			start := time.Now()
			r := e.login(t, 10+i, k.handle, k.password)
			took[i] = append(took[i], time.Since(start))
			if r.status != http.StatusUnauthorized {
				t.Fatalf("%s: %d %s", k.name, r.status, r.body)
			}
			if want == "" {
				want = r.same()
			}
			if r.same() != want {
				t.Errorf("%s: %s, want %s", k.name, r.same(), want)
			}
		}
	}
	middle := func(i int) float64 {
		slices.Sort(took[i])
		return took[i][len(took[i])/2].Seconds() * 1000
	}
	first := middle(0)
	for i, k := range kinds {
		ratio := middle(i) / first
		t.Logf("%s: median %.1f ms, %.2f of the first", k.name, middle(i), ratio)
		if ratio < 0.3 { // no hash was made: 1 ms instead of 30
			t.Errorf("%s is answered in %.2f of the time", k.name, ratio)
		}
	}

	// The search finds exact handles only, and so many a minute.
	find := func(handle string) reply {
		return call{method: "GET", path: "/v1/users?handle=" + handle}.do(t, e.http, p[0].http.Token())
	}
	if r := find("exists"); r.status != 200 || strings.Contains(string(r.body), "password") {
		t.Errorf("exact: %d %s", r.status, r.body)
	}
	unknown := find("nobody-at-all")
	for _, handle := range []string{"exist", "exists*", "exist_", "%25", "e", "exists%20", ".."} {
		if r := find(handle); r.same() != unknown.same() || r.status != 404 {
			t.Errorf("%s: %s, unknown %s", handle, r.same(), unknown.same())
		}
	}
	codes := map[int]int{}
	for i := range 80 {
		codes[find(fmt.Sprint("guess", i)).status]++
	}
	if codes[429] < 20 || codes[404]+codes[429] != 80 {
		t.Errorf("80 searches: %v", codes)
	}
}

// One address may register so many; a name that looks like another's, or shows nothing,
// is refused or is that other's.
func TestAbuse_RegistrationIsLimitedAndTwinsAreRefused(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	const password = "correct horse"
	n := 0
	for _, c := range []struct {
		name, handle string
		status       int
	}{
		{"the first", "strasse.k-1", 201}, {"itself", "strasse.k-1", 409}, {"case twin", "Strasse.K-1", 409}, {"folded twin", "STRAẞE.k-1", 409},
		{"full width twin", "ｓｔｒａｓｓｅ.k-1", 409}, {"Kelvin sign twin", "strasse.\u212A-1", 409},
		{"trailing space", "strasse.k-1 ", 400}, {"leading space", " strasse.k-1", 400}, {"no-break space", "strasse.k-1\u00a0", 400},
		{"zero-width space", "strasse\u200b.k-1", 400}, {"zero-width joiner", "strasse\u200d.k-1", 400}, {"soft hyphen", "stra\u00adsse.k-1", 400}, {"BOM", "\ufeffstrasse.k-1", 400},
		{"Cyrillic a", "str\u0430sse.k-1", 400}, {"Greek omicron", "b\u03bfb-bob", 400}, {"dotless i", "ann\u0131e", 400}, {"combining", "anne\u0301", 400},
		{"RTL override", "\u202eeiznna", 400}, {"RTL mark", "anna\u200f", 400}, {"emoji", "anna🙂", 400}, {"NUL", "anna\x00", 400}, {"line end", "anna\r\nX: y", 400},
		{"a path", "../etc", 400}, {"a key", "{u1}:convs", 400}, {"SQL", "a' OR '1'='1", 400}, {"HTML", "<b>anna", 400}, {"too short", "an", 400}, {"too long", strings.Repeat("a", 33), 400},
		{"nothing", "", 400}, {"a megabyte", strings.Repeat("a", 200<<10), 413}, {"digits first", "1anna", 400},
	} {
		n++
		if r := e.register(t, n, c.handle, password); r.status != c.status {
			t.Errorf("%s: %d %.200s, want %d", c.name, r.status, r.body, c.status)
		}
	}
	// A nickname may be of any script, but shows something and moves nothing about.
	for name, c := range map[string]struct {
		nickname string
		status   int
	}{"another script": {"Жанна 字 🙂", 201}, "RTL override": {"\u202eannA", 400}, "shows nothing": {"\u200b\u200d", 400}, "a line end": {"a\nb", 400}, "too long": {strings.Repeat("字", 65), 400}} {
		n++
		r := e.post(t, n, "/v1/auth/register", protocol.Register{Handle: fmt.Sprint("nick", n), Password: password, Nickname: c.nickname, Device: "phone"})
		if r.status != c.status {
			t.Errorf("nickname, %s: %d %s", name, r.status, r.body)
		}
	}

	tries := 300
	if abuse() {
		tries = 10_000
	}
	var mu sync.Mutex
	codes := map[int]int{}
	var all sync.WaitGroup
	start := time.Now()
	for w := range 4 {
		all.Go(func() {
			for i := range tries / 4 {
				r := e.register(t, 150, fmt.Sprintf("mass-%d-%d", w, i), password)
				mu.Lock()
				codes[r.status]++
				mu.Unlock()
				if r.status == 429 && (r.header.Get("Retry-After") == "" || r.err.RetryAfterMS <= 0) {
					t.Errorf("429 without a time: %s", r.body)
					return
				}
			}
		})
	}
	all.Wait()
	if most := 10 + int(time.Since(start).Minutes()*10) + 1; codes[201] > most || codes[201]+codes[429] != tries/4*4 {
		t.Errorf("%d registrations from one address: %v", tries, codes)
	}
	t.Logf("%d registrations from one address in %.1f s: %v", tries, time.Since(start).Seconds(), codes)
}

// What only the engine decides is decided by nothing that a body says.
func TestAbuse_RolesAreNotAssigned(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	const more = `,"id":"7","user_id":"7","role":"admin","is_admin":true,"admin":true,"state":0,"token_version":99,"device_version":99,"external_id":"ext-ada",` +
		`"created_at":1,"password_hash":"x","verified":true,"user":{"id":"7","role":"admin"}`
	victim := enrol(t, e.http, e.socket, "ada")[0]
	before := recorded[string](t, e, "SELECT external_id FROM users WHERE id = ?", victim.id)
	r := call{method: "POST", path: "/v1/auth/register", body: `{"handle":"mallory","password":"correct horse","device":"phone"` + more + `}`, from: address(1)}.do(t, e.http, "")
	var tokens protocol.Tokens
	if err := json.Unmarshal(r.body, &tokens); err != nil || r.status != http.StatusCreated {
		t.Fatalf("%d %s", r.status, r.body)
	}
	auth := "Bearer " + tokens.AccessToken
	for _, c := range []call{
		{method: "PATCH", path: "/v1/users/me", body: `{"nickname":"Mallory","handle":"ada"` + more + `}`},
		{method: "POST", path: "/v1/messages", body: fmt.Sprintf(`{"client_msg_id":"mass-assign-1","to":{"user_id":"%s"},"content":{"text":"x"},"sender":{"id":"%s"},"from":"%s","seq":99,"message_id":"1","stored_at":1%s}`,
			victim.id, victim.id, victim.id, more)},
		{method: "POST", path: "/v1/groups", body: `{"name":"mine","owner_id":"` + victim.id.String() + `","group_id":"1","max_members":1000000` + more + `}`},
	} {
		if r := c.do(t, e.http, auth); r.status >= 500 || r.status == 401 {
			t.Errorf("%s %s: %d %s", c.method, c.path, r.status, r.body)
		}
	}
	var me map[string]any
	r = call{method: "GET", path: "/v1/users/me"}.do(t, e.http, auth)
	if err := json.Unmarshal(r.body, &me); err != nil {
		t.Fatal(err)
	}
	if me["id"] != tokens.User.ID.String() || me["handle"] != "mallory" || tokens.User.ID == 7 && victim.id != 7 {
		t.Errorf("she is %s", r.body)
	}
	for _, field := range []string{"role", "is_admin", "admin", "token_version", "password_hash", "password", "external_id", "state"} {
		if v, there := me[field]; there {
			t.Errorf("%s is shown: %v", field, v)
		}
	}
	state := recorded[int](t, e, "SELECT state FROM users WHERE id = ?", tokens.User.ID)
	version := recorded[int](t, e, "SELECT token_version FROM users WHERE id = ?", tokens.User.ID)
	external := recorded[string](t, e, "SELECT COALESCE(external_id, '') FROM users WHERE id = ?", tokens.User.ID)
	if state != 0 || version == 99 || external != "" || recorded[string](t, e, "SELECT external_id FROM users WHERE id = ?", victim.id) != before {
		t.Errorf("state %d, token version %d, external ID %q", state, version, external)
	}
	devtest.Eventually(t, "what she said is hers", func() bool {
		ms := victim.history(im.DirectConversation(victim.id, tokens.User.ID))
		return len(ms) == 1 && ms[0].Sender.ID == tokens.User.ID && ms[0].Seq == 1 && ms[0].StoredAt > 1000
	})
}
