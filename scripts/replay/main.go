// Command replay plays real chat logs into a running Curlew, from the speakers' own
// connections, while recipients come and go, and holds the result against a model
// computed from the files, from what `stored` said and from what the speakers did.
//
//	go run ./scripts/replay -data DIR [-mode direct|groups] [-addr http://127.0.0.1:8080] [-socket ws://…,ws://…]
//
// It plays what is said to somebody by name: to them directly, or in a group with a
// private channel for each file, whose members come, go and are renamed as in the log.
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

	"github.com/curlew-im/curlew/scripts/replay/corpus"
)

type options struct {
	data, mode, addr, socket, key string
	limit                         int
	seed                          uint64
}

func main() {
	var o options
	flag.StringVar(&o.data, "data", "", "folder with *.log files of the Ubuntu IRC corpus")
	flag.StringVar(&o.mode, "mode", "direct", "direct or groups")
	flag.StringVar(&o.addr, "addr", "http://127.0.0.1:8080", "HTTP address of the running engine")
	flag.StringVar(&o.socket, "socket", "", "socket addresses, separated by commas; devices take turns over them (default: as the engine's page is told)")
	flag.StringVar(&o.key, "key", os.Getenv("CURLEW_SERVER_KEY"), "server key, id:secret (default: $CURLEW_SERVER_KEY, else ./data/server.key)")
	flag.IntVar(&o.limit, "limit", 0, "replay only the first N messages (0: all); of groups, of each file as many")
	flag.Uint64Var(&o.seed, "seed", 1, "seed of who comes and goes when; of direct")
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
	fmt.Printf("replay: %s seconds=%.1f\n", res, time.Since(started).Seconds())
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
	switch o.mode {
	case "groups":
		return runGroups(ctx, o, log)
	case "direct":
	default:
		return nil, fmt.Errorf("-mode %q is neither direct nor groups", o.mode)
	}
	speakers, messages, err := corpus.Read(os.DirFS(o.data))
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
