package logic

import (
	"fmt"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// Config is what an operator may turn. A zero field is the default.
type Config struct {
	// Heartbeat is how often a client pings (default 25 s). A lost push that nothing
	// follows is found after one of these.
	Heartbeat time.Duration
	// DevicesPerUser bounds the devices of one user that are connected at the same time
	// (default 10; negative: no bound).
	DevicesPerUser int
	// DevicePolicy says which devices of one user may be connected at the same time: all
	// (default), one_per_platform or one. The newer wins; the older is told and closed
	// with 4409. Its login stands: it may connect again, and then is the newer.
	DevicePolicy im.DevicePolicy
	// SendPerSecond and SendBurst bound what one user sends, over all nodes and
	// protocols (default 20/s, burst 40; a negative rate: no bound).
	SendPerSecond int
	SendBurst     int
	// MembershipTTL is how old a copy of a membership or block may be (default and at
	// most 2 s, contract 9), and MembershipStale how old while MySQL is away (default
	// and at most 60 s).
	MembershipTTL   time.Duration
	MembershipStale time.Duration
	// Copies bounds the memberships, senders and send limits kept in memory, each
	// (default 100,000, some 10 MB each when full). The least recently used goes.
	Copies int
	// Waiters bounds the requests with ?wait=stored in flight (default 10,000); more
	// are refused as overloaded.
	Waiters int
	// MessagePolicy is who may send messages to whom: everyone (default) or contacts. A
	// user may set the stricter for themselves. Backends and the system always may.
	MessagePolicy im.MessagePolicy
	// GroupsPerMinute bounds the groups and channels that one user makes, of which all of
	// their members keep a row for ever, GroupJoinsPerMinute the groups they ask to join,
	// and GroupChangesPerMinute what else they change of groups (defaults 10, 20 and 120;
	// negative: no bound). Each is a transaction under a group's lock, and a notice to
	// everyone in it.
	GroupsPerMinute       int
	GroupJoinsPerMinute   int
	GroupChangesPerMinute int
	// RecallWithin and EditWithin are how long after it was stored a message may be
	// recalled or edited by its sender (defaults 2 min and 15 min).
	RecallWithin time.Duration
	EditWithin   time.Duration
	// MaxScheduled bounds the scheduled messages of one user that are pending (default
	// 1,000; what a backend schedules for the user counts, and is not refused).
	MaxScheduled int
	// MaxBacklogAge is how long the oldest accepted record of a conversation's partition
	// may have waited to be stored (default 60 s: a client that waits longer for a tick
	// thinks it lost; recovery takes no longer than it took to fall behind by that), and
	// MaxBacklogRecords how many may wait in it (default 200,000: some 100 MB of log and
	// half a minute of one partition's work). Beyond either, what would be added is refused
	// with overloaded and a time to come back.
	MaxBacklogAge     time.Duration
	MaxBacklogRecords int64
	// MaxAttachmentBytes is the largest file that a message may point to (default 100
	// MiB): what clients say of it, since it is elsewhere.
	MaxAttachmentBytes int64
	// StoreTimeout bounds what one request spends on the stores before the log, or on
	// an answer (default 1.5 s, at most 1.9 s; with the 3 s of the log it stays under 5).
	StoreTimeout time.Duration
	// MaxMessageBytes is told to clients as the largest socket message (default 64 KiB);
	// the connector enforces its own.
	MaxMessageBytes int
}

const (
	defaultPage = 50
	maxPage     = 100 // items of any page (RELIABILITY.md, 4)
)

// WithDefaults fills the zero fields.
func (c Config) WithDefaults() Config {
	or(&c.Heartbeat, 25*time.Second)
	or(&c.DevicesPerUser, 10)
	or(&c.DevicePolicy, im.DevicesAll)
	or(&c.SendPerSecond, 20)
	or(&c.SendBurst, 40)
	or(&c.MembershipTTL, 2*time.Second)
	or(&c.MembershipStale, 60*time.Second)
	or(&c.Copies, 100_000)
	or(&c.Waiters, 10_000)
	or(&c.MessagePolicy, im.MessagesFromEveryone)
	or(&c.GroupsPerMinute, 10)
	or(&c.GroupJoinsPerMinute, 20)
	or(&c.GroupChangesPerMinute, 120)
	or(&c.RecallWithin, 2*time.Minute)
	or(&c.EditWithin, 15*time.Minute)
	or(&c.MaxScheduled, 1000)
	or(&c.MaxBacklogAge, 60*time.Second)
	or(&c.MaxBacklogRecords, 200_000)
	or(&c.MaxAttachmentBytes, 100<<20)
	or(&c.StoreTimeout, 1500*time.Millisecond)
	or(&c.MaxMessageBytes, 64<<10)
	return c
}

func or[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate names the first field that cannot be.
func (c Config) Validate() error {
	c = c.WithDefaults()
	switch {
	case c.Heartbeat < time.Second || c.Heartbeat > 30*time.Second:
		return fmt.Errorf("logic.heartbeat: %s is not within 1s and 30s", c.Heartbeat)
	case c.DevicePolicy.Validate() != nil:
		return fmt.Errorf("logic.device_policy: %q is none of all, one_per_platform, one", c.DevicePolicy)
	case c.SendBurst < 1:
		return fmt.Errorf("logic.send_burst: %d is below 1", c.SendBurst)
	case c.MembershipTTL < 0 || c.MembershipTTL > 2*time.Second:
		return fmt.Errorf("logic.membership_ttl: %s is not within 0 and 2s", c.MembershipTTL)
	case c.MembershipStale < c.MembershipTTL || c.MembershipStale > time.Minute:
		return fmt.Errorf("logic.membership_stale: %s is not within membership_ttl and 60s", c.MembershipStale)
	case c.Copies < 1000:
		return fmt.Errorf("logic.copies: %d is below 1000", c.Copies)
	case c.MaxBacklogAge < 5*time.Second:
		return fmt.Errorf("logic.max_backlog_age: %s is below 5s, and it is looked at every 2s", c.MaxBacklogAge)
	case c.MaxBacklogRecords < 1000:
		return fmt.Errorf("logic.max_backlog_records: %d is below 1000", c.MaxBacklogRecords)
	case c.Waiters < 1:
		return fmt.Errorf("logic.waiters: %d is below 1", c.Waiters)
	case c.MessagePolicy.Validate() != nil:
		return fmt.Errorf("logic.message_policy: %q is neither everyone nor contacts", c.MessagePolicy)
	case c.RecallWithin < 0:
		return fmt.Errorf("logic.recall_within: %s is negative", c.RecallWithin)
	case c.EditWithin < 0:
		return fmt.Errorf("logic.edit_within: %s is negative", c.EditWithin)
	case c.MaxScheduled < 1:
		return fmt.Errorf("logic.max_scheduled: %d is below 1", c.MaxScheduled)
	case c.MaxAttachmentBytes < 1:
		return fmt.Errorf("logic.max_attachment_bytes: %d is below 1", c.MaxAttachmentBytes)
	case c.StoreTimeout < 50*time.Millisecond || c.StoreTimeout > 1900*time.Millisecond:
		return fmt.Errorf("logic.store_timeout: %s is not within 50ms and 1.9s", c.StoreTimeout)
	case c.MaxMessageBytes < im.MaxContentBytes:
		return fmt.Errorf("logic.max_message_bytes: %d is below %d", c.MaxMessageBytes, im.MaxContentBytes)
	}
	return nil
}
