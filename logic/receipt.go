package logic

import (
	"context"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Receipts moves the user's cursors in c forward, for HTTP: it returns once the log
// has the move, with where they then are. im.ErrQueue and im.ErrUnknownOutcome mean:
// say it again, it is harmless.
func (s *Service) Receipts(ctx context.Context, who im.Identity, c im.ConversationID, r protocol.Receipts) (protocol.Receipts, error) {
	return awaitAccepted(ctx, time.Now(), func(done func(protocol.Receipts, error)) { s.moveCursors(ctx, who, c, r, done) })
}

// moveCursors checks a receipt and gives it to the log; done is called exactly once.
// A move beyond the last message is cut by the strand, which alone knows where that is;
// done hears the cut as far as the projection knows it.
func (s *Service) moveCursors(ctx context.Context, who im.Identity, c im.ConversationID, r protocol.Receipts, done func(protocol.Receipts, error)) {
	if r.DeliveredSeq == 0 && r.ReadSeq == 0 {
		done(protocol.Receipts{}, im.Invalid("seq", "must be at least 1"))
		return
	}
	r.DeliveredSeq = max(r.DeliveredSeq, r.ReadSeq)
	state, err := s.state(ctx, who.User, c)
	if err != nil {
		done(protocol.Receipts{}, err)
		return
	}
	if !state.In() { // up to the last that they see, which the log could not tell
		r.DeliveredSeq, r.ReadSeq = min(r.DeliveredSeq, state.Leave), min(r.ReadSeq, state.Leave)
	}
	if r.ReadSeq > 0 && state.MarkedUnread() {
		if err := s.unmark(ctx, who, c); err != nil {
			done(protocol.Receipts{}, err)
			return
		}
	}
	at := protocol.Receipts{
		DeliveredSeq: max(state.Delivered, min(r.DeliveredSeq, state.Top())),
		ReadSeq:      max(state.Read, min(r.ReadSeq, state.Top())),
	}
	if r.DeliveredSeq <= state.Delivered && r.ReadSeq <= state.Read { // said before
		done(at, nil)
		return
	}
	if err := s.room(c); err != nil { // it is said again, and nothing is lost by saying it later
		done(protocol.Receipts{}, err)
		return
	}
	task := &im.ReceiptTask{User: who.User, Device: who.Device, Delivered: r.DeliveredSeq, Read: r.ReadSeq}
	s.deps.Queue.Produce(im.Task{Conversation: c, Receipt: task}, func(err error) {
		if err != nil {
			done(protocol.Receipts{}, fmt.Errorf("enqueue receipt: %w", err))
			return
		}
		done(at, nil)
	})
}

// state is the user's view of one conversation of theirs; im.ErrNotFound where it is
// not, or nothing was said in it yet.
func (s *Service) state(ctx context.Context, u im.UserID, c im.ConversationID) (im.ConversationState, error) {
	return s.stateBy(ctx, u, c, s.deps.Index.State)
}

// stateBy is state as one of the index's questions answers it.
func (s *Service) stateBy(ctx context.Context, u im.UserID, c im.ConversationID,
	ask func(context.Context, im.UserID, im.ConversationID) (im.ConversationState, error)) (im.ConversationState, error) {
	_, channel := c.Channel()
	if _, mine := c.Peer(u); !mine && !channel {
		return im.ConversationState{}, im.ErrNotFound
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	state, err := ask(ctx, u, c)
	if err != nil {
		return state, fmt.Errorf("state of %s: %w", c, storeError(err))
	}
	return state, nil
}
