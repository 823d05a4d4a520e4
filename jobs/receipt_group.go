package jobs

import (
	"context"
	"errors"
	"slices"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// maxAuthors is how far back senders are told that a member of a channel has come:
// those of the newest 512 messages. Who said something earlier may ask.
const maxAuthors = 512

// authors are the senders of the last messages of a channel, up to its end.
type authors struct {
	known bool
	first im.Seq
	users []im.UserID
}

// add notes the sender of a new message.
func (a *authors) add(seq im.Seq, u im.UserID) {
	if seq == 1 {
		a.known, a.first = true, 1
	}
	if !a.known {
		return
	}
	if len(a.users) == 2*maxAuthors {
		a.users = append(a.users[:0], a.users[maxAuthors:]...)
		a.first += maxAuthors
	}
	a.users = append(a.users, u)
}

// within adds to who the senders of the messages above after, up to upTo.
func (a *authors) within(who []im.UserID, after, upTo im.Seq, but im.UserID) []im.UserID {
	end := a.first + im.Seq(len(a.users)) // of the next
	from := max(after+1, a.first)
	if end > maxAuthors {
		from = max(from, end-maxAuthors)
	}
	for seq := from; seq <= upTo && seq < end; seq++ {
		u := a.users[seq-a.first]
		if u == im.SystemUser || u == but {
			continue
		}
		if i, there := slices.BinarySearch(who, u); !there {
			who = slices.Insert(who, i, u)
		}
	}
	return who
}

// topInRoom is topOf for a channel. Who is not in it may have left since their receipt
// was accepted, which holds up to there: the table says.
func (s *scribe) topInRoom(ctx context.Context, conv im.ConversationID, u im.UserID, last im.Seq) (im.Seq, error) {
	// Of a merged channel not all who have left are known, and each owner of the log must
	// come to the same.
	if r := s.rosterOf(conv); r.merged || r.sees(u, last) {
		return last, nil
	}
	row, err := untilStore(ctx, s.r, "member", func(ctx context.Context) (im.Member, error) {
		return s.r.deps.Archive.Member(ctx, conv, u)
	})
	if errors.Is(err, im.ErrNotFound) {
		return 0, nil
	}
	if !row.In() {
		last = min(last, row.Leave)
	}
	return last, err
}

// toTell is who has said what m, as it now is, has come past since known. Nobody where
// the channel is merged at read.
func (s *scribe) toTell(ctx context.Context, m *move, known im.CursorMove) []im.UserID {
	if !isChannel(m.Conversation) {
		return nil
	}
	ch, _ := s.channels.Get(m.Conversation)
	if ch.roster.merged {
		return nil
	}
	if !ch.authors.known {
		e, _ := s.ends.Get(m.Conversation)
		first := im.Seq(1)
		if e.last.Seq > maxAuthors {
			first = e.last.Seq - maxAuthors + 1
		}
		users, err := callStore(ctx, s.r, "authors", func(ctx context.Context) ([]im.UserID, error) {
			return s.r.deps.Archive.Authors(ctx, m.Conversation, first, e.last.Seq)
		})
		if err != nil { // best effort, as every push
			s.r.m.pushLost.WithLabelValues("authors").Inc()
			return m.authors
		}
		s.held -= ch.cost()
		ch.authors = authors{known: true, first: first, users: users}
		s.held += ch.cost()
	}
	who := slices.Clone(m.authors) // the book has the old one
	who = ch.authors.within(who, known.Delivered, m.Delivered, m.User)
	return ch.authors.within(who, known.Read, m.Read, m.User)
}

// union is both, sorted as both are.
func union(a, b []im.UserID) []im.UserID {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	both := slices.Concat(a, b)
	slices.Sort(both)
	return slices.Compact(both)
}

// tellAuthors tells senders in channels how far members have come, once for however
// many receipts a second brought. It goes by their room, so that who has left since they
// spoke is told nothing.
func (p *partition) tellAuthors(ctx context.Context, moves []move) {
	var users []im.UserID
	for i := range moves {
		users = append(users, moves[i].authors...)
	}
	if len(users) == 0 {
		return
	}
	slices.Sort(users)
	to := p.r.newPusher(ctx, slices.Compact(users))
	for i := range moves {
		m := &moves[i]
		var frame []byte
		for _, u := range m.authors {
			if len(to.sessions[u]) == 0 {
				continue
			}
			if frame == nil {
				frame = to.encode(protocol.PushReceipt, protocol.CursorMoved{
					ConversationID: m.Conversation, UserID: m.User, DeliveredSeq: m.Delivered, ReadSeq: m.Read,
				})
			}
			to.users(protocol.PushReceipt, u, protocol.Delivery{Room: m.Conversation, Frame: frame})
		}
		to.bound(ctx)
	}
	to.publish(ctx)
}
