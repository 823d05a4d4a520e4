package main

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// forger makes tokens with the engine's own key, and without it.
type forger struct {
	key    logic.SigningKey
	claims map[string]any
}

func newForger(t *testing.T, e *engine, like string) *forger {
	t.Helper()
	keys, err := logic.LoadSigningKeys(e.cfg.Logic.Auth.KeysFile)
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{key: keys[0], claims: jwt.MapClaims{}}
	if _, _, err := jwt.NewParser(jwt.WithJSONNumber()).ParseUnverified(like, jwt.MapClaims(f.claims)); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *forger) header(alg string) string {
	return fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":%q}`, alg, f.key.ID)
}

// payload is the good claims with changes; nil takes one away.
func (f *forger) payload(change map[string]any) string {
	all := maps.Clone(f.claims)
	for k, v := range change {
		if all[k] = v; v == nil {
			delete(all, k)
		}
	}
	b, _ := json.Marshal(all) // numbers and strings always encode
	return string(b)
}

// signed is a token signed by the engine's key, whatever its header says.
func (f *forger) signed(header, payload string) string {
	return sealed(sha256.New, f.key.Secret, header, payload)
}

func (f *forger) claim(name string, v any) string {
	return f.signed(f.header("HS256"), f.payload(map[string]any{name: v}))
}

func sealed(h func() hash.Hash, key []byte, header, payload string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(header)) + "." + b64([]byte(payload))
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return text + "." + b64(m.Sum(nil))
}

