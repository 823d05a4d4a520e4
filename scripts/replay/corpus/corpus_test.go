package corpus

import (
	"os"
	"testing"
)

// ../testdata holds a small excerpt of the corpus (CC BY 4.0; see its README.md).
func TestRead_SaidToASpeakerIsAMessage(t *testing.T) {
	speakers, messages, err := Read(os.DirFS("../testdata"))
	if err != nil {
		t.Fatal(err)
	}
	if len(speakers) == 0 || len(messages) == 0 {
		t.Fatalf("%d speakers, %d messages", len(speakers), len(messages))
	}
	known := map[string]bool{}
	for _, s := range speakers {
		known[s] = true
	}
	for _, m := range messages {
		if !known[m.From] || !known[m.To] || m.From == m.To {
			t.Errorf("not between two speakers: %+v", m)
		}
		if rest := m.Text[len(m.To)]; m.Text[:len(m.To)] != m.To || rest != ':' && rest != ',' {
			t.Errorf("does not begin with the name: %+v", m)
		}
	}
}

func TestSaid_TakesApartWhatWasSaid(t *testing.T) {
	for _, c := range []struct {
		line, nick, text string
		ok               bool
	}{
		{"[03:57] <ann> bob: hello", "ann", "bob: hello", true},
		{"[03:57] <ann>  bob: two spaces", "ann", " bob: two spaces", true},
		{"[03:57]  * ann waves", "", "", false},
		{"=== ann has joined #ubuntu", "", "", false},
		{"[03:57] <> x", "", "", false},
		{"", "", "", false},
	} {
		nick, text, ok := Said(c.line)
		if nick != c.nick || text != c.text || ok != c.ok {
			t.Errorf("Said(%q) = %q, %q, %v", c.line, nick, text, ok)
		}
	}
}
