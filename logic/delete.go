package logic

import (
	"context"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// DeleteMessages deletes messages for the user alone, from all of their devices; done is called
// exactly once, when the log has it. Again is as once.
func (s *Service) DeleteMessages(ctx context.Context, who im.Identity, req protocol.DeleteMessages, done func(error)) {
	if err := s.mayDelete(ctx, who.User, &req); err != nil {
		done(err)
		return
	}
	task := &im.HideTask{User: who.User, Seqs: req.Seqs}
	s.deps.Queue.Produce(im.Task{Conversation: req.ConversationID, Hide: task}, func(err error) {
		if err != nil {
			err = fmt.Errorf("enqueue deletion: %w", err)
		}
		done(err)
	})
}

func (s *Service) mayDelete(ctx context.Context, u im.UserID, req *protocol.DeleteMessages) error {
	if len(req.Seqs) == 0 || len(req.Seqs) > im.MaxHidden {
		return im.Invalid("seqs", "must be 1 to 100")
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	if err := s.limit.Take(ctx, u); err != nil {
		return err
	}
	state, err := s.state(ctx, u, req.ConversationID)
	if err != nil {
		return err
	}
	for _, seq := range req.Seqs {
		if seq < max(1, state.Join) || seq > state.Top() {
			return im.ErrNotFound
		}
	}
	return nil
}

// DeleteMessagesNow is DeleteMessages for HTTP.
func (s *Service) DeleteMessagesNow(ctx context.Context, who im.Identity, req protocol.DeleteMessages) error {
	_, err := awaitAccepted(ctx, time.Now(), func(done func(struct{}, error)) {
		s.DeleteMessages(ctx, who, req, func(err error) { done(struct{}{}, err) })
	})
	return err
}

// Deletions returns what the user has deleted for themselves after a number, by number.
func (s *Service) Deletions(ctx context.Context, who im.Identity, c im.ConversationID, after uint64, limit int) (protocol.Deletions, error) {
	limit, err := pageLimit(limit, maxPage)
	if err != nil {
		return protocol.Deletions{}, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	if _, err := s.members.MaySee(ctx, who.User, c); err != nil {
		return protocol.Deletions{}, err
	}
	items, more, err := s.deps.Records.Deletions(ctx, who.User, c, after, limit)
	if err != nil {
		return protocol.Deletions{}, fmt.Errorf("deletions: %w", storeError(err))
	}
	return protocol.Deletions{Items: append([]im.Hidden{}, items...), HasMore: more}, nil
}
