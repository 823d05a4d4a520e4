package logic

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/curlew-im/curlew/logic/im"
)

// SigningKey signs access tokens (HS256). Its ID travels in the token's header and
// chooses among the keys a verifier has; it names nothing outside that list.
type SigningKey struct {
	ID     string // 1 to 64 of A-Z a-z 0-9 _ -
	Secret []byte // at least 32 bytes
}

// maxSigningKeys bounds the keys in use; two are enough to rotate.
const maxSigningKeys = 16

// NewSigningKey makes a key of 256 random bits.
func NewSigningKey() SigningKey {
	secret := make([]byte, im.MinSecretBytes)
	rand.Read(secret) // never fails since Go 1.24
	return SigningKey{ID: "k" + strings.ToLower(rand.Text()[:8]), Secret: secret}
}

// String is the key's line in a keys file.
func (k SigningKey) String() string {
	return k.ID + ":" + base64.RawURLEncoding.EncodeToString(k.Secret)
}

// LoadSigningKeys reads a keys file: one key a line, "id:secret" with the secret in
// unpadded base64url; empty lines and those that begin with # do not count. The first
// key signs, all verify. To rotate: add the new key below and let every process read
// it (within 5 s), move it to the top, and remove the old one when the last token it
// signed has expired.
func LoadSigningKeys(path string) ([]SigningKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	var keys []SigningKey
	seen := map[string]bool{}
	sc := bufio.NewScanner(bytes.NewReader(b))
	for line := 1; sc.Scan(); line++ {
		text := strings.TrimSpace(sc.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		id, encoded, _ := strings.Cut(text, ":")
		secret, err := base64.RawURLEncoding.DecodeString(encoded)
		switch {
		case !isKeyID(id):
			return nil, fmt.Errorf("signing keys: %s:%d: the ID is not 1 to 64 of A-Z a-z 0-9 _ -", path, line)
		case seen[id]:
			return nil, fmt.Errorf("signing keys: %s:%d: the ID stands twice", path, line)
		case err != nil:
			return nil, fmt.Errorf("signing keys: %s:%d: the secret is not unpadded base64url", path, line)
		case len(secret) < im.MinSecretBytes:
			return nil, fmt.Errorf("signing keys: %s:%d: the secret has %d bytes, below %d", path, line, len(secret), im.MinSecretBytes)
		case im.Repetitive(secret):
			return nil, fmt.Errorf("signing keys: %s:%d: the secret is not random", path, line)
		case len(keys) == maxSigningKeys:
			return nil, fmt.Errorf("signing keys: %s: more than %d keys", path, maxSigningKeys)
		}
		seen[id] = true
		keys = append(keys, SigningKey{ID: id, Secret: secret})
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("signing keys: %s: %w", path, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("signing keys: %s holds none", path)
	}
	return keys, nil
}

// generateKeysFile makes the file where it is missing. Of several processes that try
// at once, one wins and all read the same file.
func generateKeysFile(path string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return nil // what is wrong with it, reading tells
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	f, err := os.CreateTemp(dir, ".keys-*") // mode 0600
	if err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "# Keys that sign access tokens: the first signs, all verify. Keep this file secret.\n%s\n", NewSigningKey())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("signing keys: %w", err)
	}
	return nil
}

func isKeyID(s string) bool { return im.DeviceID(s).Validate() == nil }
