package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// storable says why a task can never be done. What logic accepts always can: this is
// for bugs, and for records that somebody else put into the topic.
func storable(t *im.Task) error {
	low, high, direct := t.Conversation.Direct()
	s, c, h := t.Send, t.Change, t.Hide
	switch {
	case direct && high == im.SystemUser:
		return fmt.Errorf("%w: nobody's conversation", im.ErrUnstorable)
	case !direct: // who is in it the table says
	case c != nil && c.Actor != low && c.Actor != high, h != nil && h.User != low && h.User != high:
		return fmt.Errorf("%w: who asks is not in the conversation", im.ErrUnstorable)
	case s != nil && s.Sender.ID != low && s.Sender.ID != high:
		return fmt.Errorf("%w: the sender is not in the conversation", im.ErrUnstorable)
	}
	switch {
	case c != nil && !c.Kind.Known():
		return fmt.Errorf("%w: unknown kind of change", im.ErrUnstorable)
	case c != nil && c.Kind == im.ChangeEdit && !isJSON(c.Content):
		return fmt.Errorf("%w: content is not JSON", im.ErrUnstorable)
	case s == nil:
	case !s.Type.Known():
		return fmt.Errorf("%w: unknown message type", im.ErrUnstorable)
	case !isJSON(s.Content):
		return fmt.Errorf("%w: content is not JSON", im.ErrUnstorable)
	case s.Membership == nil:
	case direct || s.Type != im.TypeNotice || s.Sender.ID != im.SystemUser:
		return fmt.Errorf("%w: a membership in what is no notice of a channel", im.ErrUnstorable)
	case len(s.Membership.Join)+len(s.Membership.Leave) > im.MaxMembersPerCall+1:
		return fmt.Errorf("%w: more members than one call may move", im.ErrUnstorable)
	}
	return nil
}

// isJSON is json.Valid and UTF-8: that lets bytes pass inside a string which would end the
// connection of everybody to whom they are pushed (RFC 6455, 8.1).
func isJSON(b []byte) bool { return utf8.Valid(b) && json.Valid(b) }

// disown makes poison of the records of channels that do not exist: a notice is told to
// the log only once its channel does.
func disown(items []*item, absent *absentError) {
	for _, it := range items {
		if it.poison == nil && absent.convs[it.task.Conversation] {
			it.poison = fmt.Errorf("%w: no such channel", im.ErrUnstorable)
		}
	}
}

// giveUp ends a record that failed too often. Where its message is in the table all the
// same, an effect failed and not the message: parked, it would be called rejected and
// be seen. Redis is doubted instead, and whoever missed the push pulls.
func (s *scribe) giveUp(ctx context.Context, it *item, attempts int, cause error) error {
	t := it.task.Send
	if it.poison != nil || t == nil {
		return s.park(ctx, it, attempts, cause)
	}
	key := im.SendKey{Conversation: it.task.Conversation, Sender: t.Sender.ID, ClientMsgID: t.ClientMsgID}
	ref, err := insist(ctx, s.r, "find_stored", func(ctx context.Context) (im.StoredRef, error) {
		found, err := s.r.deps.Archive.FindStored(ctx, []im.SendKey{key})
		return found[key], err
	})
	if err != nil {
		return err
	}
	if ref.Seq == 0 || ref.Hash != t.Hash {
		return s.park(ctx, it, attempts, cause)
	}
	if _, err := insist(ctx, s.r, "doubt", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.r.deps.Archive.NoteDoubt(ctx, "a stored message could not be projected or pushed")
	}); err != nil {
		return err
	}
	s.r.log.Error("message stored, but not told", "partition", s.p.src.Place().Partition, "offset", it.record.Offset,
		"conv", key.Conversation, "seq", ref.Seq, "err", cause)
	s.r.m.messages.WithLabelValues("stored").Inc()
	return nil
}

// park gives one record up ([J5]): it goes into the table dead with its reason, and
// its sender is told that the message will never appear.
func (s *scribe) park(ctx context.Context, it *item, attempts int, cause error) error {
	place := s.p.src.Place()
	d := im.DeadLetter{
		Topic: place.Topic, Partition: place.Partition, Offset: it.record.Offset, Attempts: attempts,
		Reason: reason(cause), Payload: it.record.Value, ParkedAt: s.r.deps.Now().UnixMilli(),
	}
	t := it.task.Send
	if t != nil {
		d.Key = im.SendKey{Conversation: it.task.Conversation, Sender: t.Sender.ID, ClientMsgID: t.ClientMsgID}
		d.Hash = t.Hash
	}
	// What is neither stored nor parked is lost.
	if _, err := insist(ctx, s.r, "park", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.r.deps.Archive.Park(ctx, d)
	}); err != nil {
		return err
	}
	s.r.log.Error("record given up", "topic", d.Topic, "partition", d.Partition, "offset", d.Offset,
		"conv", d.Key.Conversation, "user", d.Key.Sender, "client_msg_id", d.Key.ClientMsgID, "err", cause)
	if c := it.task.Change; c != nil && it.poison == nil {
		s.r.m.changes.WithLabelValues(string(c.Kind), "dead").Inc()
		if err := s.crash("park"); err != nil {
			return err
		}
		p := s.r.newPusher(ctx, []im.UserID{c.Actor})
		p.refused(it.task.Conversation, c, im.ErrUnstorable)
		p.publish(ctx)
		return nil
	}
	if t == nil {
		s.r.m.messages.WithLabelValues("dead_unreadable").Inc()
		return s.crash("park")
	}
	s.r.m.messages.WithLabelValues("dead").Inc()
	if err := s.crash("park"); err != nil {
		return err
	}
	p := s.r.newPusher(ctx, []im.UserID{t.Sender.ID})
	p.rejected(it.task.Conversation, t, im.ErrUnstorable)
	p.publish(ctx)
	return nil
}

// reason is what the table keeps of an error; the log has it in full.
func reason(cause error) string {
	var broken *queue.UndecodableError
	if errors.As(cause, &broken) || errors.Is(cause, im.ErrUnstorable) {
		return cause.Error()
	}
	return "failed repeatedly: " + cause.Error()
}
