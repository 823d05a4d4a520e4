package storage

import (
	"context"
	"slices"

	"github.com/curlew-im/curlew/logic/im"
)

const historyWhere = " WHERE conversation = ? AND seq >= ? AND seq <= ? ORDER BY seq "

func (d *dialect) historyDown() string {
	return "SELECT " + readColumns + " FROM messages" + d.byPrimary + historyWhere + "DESC LIMIT ?"
}

func (d *dialect) historyUp() string {
	return "SELECT " + readColumns + " FROM messages" + d.byPrimary + historyWhere + "ASC LIMIT ?"
}

const historyLimit = 1000 // rows of one page, whoever asks; the API stops at 100

// History reads one page, in one range read of the primary key whatever the size of
// the table [S4] (two where it is asked for beyond the end). Since seqs have no holes, the rows just outside the page say
// whether there is more.
func (db *DB) History(ctx context.Context, q im.HistoryQuery) (page im.HistoryPage, err error) {
	ctx, done := db.begin(ctx, "history")
	defer done(&err)
	limit := min(max(q.Limit, 1), historyLimit)
	first := max(q.First, 1)
	last := q.Last
	if last == 0 {
		last = im.MaxID
	}
	if first > last {
		return im.HistoryPage{}, nil
	}
	switch {
	case q.After != nil:
		return db.historyAfter(ctx, q.Conversation, *q.After, first, last, limit)
	case q.Around > 0:
		return db.historyAround(ctx, q.Conversation, min(max(q.Around, first), last), first, last, limit)
	default:
		return db.historyBefore(ctx, q.Conversation, q.Before, first, last, limit)
	}
}

// historyBefore reads from before itself downwards: if that row is there, there is
// more after the page.
func (db *DB) historyBefore(ctx context.Context, c im.ConversationID, before, first, last im.Seq, limit int) (im.HistoryPage, error) {
	from := last
	if before > 0 && before <= last {
		from = max(before, first)
	}
	rows, err := queryAll(ctx, db.r, scanRow, db.d.historyDown(), c, first, from, limit+2)
	if err != nil {
		return im.HistoryPage{}, err
	}
	var page im.HistoryPage
	if len(rows) > 0 && before > 0 && rows[0].Seq >= before {
		page.HasMoreAfter = true
		rows = rows[1:]
	}
	if len(rows) > limit {
		page.HasMoreBefore = true
		rows = rows[:limit]
	}
	slices.Reverse(rows)
	page.Items = rows
	return page, nil
}

func (db *DB) historyAfter(ctx context.Context, c im.ConversationID, after, first, last im.Seq, limit int) (im.HistoryPage, error) {
	from := min(max(after, first), last)
	rows, err := queryAll(ctx, db.r, scanRow, db.d.historyUp(), c, from, last, limit+2)
	if err != nil {
		return im.HistoryPage{}, err
	}
	if len(rows) == 0 && from > first { // asked from beyond the end: is there anything at all?
		page, err := db.historyBefore(ctx, c, from, first, last, 1)
		return im.HistoryPage{HasMoreBefore: len(page.Items) > 0}, err
	}
	var page im.HistoryPage
	if len(rows) > 0 && rows[0].Seq <= after {
		page.HasMoreBefore = true
		rows = rows[1:]
	} else if len(rows) > 0 {
		page.HasMoreBefore = rows[0].Seq > first
	}
	if len(rows) > limit {
		page.HasMoreAfter = true
		rows = rows[:limit]
	}
	page.Items = rows
	return page, nil
}

// historyAround reads a range wide enough that the page is full also near an end of
// the conversation, and cuts the page out of it.
func (db *DB) historyAround(ctx context.Context, c im.ConversationID, around, first, last im.Seq, limit int) (im.HistoryPage, error) {
	n := im.Seq(limit)
	low := first
	if around > first+n {
		low = around - n
	}
	rows, err := queryAll(ctx, db.r, scanRow, db.d.historyUp(), c, low, min(around+n, last), 2*limit+1)
	if err != nil {
		return im.HistoryPage{}, err
	}
	if len(rows) == 0 || rows[len(rows)-1].Seq < around { // beyond the end: the last page
		return db.historyBefore(ctx, c, 0, first, last, limit)
	}
	at, _ := slices.BinarySearchFunc(rows, around, func(m im.Message, s im.Seq) int { return int(int64(m.Seq) - int64(s)) })
	start := max(0, min(at-limit/2, len(rows)-limit))
	end := min(start+limit, len(rows))
	return im.HistoryPage{Items: rows[start:end], HasMoreBefore: rows[start].Seq > first, HasMoreAfter: end < len(rows)}, nil
}
