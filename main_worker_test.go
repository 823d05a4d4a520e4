package main

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// front is every role but jobs.
func front() func(*configs.Config) {
	return roles(configs.RoleConnector, configs.RoleLogic, configs.RoleAPI)
}

// steps between two effects of a batch (see jobs.Deps.Steps).
var steps = []string{"insert", "cursors", "project", "publish", "moves", "commit"}

// A worker dies right after each of its steps, with all its later steps; the next one
// finishes what it left.
func TestWorker_DiesBetweenEveryTwoSteps(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s, front())
	l := startLoad(t, e.http, e.socket)
	died := errors.New("died here")
	for _, step := range steps {
		var dead atomic.Bool
		worker := startSteps(t, s, func(now string) error {
			if now == step {
				dead.Store(true)
			}
			if dead.Load() {
				return died
			}
			return nil
		}, roles(configs.RoleJobs))
		devtest.Eventually(t, "a worker has died after "+step, dead.Load)
		l.more(20)
		worker.stop()
	}
	startEngine(t, s, roles(configs.RoleJobs))
	l.more(20)
	l.finish()
	l.check(true)
	if len(l.refused) > 0 {
		t.Errorf("workers that die are not the senders' matter: %v", l.refused)
	}
}

// Two processes of workers share the partitions; one comes and goes under load.
func TestWorker_RebalanceUnderLoad(t *testing.T) {
	t.Parallel()
	s := devtest.Start(t)
	e := startEngine(t, s)
	l := startLoad(t, e.http, e.socket)
	for range 3 {
		second := startEngine(t, s, roles(configs.RoleJobs))
		l.more(100)
		second.stop()
		l.more(30)
	}
	l.finish()
	l.check(true)
}
