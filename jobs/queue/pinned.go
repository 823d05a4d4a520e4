package queue

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/segmentio/kafka-go"
)

// pinned lets a balancer share out the pinned partitions alone: with others among them
// one member may get all that have records ([Q6]).
type pinned struct {
	kafka.GroupBalancer
	partitions int
}

// AssignGroups implements kafka.GroupBalancer.
func (p pinned) AssignGroups(members []kafka.GroupMember, all []kafka.Partition) kafka.GroupMemberAssignments {
	kept := all[:0:0]
	for _, part := range all {
		if part.ID < p.partitions {
			kept = append(kept, part)
		}
	}
	return p.GroupBalancer.AssignGroups(members, kept)
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
