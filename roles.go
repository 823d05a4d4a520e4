package main

import (
	"context"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api"
	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/connector"
	"github.com/curlew-im/curlew/jobs"
	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/storage"
)

// openLogic builds the deciding part, for the roles logic and api.
func (a *App) openLogic(context.Context) error {
	if !a.cfg.Plays(configs.RoleLogic) && !a.cfg.Plays(configs.RoleAPI) {
		return a.openDecider()
	}
	log := a.log.With("part", "logic")
	profiles, err := storage.NewProfiles(a.redis, a.db)
	if err != nil {
		return err
	}
	words, err := logic.NewWords(a.cfg.Logic.WordsFile, log, a.reg)
	if err != nil {
		return err
	}
	accounts, routes, bus := storage.NewAccounts(a.db, profiles), storage.NewRoutes(a.redis), storage.NewBus(a.redis)
	limits, filter := storage.NewLimits(a.redis), logic.Chain{words}
	if a.auth, err = logic.NewAuth(a.cfg.Logic.Auth, logic.AuthDeps{
		Accounts: accounts, Profiles: profiles, Limits: limits, Names: filter,
		Kick:  logic.NewKicks(routes, bus),
		Clock: time.Now, Log: log, Metrics: a.reg,
	}); err != nil {
		return err
	}
	a.people = logic.NewPeople(a.cfg.Logic.People, logic.PeopleDeps{
		Contacts: a.db, Profiles: profiles, Limits: limits, Texts: filter, Sessions: routes, Bus: bus,
		Clock: time.Now, Log: log, Metrics: a.reg,
	})
	a.producer = queue.NewProducer(a.cluster, im.LaneRealtime)
	a.closers = append(a.closers, func() error { a.producer.Close(); return nil })
	a.backlog = queue.NewBacklog(a.cluster, im.LaneRealtime)
	a.service, err = logic.NewService(a.cfg.Logic.Config, logic.Deps{
		Accounts: accounts, Profiles: profiles, Index: storage.NewIndex(a.redis, a.db), Records: a.db, Settings: storage.NewSettings(a.redis, a.db),
		Groups: a.db, Schedules: a.db, Partition: a.partition, Rooms: routes, Hints: storage.NewHints(a.redis), Limits: limits, Queue: a.producer, Backlog: a.backlog, Sessions: routes,
		Auth: a.auth, Filter: filter,
		Presences: routes, Sight: a.db, Revocations: a.db, Bus: bus,
		Node: newNode("api"), Notes: bus,
		Now: time.Now, Log: log, Registerer: a.reg,
	})
	if err != nil {
		return err
	}
	a.service.OnRevoked(a.auth.Revoked)
	a.words, a.decider = words, a.service
	return nil
}

// openDecider builds what workers need of logic where nobody sends through this process:
// it decides scheduled messages when they are due.
func (a *App) openDecider() error {
	if !a.cfg.Plays(configs.RoleJobs) {
		return nil
	}
	log := a.log.With("part", "logic")
	profiles, err := storage.NewProfiles(a.redis, a.db)
	if err != nil {
		return err
	}
	if a.words, err = logic.NewWords(a.cfg.Logic.WordsFile, log, a.reg); err != nil {
		return err
	}
	a.decider, err = logic.NewService(a.cfg.Logic.Config, logic.Deps{
		Accounts: storage.NewAccounts(a.db, profiles), Profiles: profiles, Records: a.db, Groups: a.db, Hints: storage.NewHints(a.redis),
		Limits: storage.NewLimits(a.redis), Filter: logic.Chain{a.words}, Now: time.Now, Log: log, Registerer: a.reg,
	})
	return err
}

// partition is where a conversation is in each lane.
func (a *App) partition(c im.ConversationID) int { return queue.Partition(c, a.cluster.Partitions()) }

// openJobs builds the workers.
func (a *App) openJobs(context.Context) (err error) {
	if !a.cfg.Plays(configs.RoleJobs) {
		return nil
	}
	producers := make(map[im.Lane]jobs.Producer)
	for _, lane := range []im.Lane{im.LaneRealtime, im.LaneDelay, im.LaneRetry, im.LaneDead} {
		p := queue.NewProducer(a.cluster, lane)
		a.closers = append(a.closers, func() error { p.Close(); return nil }) // when the workers have ended
		producers[lane] = p
	}
	routes := storage.NewRoutes(a.redis)
	var notifier jobs.Notifier
	if hook := a.cfg.Jobs.Notify.Webhook; hook.URL != "" {
		if notifier, err = jobs.NewWebhook(hook); err != nil {
			return err
		}
	}
	a.runner, err = jobs.NewRunner(a.cfg.Jobs.Config, jobs.Deps{
		Queue: a.cluster, Archive: a.db, Nodes: a.db, Projector: storage.NewProjector(a.redis),
		Sessions: routes, Rooms: routes, Bus: storage.NewBus(a.redis), Producers: producers,
		Process: string(newNode("jobs")), Pools: storage.NewPools(a.redis, a.db),
		Notifier: notifier, Devices: a.db, Badges: storage.NewIndex(a.redis, a.db),
		Schedules: a.db, Decider: a.decider,
		Log: a.log.With("part", "jobs"), Metrics: a.reg, Steps: a.steps,
	})
	if err != nil {
		return err
	}
	a.auditor, err = jobs.NewAuditor(a.cfg.Jobs.Audit, jobs.AuditDeps{
		Users: storage.NewAuditor(a.rebuilder), Log: jobs.RealtimeLog{Cluster: a.cluster}, Stored: a.db,
		Logger: a.log.With("part", "audit"), Metrics: a.reg,
	})
	return err
}

