package logic

import "slices"

// automaton finds all of its words in one pass (Aho-Corasick). States are numbered
// breadth first, so the children of one are neighbours, sorted by rune: 20 bytes a
// state, and each rune of the text costs a constant number of steps however the text
// and the words are made (a failure goes up as often as the text went down).
type automaton struct {
	states []state
	root   map[rune]int32 // children of state 0, the widest
	ascii  [128]int32     // the same for ASCII, 0: none
	words  []listed
}

// state of the automaton. Children are states first … next state's first - 1.
type state struct {
	label rune  // on the edge that leads here
	first int32 // its first child
	fail  int32 // the longest proper suffix that is a state
	word  int32 // the word that ends here, -1: none
	short int32 // the nearest on the way of fail where a word ends, 0: none
}

// listed is one word as the automaton has it.
type listed struct {
	runes  []rune
	reject bool
	// openLeft and openRight say that a letter may stand beside it (Word.Prefix …).
	openLeft, openRight bool
}

// newAutomaton builds one. Time and memory are linear in the letters, sorting aside.
func newAutomaton(words []listed) *automaton {
	words = merge(words)
	a := &automaton{words: words, root: map[rune]int32{}, states: []state{{word: -1}}}
	// Each state is a range of the sorted words that share a prefix.
	type span struct{ from, to int32 }
	spans := []span{{0, int32(len(words))}}
	for s, depth, levelEnd := 0, 0, 1; s < len(a.states); s++ {
		if s == levelEnd {
			depth, levelEnd = depth+1, len(a.states)
		}
		from, to := spans[s].from, spans[s].to
		if from < to && len(words[from].runes) == depth {
			a.states[s].word = from
			from++
		}
		a.states[s].first = int32(len(a.states))
		for from < to {
			r, end := words[from].runes[depth], from+1
			for end < to && words[end].runes[depth] == r {
				end++
			}
			a.states = append(a.states, state{label: r, word: -1})
			spans = append(spans, span{from, end})
			from = end
		}
	}
	a.states = append(a.states, state{first: int32(len(a.states)), word: -1}) // the end of the last one's children
	a.link()
	return a
}

// link sets the failure edges, level by level.
func (a *automaton) link() {
	last := int32(len(a.states) - 1)
	for c := a.states[0].first; c < a.states[1].first && c < last; c++ {
		a.root[a.states[c].label] = c
		if l := a.states[c].label; l < 128 {
			a.ascii[l] = c
		}
	}
	for s := int32(0); s < last; s++ {
		for c := a.states[s].first; c < a.states[s+1].first; c++ {
			if s == 0 {
				continue // a single rune fails to the root
			}
			f := a.next(a.states[s].fail, a.states[c].label)
			a.states[c].fail = f
			if a.states[f].word >= 0 {
				a.states[c].short = f
			} else {
				a.states[c].short = a.states[f].short
			}
		}
	}
}

// next goes from state s over r.
func (a *automaton) next(s int32, r rune) int32 {
	for s != 0 {
		if c := a.child(s, r); c != 0 {
			return c
		}
		s = a.states[s].fail
	}
	if uint32(r) < 128 {
		return a.ascii[r]
	}
	return a.root[r]
}

// child finds the child of s over r, 0: none.
func (a *automaton) child(s int32, r rune) int32 {
	lo, hi := a.states[s].first, a.states[s+1].first
	for hi-lo > 4 {
		mid := (lo + hi) / 2
		if a.states[mid].label <= r {
			lo = mid
		} else {
			hi = mid
		}
	}
	for ; lo < hi; lo++ {
		if a.states[lo].label == r {
			return lo
		}
	}
	return 0
}

// find calls hit for every occurrence of a word, in the order of their ends, the
// longest first; hit returns false to stop.
func (a *automaton) find(text []unit, hit func(w *listed, from, to int) bool) {
	s := int32(0)
	for i := range text {
		s = a.next(s, text[i].r)
		for e := s; e != 0; e = a.states[e].short {
			if a.states[e].word < 0 {
				continue
			}
			w := &a.words[a.states[e].word]
			if !hit(w, i+1-len(w.runes), i+1) {
				return
			}
		}
	}
}

// merge sorts and drops doubles; of two that differ the stricter and the more open
// counts.
func merge(words []listed) []listed {
	slices.SortFunc(words, func(a, b listed) int { return slices.Compare(a.runes, b.runes) })
	out := words[:0]
	for _, w := range words {
		if n := len(out); n > 0 && slices.Equal(out[n-1].runes, w.runes) {
			out[n-1].reject = out[n-1].reject || w.reject
			out[n-1].openLeft = out[n-1].openLeft || w.openLeft
			out[n-1].openRight = out[n-1].openRight || w.openRight
			continue
		}
		out = append(out, w)
	}
	return out
}
