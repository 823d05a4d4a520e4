package logic

import (
	"cmp"
	"slices"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/curlew-im/curlew/logic/im"
)

// Words are looked for in a copy of the text in which spellings that look or mean the
// same are one: NFKC (so full and half width too), case folded, without what is
// default-ignorable or a control, runs of white space one space. There are two such
// copies. The loose one also lacks the marks that decorate letters (accents, Arabic
// and Hebrew vowel points, stretches, enclosing circles) and pictures such as emoji:
// "f🙂ück" is "fuck" in it. The exact one has both. A word without marks and pictures
// is looked for in the loose copy, one with them in the exact copy: so "péter" in the
// list does not find Peter, and an emoji can be listed.
//
// Marks that make another letter (Indic and Thai vowels, kana voicing, й beside и) are
// kept in both. Look-alikes of another script, digits for letters and letters set apart by
// punctuation are not undone: it would find words nobody wrote.

// unit is one rune of a copy and the bytes of the original it stands for.
type unit struct {
	r          rune
	start, end int32
	// apart says that something which the loose copy lacks stands before it, so the
	// rune before it is no neighbour.
	apart bool
}

// normalText is a reusable copy of one text.
type normalText struct {
	loose, exact []unit
	iter         norm.Iter
	apart        bool
	marked       bool // whether the copies differ
}

