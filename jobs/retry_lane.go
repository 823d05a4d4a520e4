package jobs

import (
	"context"
	"fmt"

	"github.com/curlew-im/curlew/logic/im"
)

// notifiers are what the lane retry does with its records, the same for all strands.
type notifiers struct {
	pool *Pool
	with retry
}

func (p *Pool) newNotifiers() *notifiers {
	d := &p.deps
	topic := ""
	if d.Queue != nil {
		topic = d.Queue.Topic(im.LaneRetry)
	}
	return &notifiers{p, retry{
		notifier: d.Notifier, devices: d.Devices, badges: d.Badges, sessions: d.Sessions,
		lane: d.Producers[im.LaneRetry], dead: d.Producers[im.LaneDead], topic: topic,
		settings: func() im.PoolSettings { return *p.set() }, now: d.Now, log: p.log, m: p.notices,
	}}
}

func (w *notifiers) newWorker(p *partition) worker { return &notifierOf{w, p} }

func (w *notifiers) attend(context.Context, *partition) {}

func (w *notifiers) accepts(t *im.Task) error { return belongs(t, im.LaneRetry) }

// belongs says why a task is not one of a lane.
func belongs(t *im.Task, lane im.Lane) error {
	if of := t.Lane(); of != lane {
		return fmt.Errorf("%w: a task of lane %s", im.ErrUnstorable, of)
	}
	return nil
}

// notifierOf is the worker of one strand.
type notifierOf struct {
	*notifiers
	p *partition
}

func (w *notifierOf) handle(ctx context.Context, items []*item) error {
	batch := make([]*noticed, 0, len(items))
	for _, it := range items {
		if it.poison != nil {
			if err := w.p.bury(ctx, it, it.poison); err != nil {
				return err
			}
			continue
		}
		batch = append(batch, &noticed{record: place{w.p.src.Place().Partition, it.record.Offset}, task: it.task})
	}
	return w.with.tell(ctx, batch)
}

// undertakers are what the lane dead does with its records: they go into the table.
type undertakers Pool

func (w *undertakers) newWorker(p *partition) worker { return undertaker{p} }

func (w *undertakers) attend(context.Context, *partition) {}

func (w *undertakers) accepts(t *im.Task) error { return belongs(t, im.LaneDead) }

type undertaker struct{ p *partition }

func (u undertaker) handle(ctx context.Context, items []*item) error {
	for _, it := range items {
		if it.poison != nil {
			if err := u.p.bury(ctx, it, it.poison); err != nil {
				return err
			}
			continue
		}
		if err := u.p.r.enter(ctx, *it.task.Dead); err != nil {
			return err
		}
		if err := u.p.r.step("park"); err != nil {
			return &endedError{err}
		}
	}
	return ctx.Err()
}

// bury gives up a record of a lane other than realtime: nobody waits for its end.
func (p *partition) bury(ctx context.Context, it *item, cause error) error {
	at := p.src.Place()
	p.r.log.Error("record given up", "topic", at.Topic, "partition", at.Partition, "offset", it.record.Offset, "err", cause)
	return p.r.enter(ctx, im.DeadLetter{
		Topic: at.Topic, Partition: at.Partition, Offset: it.record.Offset, Attempts: 1,
		Reason: reason(cause), Payload: it.record.Value, ParkedAt: p.r.deps.Now().UnixMilli(),
	})
}

// enter puts a letter into the table, once. What is neither done nor there is lost.
func (p *Pool) enter(ctx context.Context, d im.DeadLetter) error {
	_, err := insist(ctx, p, "park", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.deps.Archive.Park(ctx, d)
	})
	if err == nil {
		p.notices.letters.WithLabelValues("parked").Inc()
	}
	return err
}
