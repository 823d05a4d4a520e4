package protocol

import (
	"net/url"
	"slices"
	"strings"
)

// CarriesToken says whether an address's query looks as if it held a credential: by a
// name, or by a value of an access token's form. Addresses end up in logs and histories;
// both faces refuse such a one.
func CarriesToken(query string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		key, value = strings.ToLower(unescaped(key)), unescaped(value)
		if strings.Contains(key, "token") || slices.Contains([]string{"auth", "authorization", "bearer", "jwt"}, key) {
			return true
		}
		// A JOSE header is JSON, and its base64 begins so.
		if strings.Contains(value, "eyJ") && strings.Count(value, ".") >= 2 {
			return true
		}
	}
	return false
}

// unescaped is s as it stands where its escapes are broken.
func unescaped(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}
