package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// Letters is the table dead: im.ErrStore while MySQL is away.
type Letters interface {
	// DeadLetters is a page, the oldest first.
	DeadLetters(ctx context.Context, q im.DeadQuery) (all []im.DeadLetter, more bool, err error)
	// DeadLetter is one; im.ErrNotFound.
	DeadLetter(ctx context.Context, id im.DeadID) (im.DeadLetter, error)
	// ClaimDead begins a replay of an open letter, or anew of one whose replay began over 30 s
	// ago: its message counts as parked no longer. im.ErrConflict in another state.
	ClaimDead(ctx context.Context, id im.DeadID) error
	// EndReplay ends that: replayed, or open.
	EndReplay(ctx context.Context, id im.DeadID, state im.DeadState) error
	// DiscardDead ends an open letter for good, or one whose replay began over 30 s ago.
	// im.ErrConflict in another state.
	DiscardDead(ctx context.Context, id im.DeadID) error
	// SameContent finds a sender's messages of one content, stored since a time in Unix ms.
	SameContent(ctx context.Context, c im.ConversationID, sender im.UserID, hash im.ContentHash, since int64) ([]im.StoredCopy, error)
}

// resentBefore is how long before a record was given up its sender may have said the same
// again: the client waits for the answer that it was rejected, its user does not.
const resentBefore = time.Hour

// DeadLetters is what an operator does about records that were given up.
type DeadLetters struct {
	table     Letters
	producers map[im.Lane]Producer
	topic     func(im.Lane) string
	log       *slog.Logger
	m         *notifyMetrics
}

// DeadLetters has the lanes that this process produces to.
func (r *Runner) DeadLetters(table Letters) *DeadLetters {
	return &DeadLetters{table: table, producers: r.deps.Producers, topic: r.deps.Queue.Topic, log: r.log, m: r.notices}
}

// List is a page of the letters of a lane, or of all; q.Topic is filled in.
func (d *DeadLetters) List(ctx context.Context, lane im.Lane, q im.DeadQuery) ([]im.DeadLetter, bool, error) {
	if lane != "" {
		q.Topic = d.topic(lane)
	}
	return d.table.DeadLetters(ctx, q)
}

// Letter is one, with its record; unreadable says why that is none.
func (d *DeadLetters) Letter(ctx context.Context, id im.DeadID) (l im.DeadLetter, t im.Task, unreadable string, err error) {
	if l, err = d.table.DeadLetter(ctx, id); err != nil {
		return l, t, "", err
	}
	if t, err = queue.DecodeTask(l.Payload); err != nil {
		return l, im.Task{}, err.Error(), nil
	}
	return l, t, "", nil
}

// Replay puts a letter's record back into the log. What is stored then is told to its
// sender like any message. Twice is as once: it is stored under its own client message
// ID. Without force it is an *im.ResentError where the sender has said the same since
// under another. im.ErrUnstorable where the record cannot be read, im.ErrConflict where
// the letter is no longer open.
func (d *DeadLetters) Replay(ctx context.Context, id im.DeadID, force bool) error {
	l, task, unreadable, err := d.Letter(ctx, id)
	if err != nil {
		return err
	}
	if unreadable != "" {
		return fmt.Errorf("replay %s: %w: %s", id, im.ErrUnstorable, unreadable)
	}
	lane := d.producers[task.Lane()]
	if lane == nil {
		return fmt.Errorf("replay %s: nothing produces to lane %s here: %w", id, task.Lane(), im.ErrNotFound)
	}
	if s := task.Send; s != nil && !force && (l.State == im.DeadOpen || l.State == im.DeadReplaying) {
		copies, err := d.table.SameContent(ctx, task.Conversation, s.Sender.ID, s.Hash, l.ParkedAt-resentBefore.Milliseconds())
		if err != nil {
			return err
		}
		copies = slices.DeleteFunc(copies, func(c im.StoredCopy) bool { return c.ClientMsgID == s.ClientMsgID })
		if len(copies) > 0 {
			return &im.ResentError{Copies: copies}
		}
	}
	if err := d.table.ClaimDead(ctx, id); err != nil {
		return err
	}
	answer := make(chan error, 1)
	lane.Produce(task, func(err error) { answer <- err })
	err = <-answer // within 5 s
	// The caller may have gone, but what happened is to be written down.
	note, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	switch {
	case err == nil:
		d.m.letters.WithLabelValues("replayed").Inc()
		d.log.Info("dead letter replayed", "by", "operator", "id", id, "lane", task.Lane(), "conv", task.Conversation)
		return d.table.EndReplay(note, id, im.DeadReplayed)
	case errors.Is(err, im.ErrUnknownOutcome):
		return err // the log may have it: it stays as it is, to be replayed again
	}
	return errors.Join(err, d.table.EndReplay(note, id, im.DeadOpen))
}

// Discard ends a letter for good: what was rejected stays so.
func (d *DeadLetters) Discard(ctx context.Context, id im.DeadID) error {
	if err := d.table.DiscardDead(ctx, id); err != nil {
		return err
	}
	d.m.letters.WithLabelValues("discarded").Inc()
	d.log.Info("dead letter discarded", "by", "operator", "id", id)
	return nil
}
