package im

import (
	"errors"
	"fmt"
	"strings"
)

// MinSecretBytes is the least that a secret of an operator's making may have: 256 bits,
// the size of HS256's hash (RFC 7518 §3.2).
const MinSecretBytes = 32

// CheckSecret refuses what somebody typed rather than drew: too short, repetitive, with
// white space, or with a word that stands in examples. The error shows nothing of it.
func CheckSecret(s string) error {
	if len(s) < MinSecretBytes {
		return fmt.Errorf("of %d bytes is shorter than %d", len(s), MinSecretBytes)
	}
	if Repetitive([]byte(s)) {
		return errors.New("is not random")
	}
	if strings.ContainsAny(s, " \t\r\n") {
		return errors.New("has white space in it: a secret is drawn, as by openssl rand -base64 32")
	}
	low := strings.ToLower(s)
	for _, word := range []string{"changeme", "change-me", "change_me", "your-secret", "your_secret", "yoursecret", "placeholder", "example"} {
		if strings.Contains(low, word) {
			return errors.New("is an example's: a secret is drawn, as by openssl rand -base64 32")
		}
	}
	return nil
}

// Repetitive finds placeholders: 32 random bytes have fewer than 8 different ones with a
// chance below 2^-128.
func Repetitive(secret []byte) bool {
	var seen [256]bool
	different := 0
	for _, b := range secret {
		if !seen[b] {
			seen[b] = true
			different++
		}
	}
	return different < 8
}
