package devtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// Kafka is a broker that a test may break, where it is the test's own: always where it
// is embedded, with OwnKafka where it is real.
type Kafka interface {
	Stop()  // as SIGKILL; what it has acked stays
	Start() // on the same address
	Pause() // connections stay, nothing is answered
	Resume()
}

// fake is a kfake that keeps its data over a restart.
type fake struct {
	gate
	t       testing.TB
	dir     string
	addr    string
	cluster *kfake.Cluster
}

func (s *Stack) startKfake() {
	s.t.Helper()
	k := &fake{t: s.t, dir: s.t.TempDir(), addr: ports.Free(s.t)}
	k.Start()
	s.t.Cleanup(k.Stop)
	s.Kafka = k
	s.settings["queue.brokers"] = k.addr
}

func (k *fake) Start() {
	k.t.Helper()
	var err error
	k.cluster, err = kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.DataDir(k.dir),
		kfake.GroupMinSessionTimeout(time.Second),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			l, err := net.Listen(network, k.addr)
			return gated{l, &k.gate}, err
		}),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	)
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *fake) Stop() {
	k.Resume()
	if k.cluster != nil {
		k.cluster.Close()
		k.cluster = nil
	}
}

// shared is a broker, or a cluster of them, that others use too.
type shared struct{ t testing.TB }

func (k shared) Stop()   { k.not() }
func (k shared) Start()  { k.not() }
func (k shared) Pause()  { k.not() }
func (k shared) Resume() { k.not() }

func (k shared) not() {
	k.t.Helper()
	k.t.Fatal("this broker is shared: ask for OwnKafka")
}

func (s *Stack) startKafka(own bool) {
	s.t.Helper()
	addr := os.Getenv(kafkaEnv)
	s.Kafka = shared{s.t}
	if own {
		private.take(s.t)
		s.Kafka, addr = ownKafka{s.t}, private.addr
	}
	s.settings["queue.brokers"] = addr
	if own { // it goes as a whole
		return
	}
	if strings.Contains(addr, ",") {
		s.settings["queue.replication"] = "3"
	}
	s.t.Cleanup(func() {
		transport, prefix := &kafka.Transport{}, s.settings["queue.prefix"]
		defer transport.CloseIdleConnections()
		client := &kafka.Client{Addr: kafka.TCP(strings.Split(addr, ",")...), Timeout: 10 * time.Second, Transport: transport}
		meta, err := client.Metadata(context.Background(), &kafka.MetadataRequest{})
		if err != nil {
			s.t.Error(err)
			return
		}
		var mine []string
		for _, topic := range meta.Topics {
			if strings.HasPrefix(topic.Name, prefix) {
				mine = append(mine, topic.Name)
			}
		}
		if _, err := client.DeleteTopics(context.Background(), &kafka.DeleteTopicsRequest{Topics: mine}); err != nil {
			s.t.Error(err)
		}
	})
}

// secondKafka is a broker of this test binary's own, started when first asked for.
type secondKafka struct {
	used sync.Mutex // held by the test that has it
	once sync.Once
	err  error
	dir  string
	addr string
	env  []string
	end  io.WriteCloser // when it is closed, the broker dies
	gone *exec.Cmd
}

var private secondKafka

// take waits for the broker's turn and gives it to the test.
func (k *secondKafka) take(t testing.TB) {
	t.Helper()
	k.used.Lock()
	t.Cleanup(k.used.Unlock)
	k.once.Do(func() { k.err = k.up(ports.Free(t), ports.Free(t)) })
	if k.err != nil {
		t.Fatal(k.err)
	}
	ownKafka{t}.Start() // where the test before left it dead
}

func (k *secondKafka) up(addr, controller string) (err error) {
	if k.dir, err = os.MkdirTemp("", "curlew-kafka-"); err != nil {
		return err
	}
	k.addr = addr
	port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
	k.env = append(os.Environ(), "CURLEW_SERVICES_DATA="+k.dir, "CURLEW_SERVICES_KAFKA_HEAP=256m",
		"CURLEW_SERVICES_KAFKA_PORT="+port(addr), "CURLEW_SERVICES_KAFKA_CONTROLLER_PORT="+port(controller))
	// The jars are those of the first broker, where that runs from this checkout.
	data := os.Getenv("CURLEW_SERVICES_DATA")
	if data == "" {
		data = filepath.Join(root(), "data", "services")
	}
	if err := os.MkdirAll(filepath.Join(k.dir, "kafka"), 0o700); err != nil {
		return err
	}
	if lib := filepath.Join(data, "kafka", "lib"); isDir(lib) {
		if err := os.Symlink(lib, filepath.Join(k.dir, "kafka", "lib")); err != nil {
			return err
		}
	}
	// The broker outlives the script that starts it; this child ends it with us, however
	// we end.
	k.gone = exec.Command("sh", "-c", `cat >/dev/null; "$0" kill kafka 2>/dev/null; rm -rf "$1"`, services(), k.dir)
	k.gone.Env = k.env
	if k.end, err = k.gone.StdinPipe(); err != nil {
		return err
	}
	return k.gone.Start()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func services() string { return filepath.Join(root(), "scripts", "services") }

// Close ends what tests have shared; TestMain calls it.
func Close() {
	if private.end != nil {
		private.end.Close()
		_ = private.gone.Wait() // it has nothing to say that matters now
	}
}

// ownKafka is the second broker in the hands of one test.
type ownKafka struct{ t testing.TB }

func (k ownKafka) Start() {
	k.t.Helper()
	cmd := exec.Command(services(), "up", "kafka")
	cmd.Env = private.env
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("start kafka: %v\n%s", err, out)
	}
}

func (k ownKafka) Stop() {
	k.t.Helper()
	k.signal(syscall.SIGKILL)
	Eventually(k.t, "kafka is dead", func() bool {
		c, err := net.Dial("tcp", private.addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

func (k ownKafka) Pause()  { k.signal(syscall.SIGSTOP) }
func (k ownKafka) Resume() { k.signal(syscall.SIGCONT) }

// signal reaches the process that scripts/services has started.
func (k ownKafka) signal(s syscall.Signal) {
	k.t.Helper()
	b, err := os.ReadFile(filepath.Join(private.dir, "kafka", "kafka.pid"))
	if err != nil {
		k.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		k.t.Fatal(fmt.Errorf("kafka's PID: %w", err))
	}
	if err := syscall.Kill(pid, s); err != nil {
		k.t.Fatal(err)
	}
}