// forgeries are the rows of RELIABILITY.md 4.2 that forge a token, each made for this
// engine.
func forgeries(t *testing.T, f *forger, good, refresh, keysAt string) map[string]string {
	t.Helper()
	now, hs256, parts := time.Now().Unix(), f.header("HS256"), strings.Split(good, ".")
	all := map[string]string{
		"no token": "x", "dots": "..", "2 KiB of dots": strings.Repeat(".", 2048), "a refresh token": refresh,
		"signature stripped": parts[0] + "." + parts[1] + ".", "two parts": parts[0] + "." + parts[1],
		"signature truncated": good[:len(good)-4], "trailing garbage": good + "AAAA", "trailing dot": good + ".",
		"another signature": parts[0] + "." + parts[1] + "." + strings.Repeat("A", 43), "padded": good + "=",
		"payload tampered":            parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(f.payload(map[string]any{"sub": "1"}))) + "." + parts[2],
		"bad signature and expired":   sealed(sha256.New, []byte("another key of thirty-two bytes!"), hs256, f.payload(map[string]any{"exp": now - 1})),
		"expired":                     f.claim("exp", now-1),
		"no exp":                      f.claim("exp", nil),
		"exp a string":                f.claim("exp", fmt.Sprint(now+60)),
		"exp 1e308":                   f.claim("exp", 1e308),
		"exp negative":                f.claim("exp", -1),
		"exp a fraction":              f.claim("exp", float64(now)+60.5),
		"exp null":                    f.signed(hs256, strings.Replace(f.payload(map[string]any{"exp": 0}), `"exp":0`, `"exp":null`, 1)),
		"nbf ahead":                   f.claim("nbf", now+90),
		"iat ahead":                   f.claim("iat", now+90),
		"wrong iss":                   f.claim("iss", "elsewhere"),
		"no aud":                      f.claim("aud", nil),
		"aud of others":               f.claim("aud", []string{"elsewhere", "curlew2"}),
		"use of a refresh token":      f.claim("use", "refresh"),
		"claims twice":                f.signed(hs256, strings.TrimSuffix(f.payload(nil), "}")+`,"sub":"1"}`),
		"claims twice, escaped":       f.signed(hs256, strings.TrimSuffix(f.payload(nil), "}")+`,"\u0073ub":"1"}`),
		"of nobody":                   f.claim("sub", "4503599627370496"),
		"of the system":               f.claim("sub", "0"),
		"of an older login":           f.claim("dv", 0),
		"of an older password":        f.claim("tv", -1),
		"HS384 with the same key":     sealed(sha512.New384, f.key.Secret, f.header("HS384"), f.payload(nil)),
		"HS512 with the same key":     sealed(sha512.New, f.key.Secret, f.header("HS512"), f.payload(nil)),
		"crit":                        f.signed(fmt.Sprintf(`{"alg":"HS256","kid":%q,"crit":["x"],"x":1}`, f.key.ID), f.payload(nil)),
		"no kid":                      f.signed(`{"alg":"HS256"}`, f.payload(nil)),
		"kid of nothing, empty key":   sealed(sha256.New, nil, `{"alg":"HS256","kid":"/dev/null"}`, f.payload(nil)),
		"kid SQL":                     f.signed(`{"alg":"HS256","kid":"' UNION SELECT 'k"}`, f.payload(nil)),
		"another key under our kid":   sealed(sha256.New, []byte("another key of thirty-two bytes!"), hs256, f.payload(nil)),
		"the keys file's name as kid": f.signed(fmt.Sprintf(`{"alg":"HS256","kid":%q}`, filepath.Join(t.TempDir(), "x")), f.payload(nil)),
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE"} {
		all["alg "+none] = strings.TrimRight(sealed(sha256.New, nil, f.header(none), f.payload(nil)), "-_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
		all["alg "+none+", signed"] = f.signed(f.header(none), f.payload(nil))
	}
	// A file whose content signs, named by kid: whoever reads it takes the token.
	own := []byte("a key that the forger has put into a file")
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, own, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, kid := range map[string]string{"kid a path": file, "kid a path from here": "../../../../../../../.." + file, "kid a file URL": "file://" + file} {
		all[name] = sealed(sha256.New, own, fmt.Sprintf(`{"alg":"HS256","kid":%q}`, kid), f.payload(nil))
	}
	for name, extra := range map[string]string{
		"jku": fmt.Sprintf(`"jku":%q`, keysAt), "x5u": fmt.Sprintf(`"x5u":%q`, keysAt),
		"jwk": fmt.Sprintf(`"jwk":{"kty":"oct","k":%q}`, base64.RawURLEncoding.EncodeToString(own)),
	} {
		all[name] = sealed(sha256.New, own, `{"alg":"HS256","kid":"new",`+extra+`}`, f.payload(nil))
	}
	all["kid a URL"] = sealed(sha256.New, own, fmt.Sprintf(`{"alg":"HS256","kid":%q}`, keysAt), f.payload(nil))
	// Public keys taken for a secret, and tokens of other families under our kid.
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	edPub, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all["HS256 by an RSA public key"] = sealed(sha256.New, pub, hs256, f.payload(nil))
	all["HS256 by an Ed25519 public key"] = sealed(sha256.New, edPub, hs256, f.payload(nil))
	for _, m := range []struct {
		method jwt.SigningMethod
		key    any
	}{{jwt.SigningMethodRS256, rsaKey}, {jwt.SigningMethodPS256, rsaKey}, {jwt.SigningMethodEdDSA, edKey}} {
		other := jwt.NewWithClaims(m.method, jwt.MapClaims(f.claims))
		other.Header["kid"] = f.key.ID
		if all["alg "+m.method.Alg()], err = other.SignedString(m.key); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// Whatever is wrong with a token, HTTP and the socket give one answer, from which
// nothing is learned; and nothing that a header names is fetched or read.
func TestAbuse_ForgedTokensAreRefusedAlike(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t), shipped)
	ada, _, _ := e.pair(t)
	var fetched atomic.Bool
	keys := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Store(true) }))
	defer keys.Close()

	tokens := ada.issue("phone")
	f := newForger(t, e, tokens.AccessToken)
	whoAmI := func(token string) reply {
		return call{method: "GET", path: "/v1/users/me"}.do(t, e.http, "Bearer "+token)
	}
	connect := func(i int, token string) (answerFrame, *wire) {
		w := dialWireFrom(t, address(i), e.socket)
		return w.ask("1", protocol.CmdConnect, protocol.Connect{Token: token, Device: "phone"}), w
	}
	if r := whoAmI(f.signed(f.header("HS256"), f.payload(nil))); r.status != http.StatusOK {
		t.Fatalf("a token that is as the engine's own: %d %s", r.status, r.body)
	}
	for name, token := range map[string]string{ // and what is just good
		"one of several audiences": f.claim("aud", []string{"elsewhere", "curlew"}),
		"a clock 20 s ahead":       f.signed(f.header("HS256"), f.payload(map[string]any{"nbf": time.Now().Unix() + 20, "iat": time.Now().Unix() + 20})),
	} {
		if r := whoAmI(token); r.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	want := whoAmI("x")
	want.err.RequestID = ""
	i := 0
	for name, token := range forgeries(t, f, tokens.AccessToken, tokens.RefreshToken, keys.URL) {
		i++
		r := whoAmI(token)
		if r.err.RequestID = ""; r.status != http.StatusUnauthorized || r.err != want.err {
			t.Errorf("%s by HTTP: %d %s", name, r.status, r.body)
		}
		a, w := connect(i, token)
		if code, _ := w.ends(); code != protocol.CloseUnauthenticated || a.Error == nil || a.Error.Code != "unauthenticated" || a.Error.Message != want.err.Message {
			t.Errorf("%s by socket: closed with %d, %+v", name, code, a.Error)
		}
		if r := (call{method: "POST", path: "/v1/auth/refresh", body: fmt.Sprintf(`{"refresh_token":%q}`, token)}).do(t, e.http, ""); name != "a refresh token" && r.status != http.StatusUnauthorized {
			t.Errorf("%s to refresh: %d %s", name, r.status, r.body)
		}
	}
	if fetched.Load() {
		t.Error("a header made the engine fetch a key")
	}
	if r := (call{method: "POST", path: "/v1/auth/refresh", body: fmt.Sprintf(`{"refresh_token":%q}`, tokens.AccessToken)}).do(t, e.http, ""); r.status != http.StatusUnauthorized {
		t.Errorf("an access token to refresh: %d %s", r.status, r.body)
	}
	// A megabyte of dots is not read to its end; by socket it is no message.
	if r := whoAmI(strings.Repeat(".", 12<<10)); r.status != http.StatusUnauthorized {
		t.Errorf("12 KiB of dots: %d", r.status)
	}
	if status := firstLine(t, e, "GET /v1/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+strings.Repeat(".", 1<<20)); !strings.Contains(status, " 431 ") {
		t.Errorf("1 MiB of dots by HTTP: %q", status)
	}
	w := dialWireFrom(t, address(200), e.socket)
	w.text(fmt.Sprintf(`{"id":"1","cmd":"connect","data":{"device":"phone","token":%q}}`, strings.Repeat(".", 1<<20)))
	if code, _ := w.ends(); code != protocol.CloseTooBig {
		t.Errorf("1 MiB of dots by socket: closed with %d", code)
	}
	if a, _ := connect(201, tokens.AccessToken); a.Error != nil {
		t.Errorf("the good token after all of it: %v", a.Error)
	}
}

