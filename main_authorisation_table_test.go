package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// verdicts are what a cell says, each with the code that the asker is shown.
var verdicts = map[rune]string{
	'.': "",
	'u': "unauthenticated",
	'n': "not_found",
	'f': "forbidden",
	'b': "blocked",
	'm': "muted",
	'c': "conflict",
	'i': "invalid_request",
}

// permission is one row: a route with its path filled in, or a command of the socket,
// and one verdict for each asker. What is in braces is looked up in the asker's world.
type permission struct {
	what, data string
	cells      string
}

// asker is one column.
type asker struct {
	name   string
	auth   string  // for HTTP; empty: no header
	device string  // of the socket's connect; empty: asks before it
	token  string  // for it
	self   *person // whose point of view fills in the braces
	// connects says that the socket takes them; then there is one as long as it lives.
	connects bool
	socket   *wire
}

// wire is the asker's socket, connected anew where a question has ended it.
func (a *asker) wire() *wire {
	if a.socket != nil {
		a.socket.mu.Lock()
		ended := a.socket.closed != 0
		a.socket.mu.Unlock()
		if !ended {
			return a.socket
		}
	}
	a.socket = a.self.wire("wire")
	return a.socket
}

// table is a world in which rows are tried.
type table struct {
	t      *testing.T
	e      *engine
	askers []*asker
	// names gives what stands in braces; a foreign name has a twin that exists nowhere,
	// and whoever is told not_found of the one must be told the same of the other.
	names  map[string]func(self *person) string
	nobody map[string]string
	// before makes the world good for one more cell; nil: nothing is used up.
	before func(row permission, cell rune)
}

var braces = regexp.MustCompile(`\{(\w+)\}`)

// fill replaces what stands in braces; unknown says with the twins. foreign says that
// there was one with a twin.
func (tb *table) fill(s string, self *person, unknown bool) (filled string, foreign bool) {
	return braces.ReplaceAllStringFunc(s, func(m string) string {
		name := m[1 : len(m)-1]
		twin, has := tb.nobody[name]
		foreign = foreign || has
		if has && unknown {
			return twin
		}
		value := tb.names[name]
		if value == nil {
			tb.t.Fatalf("nothing is called %s", m)
		}
		return value(self)
	}), foreign
}

// ask makes the row's request on behalf of the asker. shown is the whole answer without
// what differs from one answer to the next.
func (tb *table) ask(row permission, a *asker, unknown bool) (code, shown string, foreign bool) {
	tb.t.Helper()
	data, foreign := tb.fill(row.data, a.self, unknown)
	method, path, isRoute := strings.Cut(row.what, " ")
	if !isRoute {
		return tb.command(a, protocol.Command(row.what), data, foreign)
	}
	path, inPath := tb.fill(path, a.self, unknown)
	r := call{method: method, path: path, body: data}.do(tb.t, tb.e.http, a.auth)
	if r.status >= 500 {
		tb.t.Errorf("%s as %s: %d %s", row.what, a.name, r.status, r.body)
	}
	if r.status < 300 {
		return "", "", false
	}
	body := strings.ReplaceAll(string(r.body), r.err.RequestID, "…")
	for _, varying := range []string{"Date", "X-Request-Id"} {
		r.header.Del(varying)
	}
	return r.err.Code, fmt.Sprint(r.status, r.header, body), foreign || inPath
}

func (tb *table) command(a *asker, cmd protocol.Command, data string, foreign bool) (code, shown string, _ bool) {
	tb.t.Helper()
	if !a.connects { // the connect is refused, or there is none
		w := dialWire(tb.t, tb.e.socket)
		if a.device == "" {
			w.frame(1, fmt.Appendf(nil, `{"id":"1","cmd":%q,"data":%s}`, cmd, data))
		} else {
			w.ask("1", protocol.CmdConnect, protocol.Connect{Token: a.token, Device: im.DeviceID(a.device)})
		}
		if closed, reason := w.ends(); closed != protocol.CloseUnauthenticated {
			tb.t.Errorf("%s as %s: closed with %d %s", cmd, a.name, closed, reason)
		}
		return "unauthenticated", "", false
	}
	w := a.wire()
	r := w.text(fmt.Sprintf(`{"id":"1","cmd":%q,"data":%s}`, cmd, data))
	if r.Error == nil {
		if r.ID == "" {
			tb.t.Errorf("%s as %s: no answer", cmd, a.name)
		}
		return "", "", false
	}
	return r.Error.Code, fmt.Sprintf("%+v", *r.Error), foreign
}

