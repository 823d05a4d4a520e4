package queue

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/curlew-im/curlew/logic/im"
)

// shares is the range balancer over the pinned partitions alone: with others among them
// one member may get all that have records ([Q6]). Each lane begins with another member:
// where partitions do not divide evenly, the one with fewer would else be the same process
// in every lane, since a member's ID begins with its process (8 on 3, in three lanes:
// 6, 9, 9; so 8, 8, 8).
type shares struct {
	partitions int
	first      int // of the members, by ID, in this lane
}

// turns are the lanes in the order in which they begin with the next member; retry is the
// last, as not every installation reads it.
var turns = []im.Lane{im.LaneRealtime, im.LaneDelay, im.LaneDead, im.LaneRetry}

// ProtocolName implements kafka.GroupBalancer. It is the library's own name: members of
// earlier versions, and of other partition counts, agree on it.
func (shares) ProtocolName() string { return kafka.RangeGroupBalancer{}.ProtocolName() }

// UserData implements kafka.GroupBalancer.
func (shares) UserData() ([]byte, error) { return nil, nil }

// AssignGroups implements kafka.GroupBalancer: each member gets as many neighbouring
// partitions as any other, or one more.
func (s shares) AssignGroups(members []kafka.GroupMember, all []kafka.Partition) kafka.GroupMemberAssignments {
	members = slices.SortedFunc(slices.Values(members), func(a, b kafka.GroupMember) int { return strings.Compare(a.ID, b.ID) })
	found := make(map[string][]int)
	for _, p := range all {
		if p.ID < s.partitions {
			found[p.Topic] = append(found[p.Topic], p.ID)
		}
	}
	given := make(kafka.GroupMemberAssignments, len(members))
	for i, n := 0, len(members); i < n; i++ {
		m := members[(i+s.first)%n]
		given[m.ID] = make(map[string][]int)
		for topic, parts := range found {
			slices.Sort(parts)
			given[m.ID][topic] = parts[i*len(parts)/n : (i+1)*len(parts)/n]
		}
	}
	return given
}

// watchEvery is how often the topics' partitions are counted, from what the transport
// knows of the cluster anyway.
const watchEvery = 5 * time.Second

// Watch alarms while a topic has another partition count than pinned, until ctx ends.
// Check has refused to start so; this is of what somebody does to a live topic.
func (c *Cluster) Watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := c.count(ctx); err != nil && ctx.Err() == nil {
			c.m.errors.WithLabelValues("all", "count").Inc()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *Cluster) count(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	meta, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: c.topics()})
	if err != nil {
		return err
	}
	found := ""
	for _, t := range meta.Topics {
		if t.Error != nil {
			continue
		}
		lane := t.Name[len(c.cfg.Prefix):]
		c.m.unpinned.WithLabelValues(lane).Set(float64(len(t.Partitions) - c.cfg.Partitions))
		if len(t.Partitions) != c.cfg.Partitions {
			found = fmt.Sprintf("%s has %d partitions, not %d", t.Name, len(t.Partitions), c.cfg.Partitions)
		}
	}
	switch was := c.miscount.Load(); {
	case found == "":
		c.miscount.Store(nil)
	case was == nil || *was != found:
		c.log.Error("partitions were changed on a live topic: nothing goes to others than the pinned ones", "found", found)
		c.miscount.Store(&found)
	}
	return nil
}

// clientID names this process to the broker, and to who asks it for a group's members.
func clientID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("curlew-%s-%d", host, os.Getpid())
}
