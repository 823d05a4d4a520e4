package logic

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/logic/im"
)

// Bounds of a word list. Its automaton takes about 20 bytes a letter.
const (
	maxWords     = 1_000_000
	maxWordRunes = 64
)

// Word is one entry of a word list.
type Word struct {
	// Text is found in any case, width and decoration (words_text.go). Where it begins
	// or ends in a letter of a script that sets words apart with spaces (Latin, Greek,
	// Cyrillic, Armenian, Georgian), or in a digit, no other such letter, or digit, may
	// stand beside it: "ass" is not found in "class". A * at that end lifts this: "ass*"
	// finds "assume". Words of other scripts are found anywhere.
	Text string
	// Reject refuses the whole text; else the word is masked with a * per character.
	Reject bool
}

// ParseWords reads a word list, one word a line: "mask: word", "reject: word" or the
// bare word, which is masked. Empty lines and those that begin with # do not count.
// A line that cannot be found in any text is an error, which names it.
func ParseWords(r io.Reader) ([]Word, error) {
	var words []Word
	sc := bufio.NewScanner(r)
	for line := 1; sc.Scan(); line++ {
		text := strings.TrimSpace(strings.TrimPrefix(sc.Text(), "\uFEFF"))
		if text == "" || text[0] == '#' {
			continue
		}
		w := Word{Text: text}
		if rest, ok := strings.CutPrefix(text, "reject:"); ok {
			w = Word{Text: strings.TrimSpace(rest), Reject: true}
		} else if rest, ok := strings.CutPrefix(text, "mask:"); ok {
			w.Text = strings.TrimSpace(rest)
		}
		if err := w.Validate(); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if len(words) == maxWords {
			return nil, fmt.Errorf("line %d: more than %d words", line, maxWords)
		}
		words = append(words, w)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("word list: %w", err)
	}
	return words, nil
}

// Validate refuses a word that no text can contain.
func (w Word) Validate() error {
	if !utf8.ValidString(w.Text) {
		return errors.New("not valid UTF-8")
	}
	l, _ := w.listed(new(normalText))
	switch {
	case len(l.runes) == 0 || strings.TrimFunc(string(l.runes), unicode.IsSpace) == "":
		return errors.New("a word of nothing visible")
	case len(l.runes) > maxWordRunes:
		return fmt.Errorf("a word of more than %d characters", maxWordRunes)
	}
	return nil
}

// listed brings the word to the form of the copy that it is looked for in.
func (w Word) listed(t *normalText) (l listed, exact bool) {
	text := w.Text
	text, l.openRight = strings.CutSuffix(text, "*")
	text, l.openLeft = strings.CutPrefix(text, "*")
	l.reject = w.Reject
	t.fold(strings.TrimSpace(text))
	for _, u := range t.exactUnits() {
		l.runes = append(l.runes, u.r)
	}
	return l, t.marked
}

// wordSet is one reading of the list.
type wordSet struct{ loose, exact *automaton }

func newWordSet(words []Word) *wordSet {
	var loose, exact []listed
	t := new(normalText)
	for _, w := range words {
		if l, marked := w.listed(t); marked {
			exact = append(exact, l)
		} else {
			loose = append(loose, l)
		}
	}
	set := new(wordSet)
	if len(loose) > 0 {
		set.loose = newAutomaton(loose)
	}
	if len(exact) > 0 {
		set.exact = newAutomaton(exact)
	}
	return set
}

// Words is the Rule that masks or refuses listed words. What it does not mask it
// leaves byte for byte: joiners, marks and emoji survive.
type Words struct {
	path    string
	stamp   fileStamp
	log     *slog.Logger
	set     atomic.Pointer[wordSet]
	scratch sync.Pool // of *normalText
	hits    *prometheus.CounterVec
	size    prometheus.Gauge
}

// NewWords reads the list at path; an empty path is an empty list.
func NewWords(path string, log *slog.Logger, reg prometheus.Registerer) (*Words, error) {
	w := &Words{path: path, log: log,
		scratch: sync.Pool{New: func() any { return new(normalText) }},
		hits: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "curlew_logic_words_texts_total",
			Help: "Texts in which listed words were found, by what became of them."}, []string{"result"}),
		size: prometheus.NewGauge(prometheus.GaugeOpts{Name: "curlew_logic_words_list_words",
			Help: "Words in the list in use."}),
	}
	reg.MustRegister(w.hits, w.size)
	w.stamp = stampOf(path)
	if path == "" {
		w.Replace(nil)
		return w, nil
	}
	return w, w.reload()
}

// Run reads the list again whenever its file changes, until ctx ends. A file that is
// no good leaves the old list in use.
func (w *Words) Run(ctx context.Context) error {
	if w.path == "" {
		<-ctx.Done()
		return nil
	}
	return watchFile(ctx, w.path, w.stamp, w.reload, w.log)
}

func (w *Words) reload() error {
	f, err := os.Open(w.path)
	if err != nil {
		return fmt.Errorf("word list: %w", err)
	}
	defer f.Close()
	words, err := ParseWords(f)
	if err != nil {
		return fmt.Errorf("word list %s: %w", w.path, err)
	}
	w.Replace(words)
	return nil
}

// Replace puts another list in use; texts being looked at finish under the old one.
func (w *Words) Replace(words []Word) {
	w.set.Store(newWordSet(words))
	w.size.Set(float64(len(words)))
}

// Apply masks listed words, or returns im.ErrContentRefused. Its time is linear in
// the text, whatever is listed.
func (w *Words) Apply(_ context.Context, text string) (string, error) {
	set := w.set.Load()
	if set.loose == nil && set.exact == nil {
		return text, nil
	}
	t := w.scratch.Get().(*normalText)
	defer w.scratch.Put(t)
	t.fold(text)
	var masks spans
	refused := false
	look := func(a *automaton, units []unit) {
		if a == nil || refused {
			return
		}
		a.find(units, func(l *listed, from, to int) bool {
			if beside(l, units, from, to) {
				return true
			}
			if l.reject {
				refused = true
				return false
			}
			masks.add(units[from].start, units[to-1].end)
			return true
		})
	}
	look(set.loose, t.loose)
	if t.marked { // a word with marks is in no text without
		look(set.exact, t.exact)
	}
	switch {
	case refused:
		w.hits.WithLabelValues("refused").Inc()
		return "", im.ErrContentRefused
	case len(masks) > 0:
		w.hits.WithLabelValues("masked").Inc()
		return masks.merged().mask(text), nil
	}
	return text, nil
}

// beside says whether a letter stands beside the place that makes it part of a longer
// word.
func beside(l *listed, units []unit, from, to int) bool {
	if !l.openLeft && from > 0 && !units[from].apart && sameWord(units[from-1].r, units[from].r) {
		return true
	}
	return !l.openRight && to < len(units) && !units[to].apart && sameWord(units[to].r, units[to-1].r)
}
