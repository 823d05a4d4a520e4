package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// An engine that is told a secret of nobody's drawing, or to show the world what is the
// operator's, does not start, and says which setting it is.
func TestStartup_UnsafeSettingsAreRefused(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	const drawn = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="
	keys := func(line string) string {
		file := filepath.Join(t.TempDir(), "signing.keys")
		if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	type row struct {
		want string // names what is wrong
		set  []string
		env  string
	}
	for name, c := range map[string]row{
		"production without keys":             {"logic.auth.keys_file", []string{"profile=production"}, ""},
		"production with demo accounts":       {"api.demo", []string{"profile=production", "api.demo=true"}, ""},
		"a keys file that is not there":       {"signing keys", []string{"logic.auth.keys_file=/nowhere/keys", "logic.auth.generate_keys=false"}, ""},
		"an empty keys file":                  {"holds none", []string{"logic.auth.keys_file=" + keys("# none")}, ""},
		"a signing key of 31 bytes":           {"31 bytes", []string{"logic.auth.keys_file=" + keys("k:"+b64(drawn[:31]))}, ""},
		"a signing key of zeros":              {"not random", []string{"logic.auth.keys_file=" + keys("k:"+b64(strings.Repeat("\x00", 32)))}, ""},
		"a signing key of a phrase":           {"not random", []string{"logic.auth.keys_file=" + keys("k:"+b64(strings.Repeat("changeme", 4)))}, ""},
		"a server key of 31 bytes":            {"server_keys[0].secret", nil, "CURLEW_SERVER_KEY=k:" + drawn[:31]},
		"a server key without a secret":       {"server_keys[0].secret", nil, "CURLEW_SERVER_KEY=k"},
		"a server key of one letter":          {"server_keys[0].secret", nil, "CURLEW_SERVER_KEY=k:" + strings.Repeat("x", 64)},
		"the example's server key":            {"server_keys[0].secret", nil, "CURLEW_SERVER_KEY=k:at least 32 bytes, as from `openssl rand -base64 32`"},
		"a server key to be changed":          {"server_keys[0].secret", nil, "CURLEW_SERVER_KEY=k:please-change-me-" + drawn},
		"an operator's token of 31 bytes":     {"admin.token", []string{"admin.token=" + drawn[:31]}, ""},
		"an operator's token of an example":   {"admin.token", []string{"admin.token=your-secret-" + drawn}, ""},
		"metrics and profiles for everybody":  {"admin.token", []string{"admin.listen=0.0.0.0:0", "admin.profiles=true"}, ""},
		"dev's accounts for everybody":        {"api.listen", []string{"profile=dev", "api.listen=0.0.0.0:0"}, ""},
		"dev's sockets for everybody":         {"connector.listen", []string{"profile=dev", "connector.listen=:0"}, ""},
		"a bridge for everybody":              {"logic.grpc.token", []string{"profile=production", "roles=logic", "logic.grpc.listen=0.0.0.0:0"}, ""},
		"a bridge with a token of one letter": {"logic.grpc.token", []string{"profile=production", "roles=logic", "logic.grpc.listen=0.0.0.0:0", "logic.grpc.token=" + strings.Repeat("x", 32)}, ""},
		"every origin":                        {"connector.allowed_origins", []string{"connector.allowed_origins=*"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"--set", "data=" + t.TempDir()}
			for _, part := range []string{"api", "connector", "admin"} {
				args = append(args, "--set", part+".listen=127.0.0.1:0")
			}
			for _, kv := range c.set {
				args = append(args, "--set", kv)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, path, args...)
			cmd.Env = append(withoutServerKey(devtest.Environment()), c.env)
			out, err := cmd.CombinedOutput()
			if err == nil || ctx.Err() != nil {
				t.Fatalf("it runs: %v\n%s", err, out)
			}
			if last := out[bytes.LastIndex(bytes.TrimSpace(out), []byte("curlew: "))+1:]; !bytes.Contains(last, []byte(c.want)) {
				t.Errorf("does not name %s: %s", c.want, out)
			}
			if bytes.Contains(out, []byte(drawn[:31])) {
				t.Errorf("shows the secret: %s", out)
			}
		})
	}
}

func withoutServerKey(env []string) []string {
	var kept []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, configs.EnvName("server_key")+"=") {
			kept = append(kept, kv)
		}
	}
	return kept
}

// A running engine's public ports have nothing of the operator's, whatever gin's own
// variable says, and its log nothing of gin's.
func TestStartup_PublicPortsShowNothingOfTheOperators(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	c := newChild(t, s, ownStores())
	path, _ := binary()
	var log lines
	c.cmd = exec.Command(path, devtest.Args(c.settings)...)
	c.cmd.Env = append(devtest.Environment(), "GIN_MODE=debug")
	c.cmd.Stderr, c.cmd.Stdout = &log, &log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	operator := "http://" + c.settings["admin.listen"]
	devtest.Eventually(t, "the process is ready", func() bool { return answers(operator + "/ready") })
	for _, path := range []string{
		"/metrics", "/ready", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile", "/debug/vars", "/v1/admin/generation", "/admin/pools",
		"/v1/admin/pools", "//metrics", "/%6detrics", "/v1/../metrics", "/metrics/", "/.git/config", "/server.key", "/signing.keys",
	} {
		for port, base := range map[string]string{"api": c.http(), "connector": "http://" + c.settings["connector.listen"]} {
			for _, method := range []string{"GET", "POST"} {
				r := call{method: method, path: path}.do(t, base, "")
				if r.status < 400 || r.status >= 500 {
					t.Errorf("%s %s on the %s's port: %d %.80s", method, path, port, r.status, r.body)
				}
			}
		}
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/vars"} { // off unless asked for
		if r := (call{method: "GET", path: path}).do(t, operator, ""); r.status != 404 {
			t.Errorf("%s on the operator's port: %d", path, r.status)
		}
	}
	// What a page of anybody's could ask of the operator's own machine changes nothing.
	for name, header := range map[string]map[string]string{
		"a foreign page": {"Origin": "https://evil.example"}, "a page's fetch": {"Sec-Fetch-Site": "cross-site"},
	} {
		if r := (call{method: "POST", path: "/v1/admin/generation", header: header}).do(t, operator, ""); r.status != 401 {
			t.Errorf("%s: %d", name, r.status)
		}
	}
	c.terminate()
	if out := log.String(); strings.Contains(out, "[GIN") || strings.Contains(out, "debug mode") {
		t.Errorf("gin speaks: %s", out)
	}
}

// lines keeps what a process writes.
type lines struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
