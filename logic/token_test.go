package logic

import (
	"context"
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
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/curlew-im/curlew/logic/im"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func hs(h func() hash.Hash, key []byte, signed string) string {
	m := hmac.New(h, key)
	m.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func testTokens(t testing.TB, clock func() time.Time) *tokens {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := generateKeysFile(path); err != nil {
		t.Fatal(err)
	}
	tk, err := newTokens(path, clock)
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

// Every row of the token table of RELIABILITY.md, 4.2: one answer to all of it.
func TestTokens_BadOnesAreRefusedAlike(t *testing.T) {
	now := time.Unix(1790000000, 0)
	tk := testTokens(t, func() time.Time { return now })
	key := tk.keys.Load().sign
	id := im.Identity{User: 7, Device: "phone", Platform: "web", ExpiresAt: now.Add(time.Hour).UnixMilli(), TokenVersion: 2, DeviceVersion: 3}
	good, err := tk.sign(id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tk.verify(good); err != nil || got != id {
		t.Fatalf("good token: %+v, %v", got, err)
	}

	header := func(alg string) string { return fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":%q}`, alg, key.ID) }
	valid := map[string]any{"iss": "curlew", "aud": "curlew", "use": "access", "sub": "7", "dev": "phone",
		"tv": 2, "dv": 3, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Unix() + 60}
	with := func(change map[string]any) string {
		all := maps.Clone(valid)
		for k, v := range change {
			if all[k] = v; v == nil {
				delete(all, k)
			}
		}
		b, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	signed := func(header, payload string) string { return hs(sha256.New, key.Secret, b64(header)+"."+b64(payload)) }
	claim := func(name string, v any) string { return signed(header("HS256"), with(map[string]any{name: v})) }
	if _, err := tk.verify(signed(header("HS256"), with(nil))); err != nil {
		t.Fatalf("a token made here: %v", err)
	}
	if _, err := tk.verify(claim("aud", []string{"other", "curlew"})); err != nil {
		t.Errorf("we are one of several audiences: %v", err)
	}
	if _, err := tk.verify(claim("nbf", now.Unix()+30)); err != nil {
		t.Errorf("30 s ahead: %v", err)
	}

	parts := strings.Split(good, ".")
	cases := map[string]string{
		"empty": "", "one part": "x", "dots": "..", "1 MiB of dots": strings.Repeat(".", 1<<20),
		"signature stripped": parts[0] + "." + parts[1] + ".", "two parts": parts[0] + "." + parts[1],
		"signature truncated": good[:len(good)-4], "trailing garbage": good + "AAAA", "trailing dot": good + ".", "trailing line end": good + "\n",
		"line end inside": good[:len(good)-5] + "\n" + good[len(good)-5:], "leading space": " " + good, "padding": good + "=",
		"payload tampered":        parts[0] + "." + b64(with(map[string]any{"sub": "8"})) + "." + parts[2],
		"header tampered":         b64(header("none")) + "." + parts[1] + "." + parts[2],
		"expired":                 claim("exp", now.Unix()-1),
		"expires this second":     claim("exp", now.Unix()),
		"no exp":                  claim("exp", nil),
		"exp a string":            claim("exp", fmt.Sprint(now.Unix()+60)),
		"exp 1e308":               claim("exp", 1e308),
		"exp beyond year 9999":    claim("exp", maxTokenTime+1),
		"exp negative":            claim("exp", -1),
		"exp a fraction":          claim("exp", float64(now.Unix())+60.5),
		"exp null":                signed(header("HS256"), strings.Replace(with(nil), fmt.Sprint(`"exp":`, now.Unix()+60), `"exp":null`, 1)),
		"nbf 31 s ahead":          claim("nbf", now.Unix()+31),
		"iat 31 s ahead":          claim("iat", now.Unix()+31),
		"no iat":                  claim("iat", nil),
		"wrong iss":               claim("iss", "other"),
		"no iss":                  claim("iss", nil),
		"no aud":                  claim("aud", nil),
		"aud of others":           claim("aud", []string{"other", "curlew2"}),
		"aud empty":               claim("aud", []string{}),
		"aud an object":           claim("aud", map[string]string{"curlew": "curlew"}),
		"a refresh token's use":   claim("use", "refresh"),
		"no use":                  claim("use", nil),
		"sub a number":            claim("sub", 7),
		"sub of the system":       claim("sub", "0"),
		"sub not canonical":       claim("sub", "07"),
		"sub beyond 2^53":         claim("sub", "9007199254740992"),
		"no sub":                  claim("sub", nil),
		"device of no form":       claim("dev", "a b"),
		"tv negative":             claim("tv", -2),
		"tv beyond 32 bits":       claim("tv", 1<<32),
		"claims twice":            signed(header("HS256"), strings.TrimSuffix(with(nil), "}")+`,"sub":"8"}`),
		"claims twice, case":      signed(header("HS256"), strings.TrimSuffix(with(nil), "}")+`,"SUB":"8"}`),
		"claims twice, long s":    signed(header("HS256"), strings.TrimSuffix(with(nil), "}")+`,"ſub":"8"}`),
		"claims twice, escaped":   signed(header("HS256"), strings.TrimSuffix(with(nil), "}")+`,"\u0073ub":"8"}`),
		"claims twice, spaced":    signed(header("HS256"), strings.TrimSuffix(with(nil), "}")+`, "x":{"sub":1}, "sub" : "8"}`),
		"claims without end":      signed(header("HS256"), strings.TrimSuffix(with(nil), "}")+strings.Repeat(`,"x":1`, 40)+"}"),
		"payload no object":       signed(header("HS256"), `[]`),
		"payload no JSON":         signed(header("HS256"), `{`),
		"payload with garbage":    signed(header("HS256"), with(nil)+"{}"),
		"bad signature, expired":  claim("exp", now.Unix()-1)[:40] + "x" + claim("exp", now.Unix()-1)[41:],
		"HS384 with the same key": hs(sha512.New384, key.Secret, b64(header("HS384"))+"."+b64(with(nil))),
		"HS512 with the same key": hs(sha512.New, key.Secret, b64(header("HS512"))+"."+b64(with(nil))),
		"no alg":                  signed(fmt.Sprintf(`{"typ":"JWT","kid":%q}`, key.ID), with(nil)),
		"alg a number":            signed(fmt.Sprintf(`{"alg":1,"kid":%q}`, key.ID), with(nil)),
		"crit":                    signed(fmt.Sprintf(`{"alg":"HS256","kid":%q,"crit":["x"],"x":1}`, key.ID), with(nil)),
		"no kid":                  signed(`{"alg":"HS256"}`, with(nil)),
		"kid a number":            signed(`{"alg":"HS256","kid":1}`, with(nil)),
		"kid a path":              signed(`{"alg":"HS256","kid":"../../../../dev/null"}`, with(nil)),
		"kid a path, empty key":   hs(sha256.New, nil, b64(`{"alg":"HS256","kid":"/dev/null"}`)+"."+b64(with(nil))),
		"kid SQL":                 signed(`{"alg":"HS256","kid":"' OR 1=1 --"}`, with(nil)),
		"another key, its own ID": hs(sha256.New, []byte(strings.Repeat("k", 32)), b64(header("HS256"))+"."+b64(with(nil))),
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE"} {
		cases["alg "+none] = b64(header(none)) + "." + b64(with(nil)) + "."
		cases["alg "+none+", signed"] = signed(header(none), with(nil))
	}
	// Public keys taken for a secret, and tokens of other families under our kid.
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	edPub, edKey, _ := ed25519.GenerateKey(rand.Reader)
	cases["HS256 by an RSA public key"] = hs(sha256.New, pub, b64(header("HS256"))+"."+b64(with(nil)))
	cases["HS256 by an Ed25519 public key"] = hs(sha256.New, edPub, b64(header("HS256"))+"."+b64(with(nil)))
	for _, m := range []struct {
		method jwt.SigningMethod
		key    any
	}{{jwt.SigningMethodRS256, rsaKey}, {jwt.SigningMethodPS256, rsaKey}, {jwt.SigningMethodEdDSA, edKey}} {
		other := jwt.NewWithClaims(m.method, jwt.MapClaims(valid))
		other.Header["kid"] = key.ID
		if cases[m.method.Alg()], err = other.SignedString(m.key); err != nil {
			t.Fatal(err)
		}
	}
	// A header that offers its own key, or says where to fetch one.
	var fetched atomic.Bool
	keys := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Store(true) }))
	defer keys.Close()
	own := []byte(strings.Repeat("o", 32))
	for name, extra := range map[string]string{
		"jku": fmt.Sprintf(`"jku":%q`, keys.URL), "x5u": fmt.Sprintf(`"x5u":%q`, keys.URL), "kid a URL": fmt.Sprintf(`"kid":%q`, keys.URL),
		"jwk": fmt.Sprintf(`"jwk":{"kty":"oct","k":%q}`, b64(string(own))),
	} {
		cases[name] = hs(sha256.New, own, b64(`{"alg":"HS256","kid":"new",`+extra+`}`)+"."+b64(with(nil)))
	}
	for name, token := range cases {
		if got, err := tk.verify(token); err != im.ErrUnauthenticated { //nolint:errorlint // nothing may be wrapped around it
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if fetched.Load() {
		t.Error("a header made us fetch a key")
	}
}

func TestTokens_DotsCostNothing(t *testing.T) {
	tk := testTokens(t, time.Now)
	dots := strings.Repeat(".", 1<<20)
	if n := testing.AllocsPerRun(100, func() { _, _ = tk.verify(dots) }); n != 0 {
		t.Errorf("1 MiB of dots: %v allocations", n)
	}
}

func FuzzTokens(f *testing.F) {
	now := time.Unix(1790000000, 0)
	tk := testTokens(f, func() time.Time { return now })
	good, _ := tk.sign(im.Identity{User: 7, Device: "d", ExpiresAt: now.Add(time.Hour).UnixMilli()})
	f.Add(good)
	f.Add(b64(`{"alg":"none"}`) + "." + b64(`{"exp":1}`) + ".")
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := tk.verify(token); err == nil && token != good {
			t.Errorf("accepted %q", token)
		}
	})
}

func TestTokens_KeysRotateWithoutRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	write := func(lines ...any) {
		if err := os.WriteFile(path, []byte(fmt.Sprintln(lines...)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, two := NewSigningKey(), NewSigningKey()
	write(one)
	synctest.Test(t, func(t *testing.T) {
		tk, err := newTokens(path, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- watchFile(ctx, path, tk.stamp, tk.reload, slog.New(slog.DiscardHandler)) }()
		sign := func() string {
			s, err := tk.sign(im.Identity{User: 7, Device: "d", ExpiresAt: time.Now().Add(time.Hour).UnixMilli()})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		kidOf := func(token string) string {
			h, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
			var header struct{ Kid string }
			_ = json.Unmarshal(h, &header)
			return header.Kid
		}
		changed := func(lines ...any) {
			write(lines...)
			time.Sleep(2 * watchInterval)
			synctest.Wait()
		}
		old := sign()
		changed(one, "\n", two)
		if kidOf(sign()) != one.ID {
			t.Error("the second key signs")
		}
		changed(two, "\n", one)
		young := sign()
		if kidOf(young) != two.ID {
			t.Error("the first key does not sign")
		}
		if _, err := tk.verify(old); err != nil {
			t.Errorf("token of the former key: %v", err)
		}
		changed("short:AAAA")
		if _, err := tk.verify(young); err != nil {
			t.Errorf("after a bad file: %v", err)
		}
		changed(two)
		if _, err := tk.verify(old); err == nil {
			t.Error("token of a removed key is good")
		}
		if _, err := tk.verify(young); err != nil {
			t.Errorf("token of the remaining key: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestLoadSigningKeys_RefusesBadFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	k := NewSigningKey().String()
	for name, content := range map[string]string{
		"empty": "", "comments only": "# none\n", "no colon": "abc\n", "no ID": ":" + strings.Split(k, ":")[1], "ID with slash": "a/" + k,
		"ID twice": k + "\n" + k, "31 bytes": "a:" + base64.RawURLEncoding.EncodeToString(make([]byte, 31)),
		"zeros": "a:" + base64.RawURLEncoding.EncodeToString(make([]byte, 32)), "padded": k + "==", "not base64": "a:" + strings.Repeat("!", 60),
		"a phrase": "a:" + b64("changemechangemechangemechangeme"),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if keys, err := LoadSigningKeys(path); err == nil {
			t.Errorf("%s: %v", name, keys)
		} else if strings.Contains(err.Error(), strings.Split(k, ":")[1]) {
			t.Errorf("%s: the error shows the secret", name)
		}
	}
}

func TestGenerateKeysFile_ManyAtOnceMakeOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "keys")
	all := make(chan string, 8)
	for range cap(all) {
		go func() {
			if err := generateKeysFile(path); err != nil {
				all <- err.Error()
				return
			}
			keys, err := LoadSigningKeys(path)
			all <- fmt.Sprint(keys, err)
		}()
	}
	first := <-all
	for range cap(all) - 1 {
		if next := <-all; next != first {
			t.Errorf("%s beside %s", next, first)
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

func BenchmarkAuth_Verify(b *testing.B) {
	a := newTestAuth(b, newRegistry())
	tk := register(b, a, "ann", "phone")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Verify(b.Context(), tk.AccessToken); err != nil {
			b.Fatal(err)
		}
	}
}
