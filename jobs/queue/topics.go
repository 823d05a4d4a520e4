package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"github.com/curlew-im/curlew/logic/im"
)

// segmentBytes is the size of a log segment. Retention removes whole segments, and
// 8 partitions of the usual 100 MiB to 1 GiB hold far more than they must.
const segmentBytes = 16 << 20

// Cluster is the one connection pool to Kafka that a process has; producers and
// consumers share it.
type Cluster struct {
	cfg       Config
	log       *slog.Logger
	m         *metrics
	transport *kafka.Transport
	client    *kafka.Client
	written   writes // to any connection of transport
	stops     stops
	miscount  atomic.Pointer[string] // what Watch has found
}

// NewCluster prepares to talk to Kafka; nothing is sent yet. The error names a bad
// field of cfg.
func NewCluster(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	c := &Cluster{cfg: cfg, log: log, m: newMetrics(reg)}
	c.transport = c.newTransport()
	c.transport.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &countedConn{Conn: conn, writes: &c.written}, nil
	}
	c.client = &kafka.Client{Addr: kafka.TCP(cfg.Brokers...), Transport: c.transport}
	return c, nil
}

// newTransport refreshes its picture of the cluster every second on average: after
// a leader has moved, requests fail until then, and the library offers no other way.
func (c *Cluster) newTransport() *kafka.Transport {
	return &kafka.Transport{
		ClientID:       "curlew",
		DialTimeout:    time.Second,
		IdleTimeout:    30 * time.Second,
		MetadataTTL:    2 * time.Second,
		MetadataTopics: c.topics(),
	}
}

// Close drops the pooled connections. Producers and consumers have ended before.
func (c *Cluster) Close() { c.transport.CloseIdleConnections() }

// Partitions is the pinned partition count.
func (c *Cluster) Partitions() int { return c.cfg.Partitions }

// RebalanceTimeout is how long a rebalance waits for what was taken to be finished.
func (c *Cluster) RebalanceTimeout() time.Duration { return c.cfg.RebalanceTimeout }

// Topic is a lane's topic.
func (c *Cluster) Topic(lane im.Lane) string { return c.cfg.Prefix + string(lane) }

func (c *Cluster) lanes() []im.Lane {
	return []im.Lane{im.LaneRealtime, im.LaneDelay, im.LaneRetry, im.LaneDead}
}

func (c *Cluster) topics() []string {
	lanes := c.lanes()
	names := make([]string, len(lanes))
	for i, l := range lanes {
		names[i] = c.Topic(l)
	}
	return names
}

// Prepare checks that every topic is there with the pinned partition count, and
// creates missing ones where Config.CreateTopics says so. Call it before anything is
// produced or consumed.
func (c *Cluster) Prepare(ctx context.Context) error {
	if c.cfg.CreateTopics {
		return c.Create(ctx)
	}
	return c.Check(ctx)
}

// Away says that an error is a broker that did not answer, or cannot yet, rather than
// what it answered.
func Away(err error) bool {
	var code kafka.Error // which is a net.Error as well
	if errors.As(err, &code) {
		return code == kafka.RequestTimedOut || code == kafka.BrokerNotAvailable || code == kafka.NotController
	}
	var lost net.Error
	return errors.As(err, &lost) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// Create makes the topics that are missing, then checks all: `curlew migrate` calls it.
func (c *Cluster) Create(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	configs := []kafka.ConfigEntry{
		{ConfigName: "retention.ms", ConfigValue: strconv.FormatInt(c.cfg.Retention.Milliseconds(), 10)},
		{ConfigName: "retention.bytes", ConfigValue: "-1"},
		{ConfigName: "segment.bytes", ConfigValue: strconv.Itoa(segmentBytes)},
		{ConfigName: "cleanup.policy", ConfigValue: "delete"},
	}
	if c.cfg.Replication >= 3 {
		configs = append(configs, kafka.ConfigEntry{ConfigName: "min.insync.replicas", ConfigValue: "2"})
	}
	req := &kafka.CreateTopicsRequest{}
	for _, name := range c.topics() {
		req.Topics = append(req.Topics, kafka.TopicConfig{
			Topic: name, NumPartitions: c.cfg.Partitions, ReplicationFactor: c.cfg.Replication, ConfigEntries: configs,
		})
	}
	res, err := c.client.CreateTopics(ctx, req)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for name, err := range res.Errors {
		if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", name, err)
		}
	}
	// What was just created is known to every broker a little later.
	for {
		err := c.Check(ctx)
		if !errors.Is(err, kafka.UnknownTopicOrPartition) && !errors.Is(err, kafka.LeaderNotAvailable) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// Check fails where a topic is missing or has another partition count than pinned.
func (c *Cluster) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	// A transport of its own: the shared one answers from what it knew before.
	fresh := c.newTransport()
	defer fresh.CloseIdleConnections()
	client := &kafka.Client{Addr: c.client.Addr, Transport: fresh}
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: c.topics()})
	if err != nil {
		return fmt.Errorf("read topics from %v: %w", c.cfg.Brokers, err)
	}
	for _, t := range meta.Topics {
		if t.Error != nil {
			return fmt.Errorf("topic %s: %w (create it with `curlew migrate`, or set queue.create_topics)", t.Name, t.Error)
		}
		if len(t.Partitions) != c.cfg.Partitions {
			return fmt.Errorf("topic %s has %d partitions, queue.partitions says %d: the count decides where a conversation is and must not change",
				t.Name, len(t.Partitions), c.cfg.Partitions)
		}
	}
	return nil
}

// Ping says whether a broker answers.
func (c *Cluster) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := c.client.ApiVersions(ctx, &kafka.ApiVersionsRequest{}); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	return nil
}
