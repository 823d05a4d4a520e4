package logic

import "slices"

// automaton finds all of its words in one pass (Aho-Corasick). States are numbered
// breadth first, so the children of one are neighbours, sorted by rune: 20 bytes a
// state. Each rune of the text costs a bounded number of steps however the text and
// the words are made: a failure goes up as often as the text went down.
type automaton struct {
	nodes  []node
	labels []rune  // of the edge that leads to each state
	ends   []int32 // the word that ends in each state, -1: none
	root   map[rune]int32
	ascii  [128]int32 // root for ASCII, 0: none
	words  []listed
}

// node is one state. Its children are the states first … next node's first - 1.
type node struct {
	first int32
	fail  int32 // the longest proper suffix that is a state
	hit   int32 // this state or the nearest on the way of fail where a word ends, 0: none
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
	a := &automaton{words: words, root: map[rune]int32{}, nodes: []node{{}}, labels: []rune{0}, ends: []int32{-1}}
	// Each state is a range of the sorted words that share a prefix.
	type span struct{ from, to int32 }
	spans := []span{{0, int32(len(words))}}
	for s, depth, level := 0, 0, 1; s < len(a.nodes); s++ {
		if s == level {
			depth, level = depth+1, len(a.nodes)
		}
		from, to := spans[s].from, spans[s].to
		if from < to && len(words[from].runes) == depth {
			a.ends[s] = from
			from++
		}
		a.nodes[s].first = int32(len(a.nodes))
		for from < to {
			r, end := words[from].runes[depth], from+1
			for end < to && words[end].runes[depth] == r {
				end++
			}
			a.nodes, a.labels, a.ends = append(a.nodes, node{}), append(a.labels, r), append(a.ends, -1)
			spans = append(spans, span{from, end})
			from = end
		}
	}
	a.nodes = append(a.nodes, node{first: int32(len(a.nodes))}) // the end of the last one's children
	a.link()
	return a
}

// link sets the failure edges, level by level.
func (a *automaton) link() {
	for c := a.nodes[0].first; c < a.nodes[1].first; c++ {
		a.root[a.labels[c]] = c
		if a.labels[c] < 128 {
			a.ascii[a.labels[c]] = c
		}
	}
	for s := range int32(len(a.nodes) - 1) {
		for c := a.nodes[s].first; c < a.nodes[s+1].first; c++ {
			if s != 0 { // a single rune fails to the root
				a.nodes[c].fail = a.next(a.nodes[s].fail, a.labels[c])
			}
			if a.nodes[c].hit = c; a.ends[c] < 0 {
				a.nodes[c].hit = a.nodes[a.nodes[c].fail].hit
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
		s = a.nodes[s].fail
	}
	if uint32(r) < 128 {
		return a.ascii[r]
	}
	return a.root[r]
}

// child finds the child of s over r, 0: none.
func (a *automaton) child(s int32, r rune) int32 {
	lo, hi := a.nodes[s].first, a.nodes[s+1].first
	for hi-lo > 8 {
		mid := (lo + hi) / 2
		if a.labels[mid] <= r {
			lo = mid
		} else {
			hi = mid
		}
	}
	for ; lo < hi; lo++ {
		if a.labels[lo] == r {
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
		for e := a.nodes[s].hit; e != 0; e = a.nodes[a.nodes[e].fail].hit {
			w := &a.words[a.ends[e]]
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