// fold makes the two copies. The exact one is written only once they differ
// (exactUnits): most texts have neither marks nor pictures.
func (t *normalText) fold(s string) {
	t.loose, t.exact, t.apart, t.marked = t.loose[:0], t.exact[:0], false, false
	// What is in NFKC already, for most texts all of it, keeps exact positions.
	normal := norm.NFKC.QuickSpanString(s)
	for i := 0; i < normal; {
		if c := s[i]; c < utf8.RuneSelf {
			t.addASCII(c, i)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		t.add(r, i, i+size)
		i += size
	}
	if normal == len(s) {
		return
	}
	// The rest maps by the segment: a letter with its marks, an abbreviation sign.
	t.iter.InitString(norm.NFKC, s[normal:])
	for !t.iter.Done() {
		start := normal + t.iter.Pos()
		segment := t.iter.Next()
		end := normal + t.iter.Pos()
		for len(segment) > 0 {
			r, size := utf8.DecodeRune(segment)
			t.add(r, start, end)
			segment = segment[size:]
		}
	}
}

func (t *normalText) addASCII(c byte, at int) {
	switch f := rune(foldTable[c].base); f {
	case 0: // a control
	case ' ':
		t.space(at, at+1)
	default:
		t.put(f, f, at, at+1)
	}
}

// add takes one rune of the NFKC form.
func (t *normalText) add(r rune, start, end int) {
	switch {
	case r < utf8.RuneSelf && foldTable[r].base == 0: // a control
	case r < utf8.RuneSelf && r > ' ':
		f := rune(foldTable[r].base)
		t.put(f, f, start, end)
	case im.DefaultIgnorable(r), unicode.IsControl(r):
	case unicode.IsSpace(r):
		t.space(start, end)
	case r == 'ß' || r == 'ẞ':
		t.put('S', 'S', start, end)
		t.put('S', 'S', start, end)
	case decorates(r) || pictures(r):
		t.differ()
		t.exact = append(t.exact, unit{r: r, start: int32(start), end: int32(end)})
		t.apart = t.apart || pictures(r)
	case r < foldTableSize:
		f := foldTable[r]
		t.put(rune(f.base), rune(f.folded), start, end)
	default:
		f := foldRune(r)
		t.put(f, f, start, end)
	}
}

// put adds a letter as it is in each copy.
func (t *normalText) put(loose, exact rune, start, end int) {
	if loose != exact {
		t.differ()
	}
	t.loose = append(t.loose, unit{loose, int32(start), int32(end), t.apart})
	t.apart = false
	if t.marked {
		t.exact = append(t.exact, unit{exact, int32(start), int32(end), false})
	}
}

// space keeps one of a run.
func (t *normalText) space(start, end int) {
	if n := len(t.loose); n > 0 && t.loose[n-1].r == ' ' && !t.apart {
		return
	}
	t.put(' ', ' ', start, end)
}

// differ begins the exact copy, the same as the loose one up to here.
func (t *normalText) differ() {
	if !t.marked {
		t.marked = true
		t.exact = append(t.exact[:0], t.loose...)
	}
}

// exactUnits is the exact copy.
func (t *normalText) exactUnits() []unit {
	if t.marked {
		return t.exact
	}
	return t.loose
}

// decorates says whether a mark changes how a letter looks and not which it is.
func decorates(r rune) bool {
	switch {
	case r < 0x300:
		return false
	case r <= 0x36F, // combining diacritical marks
		r >= 0x483 && r <= 0x489,                                       // Cyrillic
		r >= 0x591 && r <= 0x5BD, r == 0x5BF, r >= 0x5C1 && r <= 0x5C7, // Hebrew points
		r == 0x640, r >= 0x64B && r <= 0x65F, r == 0x670, // Arabic stretch and vowel points
		r >= 0x1AB0 && r <= 0x1AFF, r >= 0x1DC0 && r <= 0x1DFF, r >= 0x20D0 && r <= 0x20FF, r >= 0xFE20 && r <= 0xFE2F:
		return true
	}
	return false
}

// pictures says whether r is of the blocks of arrows, signs, dingbats and emoji.
func pictures(r rune) bool {
	return r >= 0x2190 && r <= 0x2BFF || r >= 0x1F000 && r <= 0x1FAFF
}

// foldTableSize covers the scripts that have case and accents in common use, Latin to
// Georgian, and Latin and Greek with precomposed accents.
const foldTableSize = 0x2000

// folding of one rune: folded is its case folded; base that without its marks.
type folding struct{ folded, base uint16 }

var foldTable = func() (table [foldTableSize]folding) {
	for r := range rune(foldTableSize) {
		if r < utf8.RuneSelf && unicode.IsControl(r) && !unicode.IsSpace(r) {
			continue
		}
		if r < utf8.RuneSelf && unicode.IsSpace(r) {
			table[r] = folding{' ', ' '}
			continue
		}
		f := foldRune(r)
		table[r] = folding{uint16(f), uint16(f)}
		letters, dropped := []rune{}, false
		for _, d := range norm.NFKD.String(string(r)) {
			if decorates(d) {
				dropped = true
				continue
			}
			letters = append(letters, d)
		}
		if dropped && len(letters) == 1 && (!unicode.Is(unicode.Cyrillic, r) || r == 'ё' || r == 'Ё') {
			table[r].base = uint16(foldRune(letters[0]))
		}
	}
	return table
}()

// foldRune maps a rune to the smallest of those that differ from it in case only. It
// asks the tables only where there is case.
func foldRune(r rune) rune {
	if r >= 0x2E80 && r < 0xA640 || r >= 0xAC00 && r < 0xFB00 || r >= 0x1EA00 {
		return r
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return least
}

// sameWord says whether two neighbours stand in one word: two letters of scripts that
// set words apart with spaces, or two digits.
func sameWord(a, b rune) bool {
	return spaced(a) && spaced(b) || unicode.IsDigit(a) && unicode.IsDigit(b)
}

func spaced(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	return unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Armenian, unicode.Georgian)
}

// spans are parts of a text to be masked, in bytes.
type spans [][2]int32

// add takes spans in the order of their ends, those that end alike longest first, and
// keeps one where it can, so that many hits in one place take no room.
func (s *spans) add(start, end int32) {
	if n := len(*s); n > 0 {
		if last := &(*s)[n-1]; start >= last[0] && start <= last[1] {
			last[1] = max(last[1], end)
			return
		}
	}
	*s = append(*s, [2]int32{start, end})
}

// merged joins those that touch.
func (s spans) merged() spans {
	slices.SortFunc(s, func(a, b [2]int32) int { return cmp.Compare(a[0], b[0]) })
	out := s[:1]
	for _, next := range s[1:] {
		if last := &out[len(out)-1]; next[0] <= last[1] {
			last[1] = max(last[1], next[1])
			continue
		}
		out = append(out, next)
	}
	return out
}

// mask puts a * for each character of the spans that shows; white space stays, and
// what does not show by itself (marks, joiners) goes. All else stays as it is.
func (s spans) mask(text string) string {
	out := make([]byte, 0, len(text))
	at := 0
	for _, span := range s {
		out = append(out, text[at:span[0]]...)
		for _, r := range text[span[0]:span[1]] {
			switch {
			case unicode.IsSpace(r):
				out = utf8.AppendRune(out, r)
			case im.Visible(r) && !unicode.Is(unicode.M, r):
				out = append(out, '*')
			}
		}
		at = int(span[1])
	}
	return string(append(out, text[at:]...))
}
