package storage

import (
	"fmt"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestHistory(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"History_EveryPageMatchesTheModel": testHistoryModel,
		"History_EmptyConversation":        testHistoryEmpty,
	})
}

// testHistoryModel compares every page of a conversation of 12 with one cut out of
// the plain list.
func testHistoryModel(t *testing.T, db *DB) {
	a, b, c := newPair(t, db)
	fill(t, db, c, 12, a, b)
	_, _, next := newPair(t, db) // a neighbour in the index must never show
	fill(t, db, next, 3, a)
	for _, bounds := range []struct{ first, last im.Seq }{{0, 0}, {1, 0}, {4, 0}, {0, 9}, {4, 9}, {5, 5}, {13, 0}, {9, 4}} {
		low, high := max(bounds.first, 1), bounds.last
		if high == 0 || high > 12 {
			high = 12
		}
		var seen []im.Seq
		for s := low; s <= high; s++ {
			seen = append(seen, s)
		}
		for _, limit := range []int{1, 2, 3, 5, 12, 100} {
			for at := im.Seq(0); at <= 15; at++ {
				q := im.HistoryQuery{Conversation: c, Limit: limit, First: bounds.first, Last: bounds.last}
				before, after, around := q, q, q
				before.Before, after.After, around.Around = at, &at, at
				checkPage(t, db, fmt.Sprintf("before %d limit %d in %v", at, limit, bounds), before, modelBefore(seen, at, limit))
				checkPage(t, db, fmt.Sprintf("after %d limit %d in %v", at, limit, bounds), after, modelAfter(seen, at, limit))
				if at > 0 {
					checkPage(t, db, fmt.Sprintf("around %d limit %d in %v", at, limit, bounds), around, modelAround(seen, at, limit))
				}
			}
		}
	}
}

type modelPage struct {
	seqs          []im.Seq
	before, after bool
}

func window(seen []im.Seq, start, end int) modelPage {
	start, end = max(start, 0), min(end, len(seen))
	return modelPage{seen[start:end], start > 0, end < len(seen)}
}

func modelBefore(seen []im.Seq, at im.Seq, limit int) modelPage {
	end := len(seen)
	for at > 0 && end > 0 && seen[end-1] >= at {
		end--
	}
	return window(seen, end-limit, end)
}

func modelAfter(seen []im.Seq, at im.Seq, limit int) modelPage {
	start := 0
	for start < len(seen) && seen[start] <= at {
		start++
	}
	return window(seen, start, start+limit)
}

func modelAround(seen []im.Seq, at im.Seq, limit int) modelPage {
	if len(seen) == 0 {
		return modelPage{}
	}
	i := 0
	for i < len(seen) && seen[i] < at {
		i++
	}
	start := max(0, min(i-limit/2, len(seen)-limit))
	return window(seen, start, start+limit)
}

func checkPage(t *testing.T, db *DB, name string, q im.HistoryQuery, want modelPage) {
	t.Helper()
	page, err := db.History(t.Context(), q)
	must(t, err)
	got := modelPage{before: page.HasMoreBefore, after: page.HasMoreAfter}
	for _, m := range page.Items {
		got.seqs = append(got.seqs, m.Seq)
	}
	if fmt.Sprint(got.seqs) != fmt.Sprint(want.seqs) || got.before != want.before || got.after != want.after {
		t.Errorf("%s: got %+v, want %+v", name, got, want)
	}
}

func testHistoryEmpty(t *testing.T, db *DB) {
	_, _, c := newPair(t, db)
	zero := im.Seq(0)
	for _, q := range []im.HistoryQuery{{Conversation: c, Limit: 5}, {Conversation: c, Limit: 5, After: &zero},
		{Conversation: c, Limit: 5, Around: 3}, {Conversation: "c404", Limit: 5, Before: im.MaxID}} {
		page, err := db.History(t.Context(), q)
		if err != nil || len(page.Items) != 0 || page.HasMoreBefore || page.HasMoreAfter {
			t.Errorf("%+v: %+v, %v", q, page, err)
		}
	}
}
