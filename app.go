package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/curlew-im/curlew/api"
	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/connector"
	"github.com/curlew-im/curlew/jobs"
	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devstack"
	"github.com/curlew-im/curlew/storage"
)

// App is one process: its stores, its roles, and the order in which they stop.
type App struct {
	cfg *configs.Config
	log *slog.Logger
	reg *prometheus.Registry

	stack     *devstack.Stack // nil where every store has an address
	db        *storage.DB
	redis     *storage.Redis
	rebuilder *storage.Rebuilder // nil in a process that is only a connector
	cluster   *queue.Cluster     // nil in a process that is only a connector
	service   *logic.Service     // nil without logic and api
	auth      *logic.Auth
	people    *logic.People
	words     *logic.Words

	decider  jobs.Decider // of scheduled messages that are due
	producer *queue.Producer
	backlog  *queue.Backlog
	runner   *jobs.Runner
	auditor  *jobs.Auditor
	steps    func(string) error // see jobs.Deps; tests only

	connector *connector.Server
	upstream  *connector.GRPCUpstream // nil where logic is in this process
	socket    string                  // where the connector listens
	api       *api.Server
	admin     *admin.Server

	stages  []stage
	closers []func() error // in the order they were opened
}

// stage is what stops together; the first stage stops first.
type stage struct {
	name string
	runs []func(context.Context) error
}

// NewApp opens what the configured roles need and wires them. Nothing serves before
// Run; what was opened is closed again on an error.
func NewApp(ctx context.Context, cfg *configs.Config, log *slog.Logger) (*App, error) {
	a := &App{cfg: cfg, log: log, reg: prometheus.NewRegistry()}
	a.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := a.open(ctx); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *App) open(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		a.openEmbedded, a.openStores, a.openLogic, a.openJobs, a.openConnector, a.openAPI, a.openAdmin,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// openEmbedded starts the stores that have no address and configures the rest of the
// process to use them.
func (a *App) openEmbedded(context.Context) error {
	noDB, noRedis, noKafka := a.cfg.Embedded()
	if !noDB && !noRedis && !noKafka || len(a.cfg.Roles) < len(configs.Roles) {
		return nil
	}
	stack, err := devstack.Start(a.cfg.Data, a.log)
	if err != nil {
		return err
	}
	a.stack = stack
	a.closers = append(a.closers, stack.Close)
	if noRedis {
		a.cfg.Storage.Redis.Addr = stack.Redis.Addr()
	} else {
		stack.RedisIdentity = ""
	}
	if noKafka {
		a.cfg.Queue.Brokers = stack.Kafka.ListenAddrs()
	}
	return a.devServerKey()
}

// devServerKey gives a newcomer's machine a server key of its own, kept beside the
// data, so that the server API can be tried and no secret is a default.
func (a *App) devServerKey() error {
	if len(a.cfg.Logic.Auth.ServerKeys) > 0 || a.cfg.Profile != "dev" {
		return nil
	}
	path := filepath.Join(a.cfg.Data, "server.key")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		b = []byte("dev:" + random(32) + "\n")
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("server key: %w", err)
	}
	id, secret, _ := strings.Cut(strings.TrimSpace(string(b)), ":")
	a.cfg.Logic.Auth.ServerKeys = []logic.ServerKey{{ID: id, Secret: secret}}
	return nil
}

func (a *App) openStores(ctx context.Context) (err error) {
	if !a.onlyConnector() {
		if err := a.openDB(ctx); err != nil {
			return err
		}
	}
	var identity func(context.Context) (string, error)
	if a.stack != nil && a.stack.RedisIdentity != "" {
		identity = func(context.Context) (string, error) { return a.stack.RedisIdentity, nil }
	}
	if a.redis, err = storage.OpenRedis(a.cfg.Storage.Redis, identity, a.log.With("part", "storage"), a.reg); err != nil {
		return err
	}
	a.closers = append(a.closers, a.redis.Close)
	if a.onlyConnector() {
		return nil
	}
	a.redis.WatchDoubts(a.db)
	a.rebuilder = storage.NewRebuilder(a.redis, a.db, a.log.With("part", "storage"))
	if a.cluster, err = queue.NewCluster(a.cfg.Queue, a.log.With("part", "queue"), a.reg); err != nil {
		return err
	}
	a.closers = append(a.closers, func() error { a.cluster.Close(); return nil })
	return a.awaitTopics(ctx)
}

// onlyConnector says that this process needs neither MySQL nor Kafka.
func (a *App) onlyConnector() bool {
	return len(a.cfg.Roles) == 1 && a.cfg.Plays(configs.RoleConnector)
}

