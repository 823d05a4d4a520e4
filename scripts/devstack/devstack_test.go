package devstack

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

func TestStack_TopicSurvivesRestartAndFolderIsExclusive(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	s, err := Start(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Start(dir, log); !errors.Is(err, ErrInUse) {
		t.Fatalf("second start: %v, want ErrInUse", err)
	}
	client := &kafka.Client{Addr: kafka.TCP(s.Kafka.ListenAddrs()...), Timeout: 5 * time.Second}
	if _, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: "t", NumPartitions: 3, ReplicationFactor: 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Start(dir, log); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client = &kafka.Client{Addr: kafka.TCP(s.Kafka.ListenAddrs()...), Timeout: 5 * time.Second}
	meta, err := client.Metadata(t.Context(), &kafka.MetadataRequest{Topics: []string{"t"}})
	if err != nil || len(meta.Topics) != 1 || len(meta.Topics[0].Partitions) != 3 {
		t.Fatalf("metadata after restart: %+v, %v", meta, err)
	}
}

func TestStack_RedisKeysExpireByTheWallClock(t *testing.T) {
	s, err := Start(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Redis.Set("k", "v")
	s.Redis.SetTTL("k", 150*time.Millisecond)
	deadline := time.Now().Add(10 * time.Second)
	for s.Redis.Exists("k") {
		if time.Now().After(deadline) {
			t.Fatal("the key never expired")
		}
	}
}
