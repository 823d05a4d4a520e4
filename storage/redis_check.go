package storage

import (
	"context"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"
)

// tooMuch are commands of Redis that the engine never gives: whoever may give them can
// empty the server, stop it, or read what it is told.
var tooMuch = []string{"FLUSHALL", "KEYS", "SHUTDOWN", "MONITOR", "DEBUG"}

// Check looks, at every master, for what `curlew doctor` should name: an account that may do more than the
// engine does. It changes nothing: an account that may not look at its own rights has
// few, one that may is asked about the rest by ACL DRYRUN.
func (r *Redis) Check(ctx context.Context) []Problem {
	ctx, done := r.op(ctx, "check")
	defer done()
	var mu sync.Mutex // guards problems
	var problems []Problem
	// One that does not answer is Ping's to name.
	_ = r.eachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		found := mayTooMuch(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		if len(problems) == 0 { // each master says the same, if nobody forgot one
			problems = found
		}
		return nil
	})
	return problems
}

func mayTooMuch(ctx context.Context, c *redis.Client) []Problem {
	found := func(may string) []Problem {
		return []Problem{{What: "redis: the account of storage.redis may " + may + ", which the engine never does",
			Mend: "an ACL user with the rights of scripts/services.d/redis.conf, in storage.redis.username and password"}}
	}
	if err := c.ConfigGet(ctx, "maxmemory").Err(); err == nil {
		return found("CONFIG")
	}
	name, err := c.Do(ctx, "ACL", "WHOAMI").Text()
	if err != nil {
		return nil
	}
	for _, command := range tooMuch {
		args := map[string][]any{"KEYS": {"*"}, "DEBUG": {"SLEEP", "0"}}[command]
		answer, err := c.Do(ctx, append([]any{"ACL", "DRYRUN", name, command}, args...)...).Text()
		if err == nil && answer == "OK" {
			return found(command)
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			break // DRYRUN is of Redis 7
		}
	}
	return nil
}
