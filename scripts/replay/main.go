// Command replay plays real chat logs into a running Curlew as one-to-one messages,
// from the speakers' own connections, while recipients come and go, and holds the
// result against a model computed from the files and from what `stored` said.
//
//	go run ./scripts/replay -data DIR [-addr http://127.0.0.1:8080]
//
// It ends with one line of figures and exits 1 unless every fault in it is zero.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type options struct {
	data, addr, socket, key string
	limit                   int
	seed                    uint64
}

func main() {
	var o options
	flag.StringVar(&o.data, "data", "", "folder with *.log files of the Ubuntu IRC corpus")
	flag.StringVar(&o.addr, "addr", "http://127.0.0.1:8080", "HTTP address of the running engine")
	flag.StringVar(&o.socket, "socket", "", "socket address (default: as the engine's page is told)")
	flag.StringVar(&o.key, "key", os.Getenv("CURLEW_SERVER_KEY"), "server key, id:secret (default: $CURLEW_SERVER_KEY, else ./data/server.key)")
	flag.IntVar(&o.limit, "limit", 0, "replay only the first N messages (0: all)")
	flag.Uint64Var(&o.seed, "seed", 1, "seed of who comes and goes when")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	started := time.Now()
	res, err := run(ctx, o, log)
	if err != nil {
		log.Error("replay failed", "err", err)
		os.Exit(1)
	}
	fmt.Printf("replay: sent=%d stored=%d lost=%d doubled=%d misordered=%d unread_wrong=%d list_wrong=%d offline_wrong=%d seconds=%.1f\n",
		res.sent, res.stored, res.lost, res.doubled, res.misordered, res.unreadWrong, res.listWrong, res.offlineWrong, time.Since(started).Seconds())
	if res.faults() > 0 || res.stored != res.sent {
		os.Exit(1)
	}
}

// run replays and checks.
func run(ctx context.Context, o options, log *slog.Logger) (*result, error) {
	if o.data == "" {
		return nil, errors.New("-data is missing")
	}
	if o.key == "" {
		b, err := os.ReadFile("data/server.key")
		if err != nil {
			return nil, fmt.Errorf("no -key, no $CURLEW_SERVER_KEY and no data/server.key: %w", err)
		}
		o.key = strings.TrimSpace(string(b))
	}
	speakers, messages, err := readLogs(os.DirFS(o.data))
	if err != nil {
		return nil, err
	}
	if o.limit > 0 && o.limit < len(messages) {
		messages = messages[:o.limit]
	}
	if len(messages) == 0 {
		return nil, fmt.Errorf("no messages in %s", o.data)
	}
	log.Info("logs read", "speakers", len(speakers), "messages", len(messages))
	r := newReplay(o, speakers, messages, log)
	if err := r.enrol(ctx); err != nil {
		return nil, fmt.Errorf("upsert speakers: %w", err)
	}
	if err := r.send(ctx); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	return r.check(ctx)
}
