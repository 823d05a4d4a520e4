package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/scripts/devtest"
)

func TestInput_BadConnectsAreClosed(t *testing.T) {
	t.Parallel()
	e, ada, _, _ := inputEngine(t)
	tokens := ada.issue("phone")
	connect := func(token, device string) string {
		return fmt.Sprintf(`{"id":"1","cmd":"connect","data":{"token":%q,"device":%q}}`, token, device)
	}
	forged := func(change func(jwt.MapClaims)) string {
		return connect(e.forge(t, tokens.AccessToken, change), "phone")
	}
	parts := strings.Split(tokens.AccessToken, ".")
	for name, c := range map[string]struct {
		text string
		code protocol.CloseCode
	}{
		"a send first":         {`{"id":"1","cmd":"send","data":{}}`, protocol.CloseUnauthenticated},
		"a ping first":         {`{"id":"1","cmd":"ping"}`, protocol.CloseUnauthenticated},
		"no JSON":              {`hello`, protocol.CloseUnauthenticated},
		"no token":             {connect("", "phone"), protocol.CloseUnauthenticated},
		"a token of no form":   {connect("nonsense", "phone"), protocol.CloseUnauthenticated},
		"a refresh token":      {connect(tokens.RefreshToken, "phone"), protocol.CloseUnauthenticated},
		"a megabyte of dots":   {connect(strings.Repeat(".", 60_000), "phone"), protocol.CloseUnauthenticated},
		"no signature":         {connect(parts[0]+"."+parts[1]+".", "phone"), protocol.CloseUnauthenticated},
		"another signature":    {connect(parts[0]+"."+parts[1]+"."+strings.Repeat("A", 43), "phone"), protocol.CloseUnauthenticated},
		"alg none":             {connect("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0."+parts[1]+".", "phone"), protocol.CloseUnauthenticated},
		"of another device":    {connect(tokens.AccessToken, "laptop"), protocol.CloseForbidden},
		"a device of no form":  {connect(tokens.AccessToken, "{*}"), protocol.CloseUnauthenticated},
		"expired":              {forged(func(c jwt.MapClaims) { c["exp"] = time.Now().Unix() - 1 }), protocol.CloseUnauthenticated},
		"not yet good":         {forged(func(c jwt.MapClaims) { c["nbf"] = time.Now().Unix() + 90 }), protocol.CloseUnauthenticated},
		"of no end":            {forged(func(c jwt.MapClaims) { delete(c, "exp") }), protocol.CloseUnauthenticated},
		"an end that is text":  {forged(func(c jwt.MapClaims) { c["exp"] = "tomorrow" }), protocol.CloseUnauthenticated},
		"an end of 1e308":      {forged(func(c jwt.MapClaims) { c["exp"] = 1e308 }), protocol.CloseUnauthenticated},
		"of another issuer":    {forged(func(c jwt.MapClaims) { c["iss"] = "elsewhere" }), protocol.CloseUnauthenticated},
		"for another audience": {forged(func(c jwt.MapClaims) { c["aud"] = "elsewhere" }), protocol.CloseUnauthenticated},
		"of nobody":            {forged(func(c jwt.MapClaims) { c["sub"] = "4503599627370496" }), protocol.CloseUnauthenticated},
		"of the system":        {forged(func(c jwt.MapClaims) { c["sub"] = "0" }), protocol.CloseUnauthenticated},
		"of an old version":    {forged(func(c jwt.MapClaims) { c["dv"] = 0 }), protocol.CloseUnauthenticated},
	} {
		w := dialWire(t, e.socket)
		w.frame(ws.OpText, []byte(c.text))
		if code, reason := w.ends(); code != c.code {
			t.Errorf("%s: closed with %d %s, want %d", name, code, reason, c.code)
		}
	}
	// And by HTTP, where a token is looked for in one place only.
	for name, c := range map[string]call{
		"no token":             {method: "GET", path: "/v1/users/me"},
		"in the query":         {method: "GET", path: "/v1/users/me?token=" + tokens.AccessToken},
		"in a cookie":          {method: "GET", path: "/v1/users/me", header: map[string]string{"Cookie": "token=" + tokens.AccessToken}},
		"of no form":           {method: "GET", path: "/v1/users/me", header: map[string]string{"Authorization": "Bearer nonsense"}},
		"another scheme":       {method: "GET", path: "/v1/users/me", header: map[string]string{"Authorization": "Basic " + tokens.AccessToken}},
		"expired":              {method: "GET", path: "/v1/users/me", header: map[string]string{"Authorization": "Bearer " + e.forge(t, tokens.AccessToken, func(c jwt.MapClaims) { c["exp"] = time.Now().Unix() - 1 })}},
		"a server's for users": {method: "GET", path: "/v1/users/me", header: map[string]string{"Authorization": "ServerKey " + devtest.ServerKeyID + ":" + devtest.ServerKeySecret}},
		"a user's for servers": {method: "POST", path: "/v1/server/users", body: `{"users":[]}`, header: map[string]string{"Authorization": "Bearer " + tokens.AccessToken}},
	} {
		status, code := 401, "unauthenticated"
		if name == "in the query" { // where it would be logged
			status, code = 400, "invalid_request"
		}
		if r := c.do(t, e.http, ""); r.status != status || r.err.Code != code {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	// A foreign page's socket is not upgraded.
	conn, err := net.Dial("tcp", e.connectorAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\nOrigin: https://evil.example\r\n\r\n", e.connectorAddr(), protocol.Subprotocol)
	answer := make([]byte, 64)
	n, _ := conn.Read(answer)
	if !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 403 ") {
		t.Errorf("a foreign page is answered %q", answer[:n])
	}
}
