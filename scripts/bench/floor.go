package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"
)

// The floor is what a message costs where nothing is decided: the stores and sockets
// driven directly, in batches of the size that the engine reached, with records, rows
// and frames of the engine's sizes. What no engine on these stores can be below.

const (
	floorMessages = 200_000 // of each part
	recordBytes   = 330     // of a task with a text of 100 bytes
	frameIn       = 190     // a send
	frameAck      = 130     // its answer
	frameOut      = 400     // a push
)

// floorBatches are the sizes that the floor is measured at: what a busy engine reaches,
// and the best.
var floorBatches = []int{10, 100, 500}

// compare says how far the closed loop is above the floor of the largest batches.
func compare(w io.Writer, results []Result, floors []Floor) {
	best := floors[len(floors)-1]
	for _, r := range results {
		if r.Scenario == "pairs" {
			fmt.Fprintf(w, "pairs: %.1f µs a message, the floor %.1f: ratio %.2f\n", r.Costs.ServerCPU, best.Sum, r.Costs.ServerCPU/best.Sum)
		}
	}
}

// Floor is the CPU µs of a message in each part, both sides, without the generator's.
type Floor struct {
	Batch   int     `json:"batch"`
	Kafka   float64 `json:"kafka"`   // broker and client: produced with acks=all, fetched once
	MySQL   float64 `json:"mysql"`   // server and client: a row of the real table
	Redis   float64 `json:"redis"`   // server and client: the commands of a projection and a publish a batch
	Sockets float64 `json:"sockets"` // a frame in, an answer and a push out
	Sum     float64 `json:"sum"`
}

func (f Floor) print(w io.Writer) {
	fmt.Fprintf(w, "\nfloor, batches of %d: %.1f µs a message: kafka %.1f  mysql %.1f  redis %.1f  sockets %.1f\n",
		f.Batch, f.Sum, f.Kafka, f.MySQL, f.Redis, f.Sockets)
}

// floor measures all parts with batches of one size.
func (b *bench) floor(ctx context.Context, batch int) (Floor, error) {
	f := Floor{Batch: batch}
	var err error
	for _, part := range []struct {
		name  string
		µs    *float64
		roles []string
		run   func(context.Context, int) error
	}{
		{"kafka", &f.Kafka, []string{"kafka", "generator"}, b.floorKafka},
		{"mysql", &f.MySQL, []string{"mysql", "generator"}, b.floorMySQL},
		{"redis", &f.Redis, []string{"redis", "generator"}, b.floorRedis},
	} {
		from := b.costsNow(ctx)
		if err = part.run(ctx, batch); err != nil {
			return f, fmt.Errorf("floor of %s: %w", part.name, err)
		}
		to := b.costsNow(ctx)
		for _, role := range part.roles {
			*part.µs += float64((to.use[role].cpu - from.use[role].cpu).Microseconds()) / floorMessages
		}
	}
	if f.Sockets, err = floorSockets(ctx); err != nil {
		return f, fmt.Errorf("floor of sockets: %w", err)
	}
	f.Sum = f.Kafka + f.MySQL + f.Redis + f.Sockets
	return f, nil
}

// floorKafka produces batches to one partition, with acks, and fetches them.
func (b *bench) floorKafka(ctx context.Context, batch int) error {
	client := &kafka.Client{Addr: kafka.TCP(strings.Split(b.engine.stores.env["CURLEW_KAFKA_ADDRS"], ",")...), Timeout: 10 * time.Second}
	topic := b.engine.stores.database + ".floor." + strconv.Itoa(batch)
	res, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}}})
	if err == nil {
		err = res.Errors[topic]
	}
	if err != nil {
		return err
	}
	value := []byte(strings.Repeat("x", recordBytes))
	for sent := 0; sent < floorMessages; {
		records := make([]kafka.Record, min(batch, floorMessages-sent))
		for i := range records {
			records[i] = kafka.Record{Time: time.Now(), Key: kafka.NewBytes([]byte("d1-2")), Value: kafka.NewBytes(value)}
		}
		res, err := client.Produce(ctx, &kafka.ProduceRequest{Topic: topic, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...)})
		switch {
		case errors.Is(err, kafka.UnknownTopicOrPartition) && sent == 0: // the client has not heard of it yet
			time.Sleep(100 * time.Millisecond)
			continue
		case err != nil:
			return err
		case res.Error != nil:
			return res.Error
		}
		sent += len(records)
	}
	for offset := int64(0); offset < floorMessages; {
		res, err := client.Fetch(ctx, &kafka.FetchRequest{Topic: topic, Offset: offset, MinBytes: 1, MaxBytes: int64(batch) * (recordBytes + 40), MaxWait: time.Second})
		if err != nil {
			return err
		}
		for {
			r, err := res.Records.ReadRecord()
			if err != nil {
				break // the end of the answer
			}
			offset = r.Offset + 1
		}
	}
	return nil
}