// openDB opens the record. On one's own machine the schema is brought up to date; in
// production `curlew migrate` does that, and a schema that is not this program's is an
// error. A database that is away is waited for, so that the order in which machines
// start does not matter.
func (a *App) openDB(ctx context.Context) (err error) {
	log := a.log.With("part", "storage")
	if a.db, err = storage.OpenDB(ctx, a.cfg.Storage.DBConfig, log); err != nil {
		return err
	}
	a.closers = append(a.closers, a.db.Close)
	a.db.Register(a.reg)
	if err := a.await(ctx, "database", a.db.Ping); err != nil {
		return err
	}
	if a.cfg.Storage.Dialect != storage.MySQL || a.cfg.Profile != "production" {
		if _, _, err := storage.Migrate(ctx, a.cfg.Storage.DBConfig, log); err != nil {
			return err
		}
	}
	if err := a.db.WaitSchema(ctx); err != nil {
		return err
	}
	for _, p := range a.db.Check(ctx) {
		if p.Fatal && a.cfg.Profile == "production" {
			return fmt.Errorf("%s; mend: %s", p.What, p.Mend)
		}
		a.log.Warn("the database could be set better", "problem", p.What, "mend", p.Mend)
	}
	return nil
}

// awaitTopics waits for brokers that are away; topics that are missing or of another
// size are an error at once.
func (a *App) awaitTopics(ctx context.Context) error {
	var wrong error
	err := a.await(ctx, "kafka", func(ctx context.Context) error {
		if err := a.cluster.Ping(ctx); err != nil {
			return err
		}
		err := a.cluster.Prepare(ctx)
		if queue.Away(err) { // it answers, and has not yet come up
			return err
		}
		wrong = err
		return nil
	})
	return errors.Join(err, wrong)
}

// await asks until what answers, so that the order in which machines start does not
// matter.
func (a *App) await(ctx context.Context, what string, ask func(context.Context) error) error {
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		a.log.Warn("waiting for a store", "store", what, "err", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

func random(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// newNode names this life of this process as kind.
func newNode(kind string) im.NodeID { return im.NodeID(kind + "-" + random(8)) }

// add appends a stage; stages stop in the order they were added.
func (a *App) add(name string, runs ...func(context.Context) error) {
	a.stages = append(a.stages, stage{name, runs})
}

// Run serves until ctx ends or a part fails, then stops stage by stage: senders before
// receivers, so that what was taken is finished by those it needs.
func (a *App) Run(ctx context.Context) error {
	type ended struct {
		stage string
		err   error
	}
	failed := make(chan ended, 1)
	waits := make([]sync.WaitGroup, len(a.stages))
	stops := make([]context.CancelFunc, len(a.stages))
	errs := make([]error, len(a.stages))
	for i, s := range a.stages {
		var sctx context.Context
		sctx, stops[i] = context.WithCancel(context.WithoutCancel(ctx))
		var mu sync.Mutex
		for _, run := range s.runs {
			waits[i].Go(func() {
				err := run(sctx)
				if errors.Is(err, context.Canceled) && sctx.Err() != nil {
					err = nil
				}
				if err == nil && sctx.Err() == nil {
					err = errors.New("ended by itself")
				}
				if err == nil {
					return
				}
				mu.Lock()
				errs[i] = errors.Join(errs[i], fmt.Errorf("%s: %w", s.name, err))
				mu.Unlock()
				select {
				case failed <- ended{s.name, err}:
				default:
				}
			})
		}
	}
	a.log.Info("running", "profile", a.cfg.Profile, "roles", a.cfg.Roles, "version", version())
	select {
	case <-ctx.Done():
		a.log.Info("stopping")
	case e := <-failed:
		a.log.Error("a part failed, stopping", "part", e.stage, "err", e.err)
	}
	if a.admin != nil {
		a.admin.Stopping()
	}
	for i := range a.stages {
		stops[i]()
		waits[i].Wait()
	}
	err := errors.Join(append(errs, a.close())...)
	a.log.Info("stopped")
	return err
}

// close closes what was opened, the last first.
func (a *App) close() error {
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	a.closers = nil
	return errors.Join(errs...)
}

// Greet tells a newcomer what to do next.
func (a *App) Greet(out io.Writer) {
	if a.cfg.Profile != "dev" || a.api == nil || a.connector == nil {
		return
	}
	http, socket, operator := a.Addresses()
	fmt.Fprintf(out, `
Curlew is up, on %s.

  Open     %s   in two tabs, take a demo account in each, and chat
  Socket   %s
  Metrics  %s/metrics

Data is kept in %s. Ctrl-C stops; start again and all is still there.

`, a.stores(), http, socket, operator, a.cfg.Data)
}

func (a *App) stores() string {
	if a.stack == nil {
		return "real stores"
	}
	return "embedded stores (SQLite, kfake, miniredis)"
}
