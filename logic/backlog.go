package logic

import (
	"math/rand/v2"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// How long who is refused is asked to stay away: as long as the backlog is over its
// bound, within these.
const (
	backlogRetryMin = 2 * time.Second
	backlogRetryMax = 30 * time.Second
)

// room says whether the log may be given more of a conversation: what is stored must not
// fall behind what is accepted without end. It fails with an *im.OverloadError. Nobody
// knows a backlog while Kafka is away; then the log refuses by itself.
func (s *Service) room(c im.ConversationID) error { return s.roomFor(s.deps.Backlog.Backlog(c)) }

func (s *Service) roomFor(b im.Backlog) error {
	reason, after := "", time.Duration(0)
	switch over := b.Age - s.cfg.MaxBacklogAge; {
	case b.Stopped:
		reason, after = "stopped", backlogRetryMax
	case over > 0:
		reason, after = "age", over
	case b.Records > s.cfg.MaxBacklogRecords:
		reason = "records"
	default:
		return nil
	}
	s.metrics.overloaded.WithLabelValues(reason).Inc()
	after = min(max(after, backlogRetryMin), backlogRetryMax)
	// Who was refused together does not come back together.
	return &im.OverloadError{What: "backlog by " + reason, RetryAfter: after + rand.N(after/2)}
}

// roomForGroups is for a change of a group, whose channels only its transaction knows:
// where every partition is over its bound, theirs are too. What takes somebody out or
// silences them is never refused: its fence is in MySQL ([L12]), and its few notices wait.
func (s *Service) roomForGroups(kind string) error {
	switch kind {
	case "dissolve", "remove_member", "remove_from_channel", "remove_channel", "mute_member":
		return nil
	}
	return s.roomFor(s.deps.Backlog.Least())
}