// floorMySQL inserts batches into a table like messages, with all its keys.
func (b *bench) floorMySQL(ctx context.Context, batch int) error {
	s := b.engine.stores
	conn, err := s.admin.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, q := range []string{"USE " + s.database, "DROP TABLE IF EXISTS floor", "CREATE TABLE floor LIKE messages"} {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return fill(ctx, conn, "floor", floorRows(batch), batch)
}

// floorRedis raises two users' lists for each message and publishes once for each batch.
func (b *bench) floorRedis(ctx context.Context, batch int) error {
	rdb := b.engine.stores.redis
	frame := strings.Repeat("x", frameOut)
	for sent := 0; sent < floorMessages; sent += batch {
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range batch {
				n := sent + i
				a, c := n%200, (n+1)%200
				conv := "d" + strconv.Itoa(a) + "-" + strconv.Itoa(c)
				for _, u := range [...]int{a, c} {
					p.ZAddGT(ctx, "floor:{u"+strconv.Itoa(u)+"}:convs", redis.Z{Score: float64(n), Member: conv})
				}
				p.HSet(ctx, "floor:{u"+strconv.Itoa(c)+"}:state", conv, n)
				p.ZAdd(ctx, "floor:{u"+strconv.Itoa(c)+"}:offline", redis.Z{Score: float64(n), Member: conv})
			}
			p.Publish(ctx, "floor", strings.Repeat(frame, batch))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// floorSockets is the server's side of a frame in, an answer out and a push out, for
// pairs of connections with four messages in flight each; the server is a process of
// its own that decides nothing.
func floorSockets(ctx context.Context) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, self, "echo")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		in.Close()
		_ = cmd.Wait() // it ends with its input
	}()
	var addr string
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		return 0, err
	}
	const talkers, window = 200, 4
	done := make(chan error, talkers)
	before, err := process{"echo", cmd.Process.Pid}.use()
	if err != nil {
		return 0, err
	}
	for range talkers {
		go func() { done <- echoClient(addr, window, floorMessages/talkers) }()
	}
	for range talkers {
		if err := <-done; err != nil {
			return 0, err
		}
	}
	after, err := process{"echo", cmd.Process.Pid}.use()
	return float64((after.cpu - before.cpu).Microseconds()) / floorMessages, err
}

// echoClient keeps frames in flight until it has had its answers.
func echoClient(addr string, window, n int) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	frame := make([]byte, frameIn)
	for range window {
		if _, err := nc.Write(frame); err != nil {
			return err
		}
	}
	buf := make([]byte, 64<<10)
	for got, done := 0, 0; done < n; {
		m, err := nc.Read(buf)
		if err != nil {
			return err
		}
		got += m
		for ; got >= frameAck+frameOut; got -= frameAck + frameOut {
			if done++; done+window <= n {
				if _, err := nc.Write(frame); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// echoHere is the server of floorSockets: it answers each frame with an ack and a push,
// in writes of their own, as they leave for two connections in the engine.
func echoHere(in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, in)
		l.Close()
	}()
	for {
		nc, err := l.Accept()
		if err != nil {
			return nil
		}
		go func() {
			defer nc.Close()
			buf := make([]byte, 16<<10)
			ack, push := make([]byte, frameAck), make([]byte, frameOut)
			for got := 0; ; {
				m, err := nc.Read(buf)
				if err != nil {
					return
				}
				for got += m; got >= frameIn; got -= frameIn {
					if _, err := nc.Write(ack); err != nil {
						return
					}
					if _, err := nc.Write(push); err != nil {
						return
					}
				}
			}
		}()
	}
}
