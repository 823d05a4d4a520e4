package logic

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/curlew-im/curlew/logic/im"
)

// Cost of a new hash: OWASP's first choice for argon2id, 31 ms of one core here
// (FEASIBILITY.md, 9). A hash carries its own cost, so these may be raised.
const (
	argonMemory  = 19 * 1024 // KiB
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16
	argonKey     = 32

	minPasswordRunes = 8
	maxPasswordRunes = 128
)

// newPassword checks a password to be set and brings it to NFC, since keyboards
// differ in how they compose what looks the same.
func newPassword(field, s string) (string, error) {
	switch {
	case len(s) > 4*maxPasswordRunes:
		return "", im.Invalid(field, "must be 8 to 128 characters")
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return "", im.Invalid(field, "not valid UTF-8, or contains NUL")
	}
	s = norm.NFC.String(s)
	if n := utf8.RuneCountInString(s); n < minPasswordRunes || n > maxPasswordRunes {
		return "", im.Invalid(field, "must be 8 to 128 characters")
	}
	return s, nil
}

// hasher computes password hashes, a bounded number at once: each takes 19 MiB.
type hasher struct {
	slots   chan struct{}
	waiting atomic.Int64
	bound   int64
	dummy   string // of nobody's password
}

func newHasher(concurrent, waiting int) *hasher {
	h := &hasher{slots: make(chan struct{}, concurrent), bound: int64(waiting)}
	h.dummy = encodeHash(make([]byte, argonSalt), make([]byte, argonKey))
	return h
}

// take waits for a slot: im.ErrOverloaded where too many wait already.
func (h *hasher) take(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	default:
	}
	if h.waiting.Add(1) > h.bound {
		h.waiting.Add(-1)
		return im.ErrOverloaded
	}
	defer h.waiting.Add(-1)
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hash returns the PHC string of a password that newPassword has passed.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.take(ctx); err != nil {
		return "", err
	}
	defer func() { <-h.slots }()
	salt := make([]byte, argonSalt)
	rand.Read(salt) // never fails since Go 1.24
	return encodeHash(salt, argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey)), nil
}

// verify compares in constant time. An empty hash, or a password that could never
// have been set, takes the same work and is never right.
func (h *hasher) verify(ctx context.Context, phc, password string) (bool, error) {
	possible := phc != ""
	if !possible {
		phc = h.dummy
	}
	normal, err := newPassword("password", password)
	if err != nil {
		possible, normal = false, "nobody's password"
	}
	p, err := decodeHash(phc)
	if err != nil {
		return false, fmt.Errorf("stored password hash: %w", err)
	}
	if err := h.take(ctx); err != nil {
		return false, err
	}
	defer func() { <-h.slots }()
	got := argon2.IDKey([]byte(normal), p.salt, p.time, p.memory, p.threads, uint32(len(p.key)))
	return subtle.ConstantTimeCompare(got, p.key) == 1 && possible, nil
}

type argonHash struct {
	time, memory uint32
	threads      uint8
	salt, key    []byte
}

// encodeHash writes the PHC string format.
func encodeHash(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		argonMemory, argonTime, argonThreads, b64.EncodeToString(salt), b64.EncodeToString(key))
}

var errHashFormat = errors.New("not an argon2id PHC string of a cost we accept")

func decodeHash(phc string) (p argonHash, err error) {
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, errHashFormat
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.threads); err != nil {
		return p, errHashFormat
	}
	var err1, err2 error
	p.salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	p.key, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(p.salt) < 8 || len(p.key) < 16 || len(p.key) > 64 ||
		p.time < 1 || p.time > 16 || p.threads < 1 || p.memory < 8 || p.memory > 1<<20 {
		return p, errHashFormat
	}
	return p, nil
}