// A token ends with its login, its password and its user; it does not come back when
// Redis has forgotten everything.
func TestAbuse_RevokedTokensStayRevoked(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, shipped)
	p := enrol(t, e.http, e.socket, "logout", "device", "banned", "deleted", "stays")
	set := record(t, e)
	for i, c := range []struct {
		who    *person
		revoke func(p *person, token string)
	}{
		{p[0], func(p *person, token string) {
			if r := (call{method: "POST", path: "/v1/auth/logout"}).do(t, e.http, "Bearer "+token); r.status != http.StatusNoContent {
				t.Errorf("%d %s", r.status, r.body)
			}
		}},
		{p[1], func(p *person, _ string) {
			if err := p.http.RevokeDevice(t.Context(), "phone"); err != nil {
				t.Error(err)
			}
		}},
		{p[2], func(p *person, _ string) { set("UPDATE users SET state = 1 WHERE id = ?", p.id) }},
		{p[3], func(p *person, _ string) { set("UPDATE users SET state = 2 WHERE id = ?", p.id) }},
		{p[4], func(*person, string) {}},
	} {
		t.Run(c.who.name, func(t *testing.T) {
			t.Parallel()
			name := c.who.name
			tokens := c.who.issue("phone")
			me := func() reply {
				return call{method: "GET", path: "/v1/users/me"}.do(t, e.http, "Bearer "+tokens.AccessToken)
			}
			w := dialWireFrom(t, address(i), e.socket)
			if a := w.ask("1", protocol.CmdConnect, protocol.Connect{Token: tokens.AccessToken, Device: "phone"}); a.Error != nil || me().status != http.StatusOK {
				t.Fatalf("%s, before: %v", name, a.Error)
			}
			at := time.Now()
			c.revoke(c.who, tokens.AccessToken)
			if name == "stays" {
				s.Redis.Flush()
				w.alive("Redis is emptied")
				if r := me(); r.status != http.StatusOK {
					t.Errorf("a good token after Redis is emptied: %d %s", r.status, r.body)
				}
				return
			}
			devtest.Eventually(t, name+" is refused by HTTP", func() bool { return me().status == http.StatusUnauthorized })
			t.Logf("%s: refused by HTTP %.1f s after", name, time.Since(at).Seconds())
			devtest.Eventually(t, name+"'s socket is closed", func() bool {
				w.frame(1, []byte(`{"id":"1","cmd":"ping","data":{}}`)) // as any client does within a heartbeat
				time.Sleep(100 * time.Millisecond)                      // the client's own pace
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.closed == protocol.CloseUnauthenticated
			})
			t.Logf("%s: closed %.1f s after", name, time.Since(at).Seconds())
			s.Redis.Flush()
			if r := me(); r.status != http.StatusUnauthorized {
				t.Errorf("%s, after Redis is emptied: %d", name, r.status)
			}
			back := dialWireFrom(t, address(i), e.socket)
			if a := back.ask("1", protocol.CmdConnect, protocol.Connect{Token: tokens.AccessToken, Device: "phone"}); a.Error == nil || a.Error.Code != "unauthenticated" {
				t.Errorf("%s connects again: %+v", name, a)
			}
			if code, _ := back.ends(); code != protocol.CloseUnauthenticated {
				t.Errorf("%s connects again: closed with %d", name, code)
			}
			if r := (call{method: "POST", path: "/v1/auth/refresh", body: fmt.Sprintf(`{"refresh_token":%q}`, tokens.RefreshToken)}).do(t, e.http, ""); r.status != http.StatusUnauthorized {
				t.Errorf("%s refreshes: %d %s", name, r.status, r.body)
			}
		})
	}
}
