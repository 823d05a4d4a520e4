package main

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// What is tried in the place of each ID, number and value of every route that the
// contract knows. Nothing of it may be answered with 5xx, or show what is inside.

// oddWords stand in paths and queries; they are escaped where they must be.
var oddWords = []string{
	"-1", "0", "01", "+1", "1.5", "1e3", "NaN", "Infinity", "9007199254740991", "9007199254740992", "9223372036854775808", "18446744073709551616",
	"me", "null", "undefined", "[object Object]", "{}", "{*}", "*", "a:b", "a\r\nb", "\x00", "\xff", "\u202e", "'", "' OR '1'='1", "1;DROP TABLE users--",
	"%", "%n%s", "..", "../../etc/passwd", "${jndi:ldap://x}", "{{7*7}}", strings.Repeat("9", 2000), "d1-2", "c1", "d-1-2", "c0",
}

// oddValues stand in bodies.
var oddValues = []string{
	`null`, `true`, `-1`, `0`, `1.5`, `1e400`, `9007199254740992`, `18446744073709551616`, `""`, `"x"`, `"-1"`, `"0"`, `"9007199254740991"`,
	`"' OR '1'='1"`, `"\u0000"`, `"\ud800"`, `"\r\nX: y"`, `"{*}"`, `[]`, `{}`, `[null]`, `[[]]`, `[{}]`, `["x"]`, `{"a":{"b":[1,"c"]}}`, `"2026-01-01"`,
}

// inside is what no answer may show: names of parts, of files, of statements.
var inside = regexp.MustCompile(`(?i)sql|sqlite|mariadb|redis|kafka|miniredis|panic|goroutine|\.go\b|/work/|/tmp/|/home/|stack|SELECT |INSERT |UPDATE .* SET|dial tcp|127\.0\.0\.1|unmarshal|strconv|gin\.|reflect\.|Go struct|Go value`)

// prober asks as one who may ask all of it.
type prober struct {
	t      *testing.T
	base   string
	auth   string
	server string
	client *http.Client
	params map[string]string
	fields map[string]any // what is good in a body, by name
	calls  chan probe

	mu      sync.Mutex // guards answers
	answers map[string]int
}

// count keeps how often each code was the answer.
func (p *prober) count(code string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[code]++
}

// probe is one request; odd says what is wrong with it.
type probe struct {
	method, path, body, auth, odd string
}

func (p *prober) ask(q probe) (status int, body []byte) {
	req, err := http.NewRequestWithContext(p.t.Context(), q.method, p.base+q.path, strings.NewReader(q.body))
	if err != nil {
		p.t.Errorf("%s %q: %v", q.method, q.path, err)
		return 0, nil
	}
	if q.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", q.auth)
	resp, err := p.client.Do(req)
	if err != nil {
		p.t.Errorf("%s %q: %v", q.method, q.path, err)
		return 0, nil
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		p.t.Errorf("%s %q: %v", q.method, q.path, err)
	}
	return resp.StatusCode, body
}

// judge says what is wrong with an answer.
func (p *prober) judge(q probe, status int, body []byte) {
	// A password takes a machine's time to check: where many wait, later ones are told to return.
	waits := strings.HasPrefix(q.path, "/v1/auth/") && status == http.StatusServiceUnavailable
	if status >= 500 && !waits || status < 200 {
		p.t.Errorf("%s %s %s (%s): %d %s", q.method, q.path, q.body, q.odd, status, body)
		return
	}
	if status < 400 {
		p.count("")
		return
	}
	var e struct {
		Code, Message, Outcome string
		RequestID              string `json:"request_id"`
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Code == "" || e.Message == "" || e.RequestID == "" || e.Code == "internal" {
		p.t.Errorf("%s %s %s (%s): %d %s", q.method, q.path, q.body, q.odd, status, body)
	}
	p.count(e.Code)
	if shown := inside.FindString(e.Code + " " + e.Message); shown != "" {
		p.t.Errorf("%s %s %s (%s) shows %q: %s", q.method, q.path, q.body, q.odd, shown, body)
	}
}

// filled is the route with its parameters, one of them replaced.
func (p *prober) filled(route, odd, value string) string {
	for _, name := range braces.FindAllStringSubmatch(route, -1) {
		good, known := p.params[name[1]]
		if !known {
			p.t.Fatalf("%s: nothing is known of {%s}", route, name[1])
		}
		if name[1] == odd {
			good = url.PathEscape(value)
		}
		route = strings.Replace(route, name[0], good, 1)
	}
	return route
}

// body is one that the schema allows, as far as names say what is good.
func (p *prober) body(s *openapi3.Schema, deep int) any {
	if s == nil || deep > 6 {
		return nil
	}
	for _, part := range slices.Concat(s.OneOf, s.AnyOf) {
		return p.body(part.Value, deep+1)
	}
	if len(s.Enum) > 0 {
		return s.Enum[0]
	}
	switch {
	case s.Type.Is("object") || len(s.Properties) > 0:
		m := map[string]any{}
		for name, prop := range s.Properties {
			if good, known := p.fields[name]; known {
				m[name] = good
			} else {
				m[name] = p.body(prop.Value, deep+1)
			}
		}
		return m
	case s.Type.Is("array"):
		return []any{p.body(s.Items.Value, deep+1)}
	case s.Type.Is("integer"), s.Type.Is("number"):
		return 1
	case s.Type.Is("boolean"):
		return true
	}
	return "godwit"
}

// leaves calls f for each value in v with a function that puts another in its place.
func leaves(v any, name string, set func(any), f func(name string, set func(any))) {
	f(name, set)
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			old := v[key]
			leaves(old, name+"."+key, func(x any) { v[key] = x }, f)
			v[key] = old
		}
	case []any:
		for i, old := range v {
			leaves(old, name+"[]", func(x any) { v[i] = x }, f)
			v[i] = old
		}
	}
}

