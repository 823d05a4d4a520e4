package logic

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	minHandleBytes   = 3
	maxHandleBytes   = 32
	maxNicknameRunes = 64
	maxAvatarBytes   = 512
)

// NormalizeHandle brings a handle to the one form in which it is stored and compared:
// NFKC and case folded, then 3 to 32 of a-z 0-9 _ . - starting with a letter. Twins
// that differ in case or width are one handle; look-alikes of other scripts and
// invisible characters are refused.
func NormalizeHandle(s string) (string, error) {
	bad := im.Invalid("handle", "must be 3 to 32 characters of a-z 0-9 _ . - and start with a letter")
	if len(s) > 8*maxHandleBytes || !utf8.ValidString(s) {
		return "", bad
	}
	h := norm.NFKC.String(cases.Fold().String(norm.NFKC.String(s)))
	if len(h) < minHandleBytes || len(h) > maxHandleBytes || h[0] < 'a' || h[0] > 'z' {
		return "", bad
	}
	for i := range len(h) {
		c := h[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-') {
			return "", bad
		}
	}
	return h, nil
}

// cleanLine trims what one user writes for another, or for themselves, in a list: empty
// or at most most characters, none of them a control, something to see among them.
func cleanLine(field, s string, most int) (string, error) {
	tooLong := im.Invalid(field, fmt.Sprintf("must be at most %d characters", most))
	switch {
	case len(s) > 16*most:
		return "", tooLong
	case !utf8.ValidString(s):
		return "", im.Invalid(field, "not valid UTF-8")
	}
	s = norm.NFC.String(strings.TrimSpace(s))
	switch {
	case s == "":
		return "", nil
	case utf8.RuneCountInString(s) > most:
		return "", tooLong
	case strings.IndexFunc(s, im.Visible) < 0:
		return "", im.Invalid(field, "shows nothing")
	case strings.ContainsFunc(s, unprintable):
		return "", im.Invalid(field, "contains control or direction characters")
	}
	return s, nil
}

// cleanNickname is cleanLine with a fallback for what is empty.
func cleanNickname(s, fallback string) (string, error) {
	if s = strings.TrimSpace(s); s == "" {
		s = fallback
	}
	clean, err := cleanLine("nickname", s, maxNicknameRunes)
	if err == nil && clean == "" {
		err = im.Invalid("nickname", "shows nothing")
	}
	return clean, err
}

// unprintable are control characters and bidi controls: in a list of people they
// would move the neighbours' names about.
func unprintable(r rune) bool {
	return r < 0x20 || r >= 0x7F && r < 0xA0 || r == 0x2028 || r == 0x2029 ||
		r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

// checkAvatar accepts an http or https address of at most 512 bytes; empty is none.
// It is never fetched by us.
func checkAvatar(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || len(s) > maxAvatarBytes || u.Host == "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") ||
		strings.ContainsFunc(s, func(r rune) bool { return r <= 0x20 || r >= 0x7F || r == '"' || r == '<' || r == '>' || r == '\\' }) {
		return im.Invalid("avatar", "must be an http or https address of at most 512 bytes")
	}
	return nil
}
