package jobs

import (
	"context"
	"slices"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// missing is an accepted message that was not found.
type missing struct {
	partition int
	offset    int64
	key       im.SendKey
}

// ledger holds what the group has committed as done against MySQL: each distinct
// message is stored, or parked (contract 1). Each process looks at all partitions,
// whoever owns them, and at the newest records only where there are more than it may
// look at.
func (a *Auditor) ledger(ctx context.Context) error {
	if a.cfg.Records < 0 {
		return nil
	}
	positions, err := audit(ctx, a.deps.Log.Positions)
	if err != nil {
		return err
	}
	if len(a.seen) != len(positions) {
		a.seen = make([]int64, len(positions))
	}
	share := int64(max(a.cfg.Records/max(len(positions), 1), 1))
	for i, p := range positions {
		from := max(a.seen[i], p.Start, p.Committed-share)
		for from < p.Committed {
			records, err := audit(ctx, func(ctx context.Context) ([]queue.Record, error) {
				return a.deps.Log.Look(ctx, p.Partition, from, p.Committed)
			})
			if err != nil {
				return err
			}
			if len(records) == 0 {
				break // retention has overtaken this look
			}
			more, err := a.look(ctx, p.Partition, records)
			if err != nil {
				return err
			}
			a.lost = append(a.lost, more[:min(len(more), auditMissing-len(a.lost))]...)
			from = records[len(records)-1].Offset + 1
			a.seen[i] = from
		}
		a.seen[i] = max(a.seen[i], p.Committed)
	}
	if len(a.lost) == 0 {
		return nil
	}
	return a.confirm(ctx)
}

// look finds the messages of records, and returns those that are not there.
func (a *Auditor) look(ctx context.Context, partition int, records []queue.Record) (lost []missing, err error) {
	seen := make(map[im.SendKey]bool, len(records))
	var keys []im.SendKey
	for _, r := range records {
		t, err := queue.DecodeTask(r.Value)
		// What cannot be decoded is parked by its place. A notice about a group is stored
		// once, or not at all where another has overtaken it.
		if err != nil || t.Send == nil || t.Send.Membership != nil {
			continue
		}
		k := im.SendKey{Conversation: t.Conversation, Sender: t.Send.Sender.ID, ClientMsgID: t.Send.ClientMsgID}
		if seen[k] {
			continue
		}
		seen[k] = true
		keys = append(keys, k)
		lost = append(lost, missing{partition, r.Offset, k})
	}
	found, err := a.find(ctx, keys)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(lost, func(l missing) bool {
		ref, ok := found[l.key]
		switch {
		case ok && ref.Parked:
			a.m.checked.WithLabelValues("dead").Inc()
		case ok:
			a.m.checked.WithLabelValues("stored").Inc()
		}
		return ok
	}), nil
}

func (a *Auditor) find(ctx context.Context, keys []im.SendKey) (map[im.SendKey]im.StoredRef, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	return audit(ctx, func(ctx context.Context) (map[im.SendKey]im.StoredRef, error) {
		return a.deps.Stored.FindStored(ctx, keys)
	})
}

// confirm looks for what was not found once more: a dead letter that is being replayed
// is in neither table until the workers have come to it. While they have not, or a store
// is away, it is left for another round.
func (a *Auditor) confirm(ctx context.Context) error {
	if settled, err := a.settle(ctx); err != nil || !settled {
		return err
	}
	keys := make([]im.SendKey, len(a.lost))
	for i, l := range a.lost {
		keys[i] = l.key
	}
	found, err := a.find(ctx, keys)
	if err != nil {
		return err
	}
	told := make(map[im.SendKey]bool, len(keys)) // a repeat in another look is no other message
	for _, l := range a.lost {
		if told[l.key] {
			continue
		}
		told[l.key] = true
		if ref, ok := found[l.key]; ok {
			result := "stored"
			if ref.Parked {
				result = "dead"
			}
			a.m.checked.WithLabelValues(result).Inc()
			continue
		}
		a.m.checked.WithLabelValues("nowhere").Inc()
		a.m.missing.Inc()
		a.deps.Logger.Error("audit: an accepted message is neither stored nor dead", "partition", l.partition, "offset", l.offset,
			"conv", l.key.Conversation, "user", l.key.Sender, "client_msg_id", l.key.ClientMsgID)
	}
	a.lost = nil
	return nil
}
