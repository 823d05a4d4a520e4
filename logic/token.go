package logic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	tokenIssuer   = "curlew"
	tokenAudience = "curlew"
	tokenUse      = "access"
	// tokenLeeway is how far the clock of a signing machine may be ahead of ours. It
	// does not prolong a token: exp is exact.
	tokenLeeway = 30 * time.Second
	// maxTokenBytes bounds what is looked at; ours have about 350.
	maxTokenBytes = 2048
)

// claims of an access token. A refresh token is no JWT, so neither passes for the
// other.
type claims struct {
	Issuer        string      `json:"iss"`
	Audience      string      `json:"aud"`
	Use           string      `json:"use"`
	Subject       im.UserID   `json:"sub"`
	Device        im.DeviceID `json:"dev"`
	Platform      string      `json:"plt,omitempty"`
	TokenVersion  uint32      `json:"tv"`
	DeviceVersion uint32      `json:"dv"`
	IssuedAt      int64       `json:"iat"` // Unix seconds, as the rest
	NotBefore     int64       `json:"nbf"`
	Expires       int64       `json:"exp"`
}

// What jwt.Claims asks for. Validation is our own (good), since exp has no leeway
// and each time must be a whole number.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.Expires), nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return date(c.IssuedAt), nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return date(c.NotBefore), nil }
func (c *claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.Subject.String(), nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings{c.Audience}, nil }

func date(s int64) *jwt.NumericDate { return jwt.NewNumericDate(time.Unix(s, 0)) }

// plainClaims is claims without the strict reading.
type plainClaims claims

// audiences reads aud, which RFC 7519 allows to be one string or several.
type audiences []string

func (a *audiences) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(a))
	}
	*a = make([]string, 1)
	return json.Unmarshal(b, &(*a)[0])
}

// UnmarshalJSON refuses claims that stand twice: readers differ in which they take.
func (c *claims) UnmarshalJSON(b []byte) error {
	if !uniqueKeys(b) {
		return errClaims
	}
	in := struct {
		*plainClaims
		Audience audiences `json:"aud"` // shadows the plain one
	}{plainClaims: (*plainClaims)(c)}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	for _, a := range in.Audience {
		if a == tokenAudience {
			c.Audience = a
		}
	}
	return nil
}

var errClaims = errors.New("bad claims")

// maxClaims bounds the claims of a token; ours have twelve.
const maxClaims = 32

// uniqueKeys walks an object's own keys, in JSON that encoding/json has found valid.
// That folds case where it matches names, so two keys are one here as well; a key
// written with escapes is refused rather than read.
func uniqueKeys(b []byte) bool {
	var keys [maxClaims][]byte
	n, depth := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			start, escaped := i+1, false
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					escaped = true
					i++
				}
			}
			key, rest := b[start:i], bytes.TrimLeft(b[i+1:], " \t\r\n")
			if depth != 1 || len(rest) == 0 || rest[0] != ':' {
				continue // a value
			}
			if escaped || n == maxClaims || slices.ContainsFunc(keys[:n], func(k []byte) bool { return bytes.EqualFold(k, key) }) {
				return false
			}
			keys[n] = key
			n++
		}
	}
	return true
}

func (c *claims) good(now time.Time) bool {
	soon := now.Add(tokenLeeway).Unix()
	return c.Issuer == tokenIssuer && c.Audience == tokenAudience && c.Use == tokenUse &&
		c.Subject != im.SystemUser && c.Device.Validate() == nil &&
		c.Expires > now.Unix() && c.Expires <= maxTokenTime &&
		c.IssuedAt > 0 && c.IssuedAt <= soon && c.NotBefore <= soon
}

// maxTokenTime keeps times in milliseconds clear of an overflow: the year 9999.
const maxTokenTime = 253402300799

// keyring is one reading of the keys file.
type keyring struct {
	sign   SigningKey
	verify map[string][]byte
}

// tokens signs and verifies access tokens.
type tokens struct {
	path   string
	clock  func() time.Time
	keys   atomic.Pointer[keyring]
	stamp  fileStamp // of the file as first read
	parser *jwt.Parser
}

func newTokens(path string, clock func() time.Time) (*tokens, error) {
	t := &tokens{path: path, clock: clock, stamp: stampOf(path), parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())}
	return t, t.reload()
}

// reload reads the keys file; the keys in use stay where it is no good.
func (t *tokens) reload() error {
	keys, err := LoadSigningKeys(t.path)
	if err != nil {
		return err
	}
	ring := &keyring{sign: keys[0], verify: make(map[string][]byte, len(keys))}
	for _, k := range keys {
		ring.verify[k.ID] = k.Secret
	}
	t.keys.Store(ring)
	return nil
}

// sign makes the access token of an identity.
func (t *tokens) sign(id im.Identity) (string, error) {
	now := t.clock().Unix()
	tok := jwt.NewWithClaims(jwt.SigningMethodHS256, &claims{
		Issuer: tokenIssuer, Audience: tokenAudience, Use: tokenUse,
		Subject: id.User, Device: id.Device, Platform: id.Platform,
		TokenVersion: id.TokenVersion, DeviceVersion: id.DeviceVersion,
		IssuedAt: now, NotBefore: now, Expires: id.ExpiresAt / 1000,
	})
	key := t.keys.Load().sign
	tok.Header["kid"] = key.ID
	s, err := tok.SignedString(key.Secret)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return s, nil
}

// verify checks form, signature and claims. Every fault is the same error, so that
// nothing can be learned from their order.
func (t *tokens) verify(token string) (im.Identity, error) {
	if len(token) > maxTokenBytes || !isTokenText(token) {
		return im.Identity{}, im.ErrUnauthenticated
	}
	ring := t.keys.Load()
	var c claims
	_, err := t.parser.ParseWithClaims(token, &c, func(tok *jwt.Token) (any, error) {
		if _, critical := tok.Header["crit"]; critical {
			return nil, errClaims // asks for what we do not know (RFC 7515 §4.1.11)
		}
		kid, _ := tok.Header["kid"].(string)
		if key, ok := ring.verify[kid]; ok {
			return key, nil
		}
		return nil, errClaims
	})
	if err != nil || !c.good(t.clock()) {
		return im.Identity{}, im.ErrUnauthenticated
	}
	return im.Identity{User: c.Subject, Device: c.Device, Platform: c.Platform, ExpiresAt: c.Expires * 1000,
		TokenVersion: c.TokenVersion, DeviceVersion: c.DeviceVersion}, nil
}

// isTokenText admits base64url and dots alone; the decoder below would let line ends
// pass.
func isTokenText(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}
