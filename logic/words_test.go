package logic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/text/unicode/norm"

	"github.com/curlew-im/curlew/logic/im"
)

func testWords(t testing.TB, path string) *Words {
	t.Helper()
	w, err := NewWords(path, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWords_MasksAndRefuses(t *testing.T) {
	w := testWords(t, "testdata/words.txt")
	const refused = "REFUSED"
	for _, c := range []struct{ name, text, want string }{
		{"nothing listed", "hello there", "hello there"},
		{"plain", "oh fuck it", "oh **** it"},
		{"whole text", "fuck", "****"},
		{"case", "FuCk", "****"},
		{"full width", "ｆｕｃｋ!", "****!"},
		{"small capitals of mathematics", "𝓯𝓾𝓬𝓴", "****"},
		{"zero width space", "f\u200Bu\u200Bck you", "**** you"},
		{"joiner, soft hyphen, BOM", "f\u200Du\u00ADc\uFEFFk", "****"},
		{"direction override", "\u202Efuck\u202C", "\u202E****\u202C"},
		{"combining marks", "fu\u0308\u0301ck", "****"},
		{"many combining marks", "f" + strings.Repeat("\u0301", 100) + "uck x", "**** x"},
		{"precomposed marks", "fück", "****"},
		{"enclosing marks", "f\u20DDu\u20DDck", "****"},
		{"split by emoji", "f🙂uc👍🏽k", "**" + "**" + "***"},
		{"control character inside", "fu\u0007ck", "****"},
		{"sharp s", "aß", "**"}, // is "ass" folded
		{"Kelvin sign", "fuc\u212A", "****"},
		{"with punctuation around", "(fuck),fuck.", "(****),****."},
		{"underscore and digits are no letters", "_fuck_ fuck1", "_****_ ****1"},
		{"between Chinese", "你fuck你", "你****你"},
		{"inside a longer word", "mother-fucker fucking", "mother-fucker fucking"},
		{"star opens the end", "cunts cunting scunthorpe", "****s ****ing scunthorpe"},
		{"list with accent finds accent", "Péter and PE\u0301TER", "***** and *****"},
		{"list with accent leaves Peter", "Peter", "Peter"},
		{"phrase", "go KILL   yourself", refused},
		{"phrase over a line", "kill\n\tyourself", refused},
		{"Chinese, anywhere", "我说敏感词了", "我说***了"},
		{"Chinese refused", "关于法轮功的", refused},
		{"Chinese split", "敏\u200B感🙂词", "****"},
		{"Arabic with vowel points and stretch", "خِنـزير", "******"},
		{"Devanagari", "वह हरामी है", "वह *** है"},
		{"Devanagari with another vowel", "हरामि", "हरामि"},
		{"Cyrillic", "вот СУКА!", "вот ****!"},
		{"Cyrillic inside", "сукант", "сукант"},
		{"Cyrillic letter with breve", "Хуй", "***"},
		{"Cyrillic letter without", "хуи", "хуи"},
		{"an emoji can be listed", "you 🖕 there", "you * there"},
		{"number", "in 1984, not 19845 or 1984a", "in ****, not 19845 or ****a"},
		{"kana", "いかす", "い*す"},
		{"kana voiced is another letter", "いがす か\u3099", "いがす か\u3099"},
		{"Hangul composed", "시발", "**"},
		{"Hangul as jamo", norm.NFD.String("시발"), "*****"},
		{"two lists in one text", "fuck 🖕 ass", "**** * ***"},
		{"overlapping and touching", "assass ass", "assass ***"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := w.Apply(t.Context(), c.text)
			switch {
			case c.want == refused:
				if !errors.Is(err, im.ErrContentRefused) {
					t.Errorf("%q gives %q, %v, want it refused", c.text, got, err)
				}
			case err != nil || got != c.want:
				t.Errorf("%q gives %q, %v, want %q", c.text, got, err, c.want)
			}
		})
	}
}

func TestWords_InnocentTextsStayByteForByte(t *testing.T) {
	w := testWords(t, "testdata/words.txt")
	for _, text := range []string{
		"Scunthorpe Penistone Clitheroe Lightwater Essex Sussex Middlesex", "class assume bass cassette massachusetts assassin", "title constitution titanic",
		"👨‍👩‍👧‍👦 family", "👩🏽‍🚀🏳️‍🌈", "می‌خواهم", "क्‍ष ක්‍ෂ", "n\u0303 decomposed é composed ｆｕｌｌ width", "ﬁne ﬂag", "Straße", "🇩🇪",
		"\u202Bعربي\u202C", "a\u00ADb", "  spaces \t kept\n", "é̂̂̂̂", "각나다", "がぎぐ", "\u0301starts with a mark", "²³½™",
	} {
		if got, err := w.Apply(t.Context(), text); err != nil || got != text {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
}

// The words of Scunthorpe's neighbourhood: English words and names that contain words
// of lists in use.
func TestWords_NoFalseHitsInEnglish(t *testing.T) {
	w := testWords(t, "")
	w.Replace([]Word{{Text: "ass"}, {Text: "tit"}, {Text: "cum"}, {Text: "sex"}, {Text: "rape"}, {Text: "cock"}, {Text: "dick"}, {Text: "hell"}, {Text: "anal"}, {Text: "arse"}, {Text: "nig"}, {Text: "fag"}, {Text: "cunt"}, {Text: "shit"}, {Text: "jap"}})
	text := "Scunthorpe, Arsenal, Essex, Middlesex, Wessex: the assistant analyst's document on grapes, cucumbers and drapery; " +
		"Hitchcock and Dickens; a peacock's shell; circumstances; class, glass, embassy; analysis; canal; Japan; night, benign; " +
		"title, stitch, competition; coarse parser; Shitake-mushrooms' Mishit; Sussexes, unisex"
	if got, err := w.Apply(t.Context(), text); err != nil || got != text {
		t.Errorf("became %q, %v", got, err)
	}
}

func TestWords_TwinsInTheListTakeTheStricter(t *testing.T) {
	w := testWords(t, "")
	w.Replace([]Word{{Text: "bad"}, {Text: "BAD*", Reject: true}, {Text: "ｂａｄ"}})
	if _, err := w.Apply(t.Context(), "badly"); !errors.Is(err, im.ErrContentRefused) {
		t.Errorf("got %v", err)
	}
}

func TestParseWords_NamesTheBadLine(t *testing.T) {
	for name, list := range map[string]string{
		"invisible":     "good\n\u200B\u200D\n",
		"only a prefix": "good\nreject:\n",
		"only a star":   "good\n*\n",
		"too long":      "good\n" + strings.Repeat("x", 65) + "\n",
		"not UTF-8":     "good\n\xff\xfe\n",
	} {
		t.Run(name, func(t *testing.T) {
			if words, err := ParseWords(strings.NewReader(list)); err == nil || !strings.Contains(err.Error(), "line 2") {
				t.Errorf("got %v, %v", words, err)
			}
		})
	}
	words, err := ParseWords(strings.NewReader("\uFEFF# list\r\n\r\none\r\nreject: two words \nmask:three\n"))
	if want := []Word{{"one", false}, {"two words", true}, {"three", false}}; err != nil || fmt.Sprint(words) != fmt.Sprint(want) {
		t.Errorf("got %v, %v", words, err)
	}
}

func TestWords_ReloadsAndKeepsTheOldListOnABadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "words")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewWords(path, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil {
		t.Error("starts without its file")
	}
	write("apple\n")
	synctest.Test(t, func(t *testing.T) {
		w := testWords(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		expect := func(step, text, want string) {
			t.Helper()
			time.Sleep(2 * watchInterval)
			synctest.Wait()
			if got, err := w.Apply(ctx, text); err != nil || got != want {
				t.Errorf("%s: %q, %v, want %q", step, got, err, want)
			}
		}
		expect("first", "apple pears", "***** pears")
		write("pears\n")
		expect("changed", "apple pears", "apple *****")
		write("\xff\n")
		expect("bad", "apple pears", "apple *****")
		os.Remove(path)
		expect("gone", "apple pears", "apple *****")
		write("apple\npears\n")
		expect("back", "apple pears", "***** *****")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAutomaton_FindsWhatSearchingFinds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		seen := map[string]bool{}
		var words []listed
		for range 1 + rng.IntN(30) {
			if s := randomOf(rng, "ab中", 1+rng.IntN(6)); !seen[s] {
				seen[s] = true
				words = append(words, listed{runes: []rune(s)})
			}
		}
		text := []rune(randomOf(rng, "ab中", rng.IntN(80)))
		units := make([]unit, len(text))
		for i, r := range text {
			units[i].r = r
		}
		want := map[string]bool{}
		for from := range text {
			for to := from + 1; to <= len(text); to++ {
				if seen[string(text[from:to])] {
					want[fmt.Sprint(from, to)] = true
				}
			}
		}
		got := map[string]bool{}
		newAutomaton(words).find(units, func(w *listed, from, to int) bool {
			if string(w.runes) != string(text[from:to]) {
				t.Fatalf("found %q at %q", string(w.runes), string(text[from:to]))
			}
			got[fmt.Sprint(from, to)] = true
			return true
		})
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("words %v, text %q: found %v, want %v", seen, string(text), got, want)
		}
	}
}

func randomOf(rng *rand.Rand, letters string, n int) string {
	all := []rune(letters)
	out := make([]rune, n)
	for i := range out {
		out[i] = all[rng.IntN(len(all))]
	}
	return string(out)
}

func FuzzWords(f *testing.F) {
	w := testWords(f, "testdata/words.txt")
	for _, s := range []string{"fuck", "f\u200Duck 👨‍👩‍👧", "ﬁ ß ｆ", "e\u0301\u0301", "각\u1100\u1161", "\u0e33\u0f77", "ﷺ", "ass\u0301", "🖕🏽"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > im.MaxTextBytes || !utf8.ValidString(s) {
			return
		}
		got, err := w.Apply(t.Context(), s)
		if err != nil {
			if !errors.Is(err, im.ErrContentRefused) {
				t.Fatal(err)
			}
			return
		}
		if !utf8.ValidString(got) || len(got) > len(s) {
			t.Fatalf("%q became %q", s, got)
		}
		if strings.IndexFunc(s, im.Visible) >= 0 && strings.IndexFunc(got, im.Visible) < 0 {
			t.Fatalf("%q became %q, which shows nothing", s, got)
		}
		if n := strings.Count(s, "*"); got != s && strings.Count(got, "*") == n {
			t.Fatalf("%q changed to %q without a mask", s, got)
		}
	})
}

// wordList is n random words of the kind lists hold: half Latin of 4 to 12 letters,
// half Chinese of 2 to 5.
func wordList(n int) []Word {
	rng := rand.New(rand.NewPCG(3, 4))
	words := make([]Word, n)
	for i := range words {
		if i%2 == 0 {
			words[i].Text = randomOf(rng, "eeetaoinshrdlucmfwyp", 4+rng.IntN(9))
			continue
		}
		han := make([]rune, 2+rng.IntN(4))
		for j := range han {
			han[j] = 0x4E00 + rune(rng.IntN(3000))
		}
		words[i].Text = string(han)
	}
	return words
}

// BenchmarkWords: 100,000 words, 8 KiB of text. deep is the worst we know: beginnings
// of listed words one after the other, so that the automaton goes down and fails all
// the time; hits is nothing but listed words.
func BenchmarkWords(b *testing.B) {
	words := wordList(100_000)
	w := testWords(b, "")
	w.Replace(words)
	rng := rand.New(rand.NewPCG(5, 6))
	fill := func(next func() string) string {
		var s strings.Builder
		for s.Len() < im.MaxTextBytes-64 {
			s.WriteString(next())
		}
		return s.String()
	}
	listed := func(parity int) string { return words[2*rng.IntN(len(words)/2)+parity].Text }
	head := func(s string) string { r := []rune(s); return string(r[:len(r)-1]) }
	for _, c := range []struct {
		name string
		next func() string
	}{
		{"english", func() string { return "the quick brown fox jumps over the lazy dog. " }},
		{"chinese", func() string { return string(rune(0x4E00 + rng.IntN(3000))) }},
		{"russian", func() string { return "съешь ещё этих мягких булок да выпей чаю. " }},
		{"emoji", func() string { return "👩🏽‍🚀 ok 🏳️‍🌈 " }},
		{"decomposed", func() string { return "e\u0301a\u0308o\u0302 " }},
		{"deep latin", func() string { return head(listed(0)) }},
		{"deep chinese", func() string { return head(listed(1)) }},
		{"hits", func() string { return listed(rng.IntN(2)) + " " }},
	} {
		text := fill(c.next)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = w.Apply(b.Context(), text)
			}
		})
	}
	short := "hello, how are you today? I am fine, thanks for asking, see you later at the station then"
	b.Run("short", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = w.Apply(b.Context(), short)
		}
	})
	b.Run("build", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.Replace(words)
		}
	})
}