// openAPI builds the HTTP face.
func (a *App) openAPI(context.Context) (err error) {
	if !a.cfg.Plays(configs.RoleAPI) {
		return nil
	}
	if a.api, err = api.NewServer(a.cfg.API, api.Deps{
		Chat: a.service, Accounts: a.auth, People: a.people, Groups: a.service, Log: a.log.With("part", "api"), Registerer: a.reg,
	}); err != nil {
		return err
	}
	return a.api.Listen()
}

// openConnector builds the sockets. Logic is a plain call where this process has it,
// else it is reached over gRPC.
func (a *App) openConnector(context.Context) (err error) {
	if !a.cfg.Plays(configs.RoleConnector) {
		return nil
	}
	var up connector.Upstream = a.service
	if !a.cfg.Plays(configs.RoleLogic) {
		if a.upstream, err = connector.NewGRPCUpstream(a.cfg.Connector.Upstream, a.log.With("part", "connector"), a.reg); err != nil {
			return err
		}
		up = a.upstream
	}
	var directory connector.Directory = a.upstream
	if a.db != nil {
		directory = a.db
	}
	routes, bus := storage.NewRoutes(a.redis), storage.NewBus(a.redis)
	if a.connector, err = connector.New(a.cfg.Connector.Config, newNode("connector"), up, routes, bus, a.redis, directory,
		a.log.With("part", "connector"), a.reg); err != nil {
		return err
	}
	addr, err := a.connector.Listen()
	if err != nil {
		return err
	}
	a.socket = addr.String()
	if a.cfg.API.SocketURL == "" {
		a.cfg.API.SocketURL = "ws://" + a.socket + "/v1/ws"
	}
	return nil
}

// openAdmin builds the operator's listener and puts everything into the order in which
// it stops: sockets, HTTP, the bridge to connectors elsewhere, what decides, what works,
// what watches.
func (a *App) openAdmin(context.Context) (err error) {
	checks := []admin.Check{{Name: "redis", Ask: a.redis.Ping}}
	if a.db != nil {
		checks = append(checks, admin.Check{Name: "mysql", Ask: a.db.Ping}, admin.Check{Name: "kafka", Ask: a.cluster.Ping}, admin.Check{Name: "log", Ask: a.cluster.Sound})
	}
	deps := admin.Deps{Checks: checks, Generations: a.redis, Gatherer: a.reg, Log: a.log.With("part", "admin")}
	if a.cluster != nil {
		deps.Logs = a.cluster
	}
	if a.rebuilder != nil {
		deps.Rebuilds = a.rebuilder
	}
	if a.db != nil {
		deps.Pools = storage.NewPools(a.redis, a.db)
	}
	if a.runner != nil {
		deps.Own = a.runner
	}
	if a.runner != nil {
		deps.Dead = a.runner.DeadLetters(a.db)
	}
	if a.admin, err = admin.NewServer(a.cfg.Admin, deps); err != nil {
		return err
	}
	if err := a.admin.Listen(); err != nil {
		return err
	}
	if a.connector != nil {
		a.add("connector", a.connector.Run)
	}
	if a.upstream != nil {
		a.add("upstream", a.upstream.Run)
	}
	if a.api != nil {
		a.add("api", a.api.Run)
	}
	if a.service != nil {
		if a.cfg.Bridge() {
			bridge, err := logic.NewGRPCServer(a.cfg.Logic.GRPC, a.service, a.db, a.log.With("part", "logic"), a.reg)
			if err != nil {
				return err
			}
			a.add("bridge", bridge.Run)
		}
		a.add("logic", a.service.Run, a.auth.Run, a.words.Run, a.backlog.Run)
		a.add("producer", func(ctx context.Context) error {
			<-ctx.Done()
			a.producer.Close()
			return nil
		})
	}
	if a.runner != nil {
		a.add("jobs", a.runner.Run, a.auditor.Run)
		if a.service == nil {
			a.add("words", a.words.Run)
		}
	}
	if a.rebuilder != nil {
		a.add("rebuilder", a.rebuilder.Run)
	}
	if a.cluster != nil {
		a.add("log", a.cluster.Watch)
	}
	a.add("redis", a.redis.Run)
	a.add("admin", a.admin.Run)
	return nil
}

// Addresses are where this process serves, empty where it does not play the role.
func (a *App) Addresses() (http, socket, operator string) {
	if a.api != nil {
		http = "http://" + a.api.Addr()
	}
	if a.connector != nil {
		socket = fmt.Sprintf("ws://%s/v1/ws", a.socket)
	}
	return http, socket, "http://" + a.admin.Addr()
}
