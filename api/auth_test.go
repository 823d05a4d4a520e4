package api

import (
	"net/http"
	"strings"
	"testing"
)

func TestAuth_WhoIsNotKnownIsUnauthenticated(t *testing.T) {
	f := newFace(t)
	bad := map[string]string{
		"none":                  "",
		"no scheme":             goodToken,
		"no token":              "Bearer ",
		"scheme alone":          "Bearer",
		"other scheme":          "Basic " + goodToken,
		"the other key":         asServer,
		"unknown token":         "Bearer x",
		"two spaces":            "Bearer  " + goodToken,
		"trailing space":        asUser + " x",
		"two in one":            asUser + ", " + asUser,
		"a megabyte of dots":    "Bearer " + strings.Repeat(".", 1<<20),
		"server key, no secret": "ServerKey backend",
		"server key, empty":     "ServerKey :",
		"server key, wrong":     "ServerKey backend:secret2",
	}
	open := map[string]bool{"health": true, "pageConfig": true, "limits": true, "register": true, "login": true, "demo": true, "refresh": true}
	for id, good := range goodRequests {
		if open[id] {
			continue
		}
		for name, value := range bad {
			if good.auth == asServer && name == "the other key" {
				value = asUser
			}
			r := good.request
			r.auth = value
			w := f.do(r)
			want(t, id+" with "+name, w, 401, "unauthenticated")
			if w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %s: no WWW-Authenticate", id, name)
			}
		}
		r := good.build()
		r.Header.Add("Authorization", good.auth)
		want(t, id+" with two headers", record(f, r), 401, "unauthenticated")
	}
	if strings.Contains(f.log.String(), goodToken) {
		t.Error("a token is in the log")
	}
}

func TestAuth_SchemeInAnyCase(t *testing.T) {
	f := newFace(t)
	want(t, "bearer", f.do(request{method: "GET", path: "/v1/users/me", auth: "bearer " + goodToken}), 200, "")
}

// [A4]: queries end up in logs and histories.
func TestAuth_TokenInTheQueryIsRefused(t *testing.T) {
	f := newFace(t)
	for _, q := range []string{"token=" + goodToken, "access_token=x", "Access_Token=x", "refreshToken=x", "authorization=x", "Authorization=Bearer+x", "token"} {
		for _, auth := range []string{"", asUser} {
			want(t, q, f.do(request{method: "GET", path: "/v1/users/me?" + q, auth: auth}), 400, "invalid_request")
		}
	}
}

func TestAuth_CookiesAreNothing(t *testing.T) {
	f := newFace(t)
	w := f.do(request{method: "GET", path: "/v1/users/me", header: map[string]string{"Cookie": "token=" + goodToken}})
	want(t, "cookie", w, 401, "unauthenticated")
	if w.Header().Get("Set-Cookie") != "" {
		t.Error("a cookie was set")
	}
}

// What a peer says about its own address does not move it past limits by address.
func TestAuth_AddressIsThePeersUnlessAProxyIsTrusted(t *testing.T) {
	forwarded := map[string]string{"X-Forwarded-For": "203.0.113.9", "X-Real-Ip": "203.0.113.9"}
	login := goodRequests["login"].request
	login.header = forwarded
	f := newFace(t)
	f.do(login)
	if f.lastIP != "192.0.2.1" { // httptest's peer
		t.Errorf("address without proxy: %s", f.lastIP)
	}
	f = newFace(t, func(c *Config) { c.TrustedProxies = []string{"192.0.2.0/24"} })
	f.do(login)
	if f.lastIP != "203.0.113.9" {
		t.Errorf("address behind a trusted proxy: %s", f.lastIP)
	}
}

func TestDemo_ExistsInTheDevProfileOnly(t *testing.T) {
	f := newFace(t)
	want(t, "demo", f.do(goodRequests["demo"].request), http.StatusCreated, "")
	if !strings.HasPrefix(f.lastHandle, "demo-") {
		t.Errorf("demo handle %q", f.lastHandle)
	}
	f = newFace(t, func(c *Config) { c.Demo = false })
	want(t, "demo in production", f.do(goodRequests["demo"].request), 404, "not_found")
}

func TestCORS_ConfiguredOriginsOnly(t *testing.T) {
	preflight := func(origin string) request {
		return request{method: "OPTIONS", path: "/v1/messages", header: map[string]string{"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}}
	}
	f := newFace(t)
	w := f.do(preflight(testOrigin))
	h := w.Header()
	if w.Code != 204 || h.Get("Access-Control-Allow-Origin") != testOrigin || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") || h.Get("Vary") != "Origin" {
		t.Errorf("preflight of an allowed origin: %d %v", w.Code, h)
	}
	r := goodRequests["me"].request
	r.header = map[string]string{"Origin": testOrigin}
	if got := f.do(r).Header().Get("Access-Control-Allow-Origin"); got != testOrigin {
		t.Errorf("request of an allowed origin: %q", got)
	}
	off := newFace(t, func(c *Config) { c.AllowedOrigins = nil })
	for _, f := range []*face{f, off} {
		for _, origin := range []string{"https://evil.example", "null", "https://chat.example.evil.example", "http://chat.example", "https://chat.example:444", "*"} {
			w := f.do(preflight(origin))
			for name := range w.Header() {
				if strings.HasPrefix(name, "Access-Control") {
					t.Errorf("%s gets %s", origin, name)
				}
			}
			want(t, "preflight of "+origin, w, 405, "method_not_allowed")
		}
	}
	if h.Get("Access-Control-Allow-Credentials") != "" {
		t.Error("credentials are allowed")
	}
}