// probes sends into calls every request about one operation.
func (p *prober) probes(route, method string, op *openapi3.Operation) {
	auth := p.auth
	if strings.HasPrefix(route, "/v1/server") {
		auth = p.server
	}
	base := probe{method: method, path: p.filled(route, "", ""), auth: auth}
	var body any
	if op.RequestBody != nil {
		body = p.body(op.RequestBody.Value.Content["application/json"].Schema.Value, 0)
		b, _ := json.Marshal(body) // it was made of what JSON has
		base.body = string(b)
	}
	for _, name := range braces.FindAllStringSubmatch(route, -1) {
		for _, odd := range oddWords {
			q := base
			q.path, q.odd = p.filled(route, name[1], odd), name[1]
			p.calls <- q
		}
	}
	for _, param := range op.Parameters {
		if param.Value.In != "query" {
			continue
		}
		for _, odd := range oddWords {
			q := base
			q.path, q.odd = base.path+"?"+param.Value.Name+"="+url.QueryEscape(odd), param.Value.Name
			p.calls <- q
		}
		q := base
		q.path, q.odd = base.path+"?"+param.Value.Name+"[]=1&"+param.Value.Name+"=1&"+param.Value.Name+"=2", "twice"
		p.calls <- q
	}
	if body == nil {
		return
	}
	root := body
	leaves(body, "body", func(x any) { root = x }, func(name string, set func(any)) {
		for _, odd := range oddValues {
			set(json.RawMessage(odd))
			b, err := json.Marshal(root)
			root = body
			if err != nil { // a number that encoding/json does not write again
				continue
			}
			q := base
			q.body, q.odd = string(b), name
			p.calls <- q
		}
	})
}

// Bad types everywhere: every route of the contract, every parameter, every value of its
// body, nested ones too.
func TestAbuse_ProbingEveryRouteIsNeverInternal(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), lenient) // so that probes reach the handlers
	people := enrol(t, e.http, e.socket, "ada", "bob")
	ada, bob := people[0], people[1]
	g := ada.found("probed", im.JoinRequest, bob)
	sent, err := ada.http.Send(t.Context(), textTo(bob.id, "hello"), true)
	must(t, err)
	doc, err := openapi3.NewLoader().LoadFromFile("api/openapi.yaml")
	must(t, err)
	tr := &http.Transport{MaxIdleConnsPerHost: 8}
	defer tr.CloseIdleConnections()
	p := &prober{
		t: t, base: e.http, auth: ada.http.Token(), server: "ServerKey " + devtest.ServerKeyID + ":" + devtest.ServerKeySecret,
		client: &http.Client{Transport: tr, Timeout: 20 * time.Second},
		params: map[string]string{
			"device": "spare", "user": bob.id.String(), "request": "900000003", "conversation": string(sent.ConversationID), "seq": "1",
			"group": g.ID.String(), "schedule": "900000004",
		},
		fields: map[string]any{
			"user_id": bob.id.String(), "user_ids": []any{bob.id.String()}, "users_ids": []any{bob.id.String()}, "members": []any{bob.id.String()},
			"conversation_id": string(sent.ConversationID), "client_msg_id": "probe-00001", "client_change_id": "probe-00002",
			"content": map[string]any{"text": "x"}, "device": "spare", "type": "text",
		},
		calls: make(chan probe, 64), answers: map[string]int{},
	}
	var work errgroup.Group
	for range 8 {
		work.Go(func() error {
			for q := range p.calls {
				status, body := p.ask(q)
				p.judge(q, status, body)
			}
			return nil
		})
	}
	operations := 0
	for _, route := range doc.Paths.InMatchingOrder() {
		for method, op := range doc.Paths.Value(route).Operations() {
			operations++
			p.probes(route, method, op)
		}
	}
	close(p.calls)
	_ = work.Wait() // judge has failed the test
	total := 0
	for _, n := range p.answers {
		total += n
	}
	t.Logf("%d operations, %d requests, by code: %v", operations, total, p.answers)
	if operations < 70 || total < 5000 || p.answers["unauthenticated"] > total/10 || p.answers["rate_limited"] > total/3 {
		t.Errorf("that is not all of it: %d operations, %v", operations, p.answers)
	}
	if _, err := ada.http.Send(t.Context(), textTo(bob.id, "still here"), true); err != nil {
		t.Errorf("after all of it: %v", err)
	}
}
