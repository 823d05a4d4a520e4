package im

import (
	"encoding/json"
	"strings"
	"testing"
)

// Whatever text names an ID: it has one spelling, and it is within what JavaScript can
// count.
func FuzzIDs(f *testing.F) {
	for _, s := range []string{"", "0", "1", "01", "+1", "-1", "9007199254740991", "9007199254740992", "18446744073709551616", "d1-2", "d2-1", "d1-1", "d0-1", "c1", "c0", "c01", "d1-", "e1-2", "٣", "1e3", "1.0", "\x00", "d{1}-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseUserID(s); err == nil && (u.String() != s || u > MaxID) {
			t.Fatalf("user %q is %d", s, u)
		}
		if m, err := ParseMessageID(s); err == nil && (m.String() != s || m > MaxID) {
			t.Fatalf("message %q is %d", s, m)
		}
		if c, err := ParseConversationID(s); err == nil {
			if string(c) != s {
				t.Fatalf("conversation %q is %q", s, c)
			}
			if low, high, direct := c.Direct(); direct && (low > high || high > MaxID || DirectConversation(high, low) != c) {
				t.Fatalf("%q is of %d and %d", s, low, high)
			}
		}
		var seq Seq
		if err := json.Unmarshal([]byte(s), &seq); err == nil && seq > MaxID {
			t.Fatalf("seq %q is %d", s, seq)
		}
		for what, err := range map[string]error{"message": ClientMsgID(s).Validate(), "change": ClientChangeID(s).Validate(), "device": DeviceID(s).Validate()} {
			if err != nil {
				continue
			}
			for _, c := range []byte(s) {
				if c <= 0x20 || c >= 0x7F || strings.ContainsRune("{}*:/\\", rune(c)) {
					t.Fatalf("a client's %s may be %q", what, s)
				}
			}
		}
	})
}
