package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic"
	"github.com/curlew-im/curlew/storage"
)

// migrate brings the schema and the topics up to what this binary needs. Embedded
// stores need none of it: they are migrated on start.
func migrate(ctx context.Context, cfg *configs.Config, log *slog.Logger, out io.Writer) error {
	from, to, err := storage.Migrate(ctx, cfg.Storage.DBConfig, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "schema: version %d, was %d\n", to, from)
	if _, _, embedded := cfg.Embedded(); embedded {
		return nil
	}
	cluster, err := queue.NewCluster(cfg.Queue, log, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	defer cluster.Close()
	if err := cluster.Create(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "topics: up to date")
	return nil
}

// examine asks each store and says what is wrong and how to mend it; true if nothing
// is. The configuration itself was validated before.
func examine(ctx context.Context, cfg *configs.Config, out io.Writer) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	well := true
	say := func(what string, err error, mend string) {
		if err == nil {
			fmt.Fprintf(out, "ok      %s\n", what)
			return
		}
		well = false
		fmt.Fprintf(out, "broken  %s: %v\n        mend: %s\n", what, err, mend)
	}
	examineFiles(cfg, say)
	examineUpstream(ctx, cfg, say)
	noDB, noRedis, noKafka := cfg.Embedded()
	if noDB {
		fmt.Fprintf(out, "ok      database: embedded SQLite at %s\n", cfg.Storage.Path)
	} else {
		examineDB(ctx, cfg, log, say)
	}
	if noRedis {
		fmt.Fprintln(out, "ok      redis: embedded")
	} else {
		r, err := storage.OpenRedis(cfg.Storage.Redis, nil, log, prometheus.NewRegistry())
		var problems []storage.Problem
		if err == nil {
			defer r.Close()
			if err = r.Ping(ctx); err == nil {
				problems = r.Check(ctx)
			}
		}
		if err != nil || len(problems) == 0 {
			say("redis at "+cfg.Storage.Redis.Addr, err, "is it running there, and do storage.redis.username and password fit? see scripts/services")
		}
		for _, p := range problems {
			say("redis at "+cfg.Storage.Redis.Addr, errors.New(p.What), p.Mend)
		}
	}
	if noKafka {
		fmt.Fprintln(out, "ok      kafka: embedded")
	} else {
		cluster, err := queue.NewCluster(cfg.Queue, log, prometheus.NewRegistry())
		if err == nil {
			defer cluster.Close()
			if err = cluster.Ping(ctx); err != nil {
				say(fmt.Sprintf("kafka at %v", cfg.Queue.Brokers), err, "is a broker listening there, and does it advertise an address that this machine reaches?")
				return well
			}
			err = cluster.Check(ctx)
		}
		say(fmt.Sprintf("kafka at %v", cfg.Queue.Brokers), err, "run `curlew migrate`; never change queue.partitions of topics in use")
	}
	return well
}

func examineDB(ctx context.Context, cfg *configs.Config, log *slog.Logger, say func(string, error, string)) {
	db, err := storage.OpenDB(ctx, cfg.Storage.DBConfig, log)
	if err == nil {
		defer db.Close()
		err = db.Ping(ctx)
	}
	problems := []storage.Problem(nil)
	if err == nil {
		problems = db.Check(ctx)
	}
	if err != nil || len(problems) == 0 {
		say("database", err, "is it running at the address in storage.dsn, and do user and password fit?")
	}
	for _, p := range problems {
		say("database", errors.New(p.What), p.Mend)
	}
}

// examineFiles reads what a process that decides reads at its start.
func examineFiles(cfg *configs.Config, say func(string, error, string)) {
	if !cfg.Plays(configs.RoleLogic) && !cfg.Plays(configs.RoleAPI) {
		return
	}
	auth := cfg.Logic.Auth
	_, err := logic.LoadSigningKeys(auth.KeysFile)
	if auth.GenerateKeys && errors.Is(err, fs.ErrNotExist) {
		err = nil // made at the first start
	}
	say("signing keys in "+auth.KeysFile, err, "a line of id:secret, the secret 32 random bytes in base64url without padding:"+
		" echo k1:$(openssl rand -base64 32 | tr '+/' '-_' | tr -d =)")
	if path := cfg.Logic.WordsFile; path != "" {
		_, err := readWords(path)
		say("word list in "+path, err, "one word a line; see logic.words_file")
	}
}

func readWords(path string) ([]logic.Word, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return logic.ParseWords(f)
}

// examineUpstream looks for logic where a connector runs without it.
func examineUpstream(ctx context.Context, cfg *configs.Config, say func(string, error, string)) {
	if !cfg.Plays(configs.RoleConnector) || cfg.Plays(configs.RoleLogic) {
		return
	}
	for _, addr := range cfg.Connector.Upstream.Addresses {
		d := net.Dialer{Timeout: 2 * time.Second}
		nc, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			err = nc.Close()
		}
		say("logic at "+addr, err, "is a process with the role logic, and without connector, running there? see logic.grpc.listen")
	}
}
