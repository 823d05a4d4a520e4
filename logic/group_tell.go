package logic

import (
	"context"
	"errors"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	// opsQuiet is for how long an operation is left to who has told the log of it last, and
	// how often what is left over is told again.
	opsQuiet = 5 * time.Second
	// opsPage bounds what is told again at once.
	opsPage = 500
)

// telling is the notices of one change of a group on their way to the table.
type telling struct {
	s     *Service
	start time.Time
	open  []openOp
	lost  chan struct{} // the log has not taken one
}

// openOp is a notice that is not known to be stored. Without a waiter, where too many
// wait already, notes is nil and the table alone says it.
type openOp struct {
	key     im.SendKey
	request string
	notes   <-chan note
}

// tellOps gives the log the notices of a change. What it does not take now it is given
// again by retell: the change holds ([L11]).
func (s *Service) tellOps(start time.Time, ops []im.GroupOp) *telling {
	t := &telling{s: s, start: start, open: make([]openOp, 0, len(ops)), lost: make(chan struct{}, 1)}
	for i := range ops {
		op := &ops[i]
		o := openOp{key: im.SendKey{Conversation: op.Conversation, Sender: im.SystemUser, ClientMsgID: op.ID.ClientMsgID()}}
		var from im.Origin
		if request, notes, err := s.waiters.enter(); err == nil {
			o.request, o.notes = request, notes
			from = im.Origin{Node: s.deps.Node, Request: request}
		}
		t.open = append(t.open, o)
		s.produceOp(op, from, func(err error) {
			if err != nil && !errors.Is(err, im.ErrUnknownOutcome) {
				select {
				case t.lost <- struct{}{}:
				default:
				}
			}
		})
	}
	return t
}

// produceOp gives the log one notice. Again is as once, by its client message ID.
func (s *Service) produceOp(op *im.GroupOp, from im.Origin, done func(error)) {
	content, err := protocol.EncodeJSON(op.Notice)
	if err != nil { // plain fields always can
		s.log.Error("notice cannot be encoded", "conv", op.Conversation, "err", err)
		done(err)
		return
	}
	membership := op.Membership
	s.deps.Queue.Produce(im.Task{Conversation: op.Conversation, Send: &im.SendTask{
		Sender:      systemProfile.Sender(),
		ClientMsgID: op.ID.ClientMsgID(),
		Type:        im.TypeNotice,
		Content:     content,
		Hash:        im.HashContent(im.TypeNotice, content),
		Uncounted:   im.UncountedForAll,
		AcceptedAt:  s.now().UnixMilli(),
		Origin:      from,
		Membership:  &membership,
	}}, done)
}

// wait says whether all notices are stored, at 4.5 s from the start at the latest. As
// for sends, a note may be lost: the table is asked at 1 s and 3 s.
func (t *telling) wait(ctx context.Context) bool {
	all := t.open
	defer func() {
		for _, o := range all {
			if o.notes != nil {
				t.s.waiters.leave(o.request)
			}
		}
	}()
	for _, look := range [...]time.Duration{firstLook, secondLook, answerBy} {
		if stop := t.until(ctx, look); stop || len(t.open) == 0 {
			break
		}
		if look != answerBy {
			t.look(ctx)
		}
	}
	return len(t.open) == 0
}

// until takes notes until look; stop says that it is no use to wait for more.
func (t *telling) until(ctx context.Context, look time.Duration) (stop bool) {
	timer := time.NewTimer(time.Until(t.start.Add(look)))
	defer timer.Stop()
	for len(t.open) > 0 {
		select {
		case n := <-t.open[0].notes:
			if n.err != nil && !errors.Is(n.err, im.ErrMsgIDConflict) { // a conflict: there is one under this ID
				t.s.log.Error("notice of a group rejected", "conv", t.open[0].key.Conversation, "err", n.err)
				return true
			}
			t.open = t.open[1:]
		case <-t.lost:
			return true
		case <-ctx.Done():
			return true
		case <-timer.C:
			return false
		}
	}
	return false
}

// look leaves open what is not in the table.
func (t *telling) look(ctx context.Context) {
	keys := make([]im.SendKey, len(t.open))
	for i, o := range t.open {
		keys[i] = o.key
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stored, err := t.s.deps.Records.FindStored(ctx, keys)
	if err != nil {
		return
	}
	var open []openOp
	for _, o := range t.open {
		if _, found := stored[o.key]; !found {
			open = append(open, o)
		}
	}
	t.open = open
}

// retell gives the log again what it has not been told, or has not stored, until ctx
// ends: Kafka was away, or this process ended in between. Every process does; each
// operation is one's at a time.
func (s *Service) retell(ctx context.Context) {
	tick := time.NewTicker(opsQuiet)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for s.retellPage(ctx) == opsPage && ctx.Err() == nil {
		}
	}
}

func (s *Service) retellPage(ctx context.Context) int {
	ctx, cancel := s.within(ctx)
	defer cancel()
	ops, err := s.deps.Groups.PendingOps(ctx, opsQuiet, opsPage)
	if err != nil {
		if !away(err) && ctx.Err() == nil {
			s.log.Error("pending notices of groups cannot be read", "err", err)
		}
		return 0
	}
	for i := range ops {
		if s.room(ops[i].Conversation) != nil {
			continue // it is in the log and waits: again would make the backlog longer
		}
		s.metrics.retold.Inc()
		s.produceOp(&ops[i], im.Origin{}, func(error) {}) // the next round tells it again
	}
	return len(ops)
}
