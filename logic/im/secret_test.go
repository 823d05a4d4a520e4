package im

import (
	"strings"
	"testing"
)

func TestCheckSecret(t *testing.T) {
	for s, good := range map[string]bool{
		"": false, strings.Repeat("ab1cd2ef", 4)[1:]: false, strings.Repeat("x", 64): false, strings.Repeat("changed", 5): false,
		"at least 32 bytes, as from `openssl rand -base64 32`; who has it is any user": false,
		"change-me-please-0123456789abcdefghij":                                        false,
		"Your-Secret-0123456789abcdefghijklmnop":                                       false,
		"an-example-0123456789abcdefghijklmnopq":                                       false,
		"3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=":                                 true,
		"0123456789abcdef0123456789abcdef":                                             true,
	} {
		err := CheckSecret(s)
		if (err == nil) != good {
			t.Errorf("%q: %v", s, err)
		}
		if err != nil && s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("the error shows %q", s)
		}
	}
}
