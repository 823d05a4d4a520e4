package storage

import (
	"fmt"

	"github.com/curlew-im/curlew/logic/im"
)

// comparer notes what Redis and MySQL say differently about a user.
type comparer struct {
	user im.UserID
	held *held
	out  im.Comparison
}

func (c *comparer) add(conv im.ConversationID, field im.DriftField, redis, record string) {
	if len(c.out.Drift) < auditDrift {
		c.out.Drift = append(c.out.Drift, im.Drift{Conversation: conv, Field: field, Redis: redis, Record: record})
	}
}

func (c *comparer) differ(conv im.ConversationID, field im.DriftField, redis, record any) {
	if redis != record {
		c.add(conv, field, fmt.Sprint(redis), fmt.Sprint(record))
	}
}

// states compares what both sides say about each conversation. Nobody raises what has
// happened in a channel since its member left, and nobody asks.
func (c *comparer) states(rows []im.ConversationState) {
	known := make(map[im.ConversationID]bool, len(rows))
	for i := range rows {
		r := &rows[i]
		known[r.Conversation] = true
		h, ok := c.held.states[r.Conversation]
		if !ok {
			c.add(r.Conversation, im.DriftState, "none", fmt.Sprintf("last %d", r.LastSeq))
			continue
		}
		last, change := im.DriftLast, im.DriftChange
		uncounted, mention := im.DriftUncounted, im.DriftMention
		if c.held.laid[r.Conversation] {
			last, change, uncounted, mention = im.DriftEnd, im.DriftEnd, im.DriftEnd, im.DriftEnd
		}
		c.differ(r.Conversation, last, [2]uint64{uint64(h.Top()), uint64(h.LastID)}, [2]uint64{uint64(r.Top()), uint64(r.LastID)})
		c.differ(r.Conversation, im.DriftCursor, [2]im.Seq{h.Delivered, h.Read}, [2]im.Seq{r.Delivered, r.Read})
		c.differ(r.Conversation, im.DriftPeer, [2]im.Seq{h.PeerDelivered, h.PeerRead}, [2]im.Seq{r.PeerDelivered, r.PeerRead})
		c.differ(r.Conversation, im.DriftInterval, interval(&h), interval(r))
		c.differ(r.Conversation, im.DriftMerged, h.Merged, r.Merged)
		c.differ(r.Conversation, im.DriftFloor, h.Floor, r.Floor)
		c.differ(r.Conversation, im.DriftDeletions, h.Deletions, r.Deletions)
		c.differ(r.Conversation, im.DriftSettings, h.Settings, r.Settings)
		if r.In() {
			c.differ(r.Conversation, change, h.LastChange, r.LastChange)
			c.differ(r.Conversation, uncounted, h.LastUncounted, r.LastUncounted)
			c.differ(r.Conversation, mention, h.LastMention, r.LastMention)
		}
	}
	for conv, h := range c.held.states {
		if !known[conv] {
			c.add(conv, im.DriftState, fmt.Sprintf("last %d", h.LastSeq), "none")
		}
	}
}

// interval is of membership. In a one-to-one nobody raises where it began: at its first
// message.
func interval(s *im.ConversationState) [3]im.Seq {
	join := s.Join
	if !isChannel(s.Conversation) {
		join = max(join, 1)
	}
	return [3]im.Seq{join, s.Joined, s.Leave}
}

// indexes holds the sorted sets against the states beside them.
func (c *comparer) indexes() {
	h := c.held
	for conv, s := range h.states {
		if !h.laid[conv] { // the end laid over it is in no list
			c.differ(conv, im.DriftList, h.convs[conv], uint64(s.LastID))
		}
		if h.vers[conv] == 0 {
			c.add(conv, im.DriftVersion, "none", "one")
		}
		_, merged := h.merged[conv]
		c.differ(conv, im.DriftMerged, merged, h.laid[conv])
		if h.offline != nil && isChannel(conv) {
			_, listed := h.offline[conv]
			c.differ(conv, im.DriftOffline, listed, !h.laid[conv] && s.Top() > s.Settled())
		}
	}
	for field, set := range map[im.DriftField]map[im.ConversationID]uint64{
		im.DriftList: h.convs, im.DriftVersion: h.vers, im.DriftMerged: h.merged, im.DriftOffline: h.offline,
	} {
		for conv := range set {
			if _, ok := h.states[conv]; !ok {
				c.add(conv, field, "listed", "none")
			}
		}
	}
}