// hold tries every row as everybody.
func (tb *table) hold(rows []permission) {
	tb.t.Helper()
	for _, row := range rows {
		cells := []rune(strings.ReplaceAll(row.cells, " ", ""))
		if len(cells) != len(tb.askers) {
			tb.t.Errorf("%s: %d cells for %d askers", row.what, len(cells), len(tb.askers))
			continue
		}
		for i, a := range tb.askers {
			wanted, known := verdicts[cells[i]]
			if !known {
				tb.t.Fatalf("%s: there is no verdict %q", row.what, cells[i])
			}
			if tb.before != nil {
				tb.before(row, cells[i])
			}
			code, shown, foreign := tb.ask(row, a, false)
			if code != wanted {
				tb.t.Errorf("%s %s as %s: %q %s, want %q", row.what, row.data, a.name, code, shown, wanted)
			}
			if code != "not_found" || !foreign {
				continue
			}
			if _, twin, _ := tb.ask(row, a, true); twin != shown {
				tb.t.Errorf("%s as %s tells what is foreign from what is not:\n%s\n%s", row.what, a.name, shown, twin)
			}
		}
	}
}

// covers fails the test for each route and command that no row is about.
func (tb *table) covers(rows ...[]permission) {
	tb.t.Helper()
	asked := map[string]bool{}
	engine := tb.e.api.Handler().(*gin.Engine)
	for _, row := range slices.Concat(rows...) {
		method, path, isRoute := strings.Cut(row.what, " ")
		if !isRoute {
			asked[row.what] = true
			continue
		}
		path, _, _ = strings.Cut(path, "?")
		best := "" // a fixed path goes before one with a parameter
		for _, r := range engine.Routes() {
			if r.Method == method && fits(r.Path, path) && (best == "" || strings.Count(r.Path, ":") < strings.Count(best, ":")) {
				best = r.Path
			}
		}
		if best == "" {
			tb.t.Errorf("%s is no route", row.what)
		}
		asked[method+" "+best] = true
	}
	for _, r := range engine.Routes() {
		if (strings.HasPrefix(r.Path, "/v1") || r.Path == "/health") && !asked[r.Method+" "+r.Path] {
			tb.t.Errorf("no row is about %s %s", r.Method, r.Path)
		}
	}
	for _, cmd := range commands(tb.t) {
		if !asked[string(cmd)] {
			tb.t.Errorf("no row is about the command %s", cmd)
		}
	}
}

// fits says whether a path is one of the route's.
func fits(route, path string) bool {
	r, p := strings.Split(route, "/"), strings.Split(path, "/")
	return len(r) == len(p) && !slices.ContainsFunc(r, func(part string) bool {
		other := p[0]
		p = p[1:]
		return part != other && !strings.HasPrefix(part, ":")
	})
}

// commands are those that the protocol has.
func commands(t *testing.T) (all []protocol.Command) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "api/protocol/frame.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Command" {
				all = append(all, protocol.Command(strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`)))
			}
		}
		return true
	})
	return all
}

// newTable has the askers that every table begins with: nobody, one whose device was
// revoked, and a backend.
func newTable(t *testing.T, e *engine, revoked *person) *table {
	t.Helper()
	tokens := revoked.issue("lost")
	if err := revoked.http.Do(t.Context(), http.MethodDelete, "/v1/auth/devices/lost", nil, nil); err != nil {
		t.Fatal(err)
	}
	key := devtest.ServerKeyID + ":" + devtest.ServerKeySecret
	return &table{
		t: t, e: e, names: map[string]func(*person) string{}, nobody: map[string]string{},
		askers: []*asker{
			{name: "nobody", self: revoked},
			{name: "a revoked device", auth: "Bearer " + tokens.AccessToken, device: "lost", token: tokens.AccessToken, self: revoked},
			{name: "a backend", auth: "ServerKey " + key, device: "backend", token: key, self: revoked},
		},
	}
}

func (tb *table) asks(name string, p *person) {
	tokens := p.issue("table")
	tb.askers = append(tb.askers, &asker{name: name, auth: "Bearer " + tokens.AccessToken, self: p, connects: true})
}

// fixed is a name that is the same for everybody.
func fixed(value any) func(*person) string {
	return func(*person) string { return fmt.Sprint(value) }
}
