package jobs

import (
	"context"
	"sync"

	"github.com/curlew-im/curlew/logic/im"
)

// receipt is what the receipts of one member in a batch come to.
type receipt struct {
	conv      im.ConversationID
	user      im.UserID
	device    im.DeviceID // of the last one, which need not be told
	delivered im.Seq
	read      im.Seq
}

// receiptKey tells receipts that are folded into one: each device has its own, since
// the others are told.
type receiptKey struct {
	memberKey
	device im.DeviceID
}

// receipts folds the receipts of a batch; both cursors only rise.
type receipts struct {
	list []*receipt
	at   map[receiptKey]*receipt
}

func (r *receipts) add(conv im.ConversationID, t *im.ReceiptTask) {
	key := receiptKey{memberKey{conv, t.User}, t.Device}
	rc := r.at[key]
	if rc == nil {
		rc = &receipt{conv: conv, user: t.User, device: t.Device}
		r.list = append(r.list, rc)
		if r.at == nil {
			r.at = make(map[receiptKey]*receipt)
		}
		r.at[key] = rc
	}
	rc.delivered = max(rc.delivered, t.Delivered)
	rc.read = max(rc.read, t.Read)
}

// move is a cursor that moves.
type move struct {
	im.CursorMove
	low, high im.UserID
	device    im.DeviceID // whose receipt moved it
	receipt   bool        // not a sender's own cursor: the other side is told
	readMoved bool
	// authors said what a member of a channel has received or read by it: they are told
	// when it is written.
	authors []im.UserID
}

// peer is the other side of a one-to-one conversation; of a channel nobody.
func (m *move) peer() im.UserID {
	if m.User == m.low {
		return m.high
	}
	return m.low
}

// moves are the cursors that the batch moves: senders' own read cursors (contract 7),
// and receipts, clamped to the end of the conversation; read implies delivered. What
// moves nothing is left out; a strand that does not know a cursor counts it as moved,
// since to say so again is harmless.
func (s *scribe) moves(ctx context.Context, b *batch) ([]move, error) {
	var moves []move
	at := make(map[memberKey]int)
	raise := func(conv im.ConversationID, u im.UserID, delivered, read im.Seq, rc *receipt) {
		if u == im.SystemUser {
			return
		}
		key := memberKey{conv, u}
		known, _ := s.cursors.Get(key)
		i, moving := at[key]
		if moving {
			known.Delivered = max(known.Delivered, moves[i].Delivered)
			known.Read = max(known.Read, moves[i].Read)
		}
		if delivered <= known.Delivered && read <= known.Read {
			if rc != nil {
				s.r.m.receipts.WithLabelValues("unmoved").Inc()
			}
			return
		}
		if !moving {
			e, _ := s.ends.Get(conv)
			i = len(moves)
			at[key] = i
			moves = append(moves, move{CursorMove: im.CursorMove{Conversation: conv, User: u}, low: e.low, high: e.high})
		}
		m := &moves[i]
		m.Delivered = max(m.Delivered, delivered)
		m.Read = max(m.Read, read)
		if rc != nil {
			m.receipt, m.device = true, rc.device
			m.readMoved = m.readMoved || read > known.Read
			m.authors = s.toTell(ctx, m, known)
			s.r.m.receipts.WithLabelValues("moved").Inc()
		}
	}
	for _, d := range b.sends {
		if !d.task.AdvanceRead || d.fate != stored && d.fate != duplicate {
			continue
		}
		// Also of who has left before it had its place: what they said last, they have read.
		raise(d.conv, d.key.Sender, 0, d.ref.Seq, nil)
	}
	for _, rc := range b.receipts.list {
		top, err := s.topOf(ctx, rc.conv, rc.user)
		if err != nil {
			return nil, err
		}
		if top == 0 {
			s.r.m.receipts.WithLabelValues("foreign").Inc()
			continue
		}
		raise(rc.conv, rc.user, min(max(rc.delivered, rc.read), top), min(rc.read, top), rc)
	}
	return moves, nil
}

// topOf is how far u can have come in a conversation; 0 where they are not in it.
func (s *scribe) topOf(ctx context.Context, conv im.ConversationID, u im.UserID) (im.Seq, error) {
	e, _ := s.ends.Get(conv)
	switch {
	case isChannel(conv):
		return s.topInRoom(ctx, conv, u, e.last.Seq)
	case u == e.low || u == e.high:
		return e.last.Seq, nil
	}
	return 0, nil
}

// told remembers moves once everybody has been told.
func (s *scribe) told(moves []move) {
	for i := range moves {
		m := &moves[i]
		key := memberKey{m.Conversation, m.User}
		known, _ := s.cursors.Get(key)
		known.Delivered = max(known.Delivered, m.Delivered)
		known.Read = max(known.Read, m.Read)
		s.cursors.Add(key, known)
	}
}

// moveBook collects a partition's cursor moves until they are written, one per
// member. It is bounded: who is about to take more waits while it is full.
type moveBook struct {
	mu    sync.Mutex
	moves map[memberKey]move
}

func (k *moveBook) init() { k.moves = make(map[memberKey]move) }

func (k *moveBook) add(moves []move) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range moves {
		key := memberKey{m.Conversation, m.User}
		if old, ok := k.moves[key]; ok {
			m.Delivered = max(m.Delivered, old.Delivered)
			m.Read = max(m.Read, old.Read)
			m.authors = union(m.authors, old.authors)
		}
		k.moves[key] = m
	}
}

func (k *moveBook) take() []move {
	k.mu.Lock()
	defer k.mu.Unlock()
	moves := make([]move, 0, len(k.moves))
	for _, m := range k.moves {
		moves = append(moves, m)
	}
	clear(k.moves)
	return moves
}

func (k *moveBook) empty() bool { return k.size() == 0 }

func (k *moveBook) full(limit int) bool { return k.size() >= limit }

func (k *moveBook) size() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.moves)
}

// movesPerStatement bounds one MoveCursors: 4 placeholders each, far below the 65,535
// of a statement.
const movesPerStatement = 1000

// writeMoves writes what the book holds, then projects it again: a projection that
// was wiped in between has been rebuilt from rows without these moves.
func (p *partition) writeMoves(ctx context.Context) error {
	moves := p.moves.take()
	for len(moves) > 0 {
		some := moves[:min(len(moves), movesPerStatement)]
		rows := make([]im.CursorMove, len(some))
		for i := range some {
			rows[i] = some[i].CursorMove
		}
		_, err := untilStore(ctx, p.r, "cursors", func(ctx context.Context) (struct{}, error) {
			return struct{}{}, p.r.deps.Archive.MoveCursors(ctx, rows)
		})
		if err != nil {
			p.moves.add(moves)
			return err
		}
		p.r.m.cursors.Add(float64(len(rows)))
		if err := p.r.step("moves"); err != nil {
			return &endedError{err}
		}
		again := newRaiser(len(some))
		again.moves(some)
		if err := p.r.project(ctx, again.projection()); err != nil {
			p.moves.add(moves)
			return err
		}
		p.tellAuthors(ctx, some)
		moves = moves[len(some):]
	}
	return nil
}
