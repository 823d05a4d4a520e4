package storage

import (
	"context"
	_ "embed"
	"errors"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed lua/generation.lua
	generationLua string
	//go:embed lua/raise.lua
	raiseLua string
	//go:embed lua/drop.lua
	dropLua string
	//go:embed lua/end.lua
	endLua string
	//go:embed lua/changes.lua
	changesLua string
	//go:embed lua/offline.lua
	offlineLua string
	//go:embed lua/settings.lua
	settingsLua string
	//go:embed lua/settings_open.lua
	openLua string
	//go:embed lua/uncounted.lua
	uncountedLua string
	//go:embed lua/limit.lua
	limitLua string
	//go:embed lua/register.lua
	registerLua string
	//go:embed lua/unregister.lua
	unregisterLua string
	//go:embed lua/watch.lua
	watchLua string
	//go:embed lua/leave.lua
	leaveLua string
	//go:embed lua/clock.lua
	clockLua string
)

// scripts are immutable and the same for every connection.
var (
	generationScript = redis.NewScript(generationLua)
	raiseScript      = redis.NewScript(raiseLua)
	dropScript       = redis.NewScript(dropLua)
	endScript        = redis.NewScript(endLua)
	changesScript    = redis.NewScript(changesLua)
	offlineScript    = redis.NewScript(offlineLua)
	settingsScript   = redis.NewScript(settingsLua)
	openScript       = redis.NewScript(openLua)
	uncountedScript  = redis.NewScript(uncountedLua)
	limitScript      = redis.NewScript(limitLua)
	registerScript   = redis.NewScript(registerLua)
	unregisterScript = redis.NewScript(unregisterLua)
	watchScript      = redis.NewScript(watchLua)
	leaveScript      = redis.NewScript(leaveLua)
	clockScript      = redis.NewScript(clockLua)

	allScripts = []string{generationLua, raiseLua, dropLua, endLua, changesLua, offlineLua, settingsLua, openLua,
		uncountedLua, limitLua, registerLua, unregisterLua, watchLua, leaveLua, clockLua}
)

// command is one script call or plain command in the making.
type command = redis.Cmder

// eval makes a call of a script, for exec.
func eval(ctx context.Context, s *redis.Script, keys []string, args ...string) *redis.Cmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, "evalsha", s.Hash(), len(keys))
	for _, k := range keys {
		all = append(all, k)
	}
	for _, a := range args {
		all = append(all, a)
	}
	cmd := redis.NewCmd(ctx, all...)
	cmd.SetFirstKeyPos(3)
	return cmd
}

// exec sends the commands in one round trip; on a cluster in one to each master, so that
// only those of one slot come in their order. Scripts that Redis does not know
// (it was restarted, or flushed of them) are loaded and their calls repeated. The
// first error other than redis.Nil is returned; those of single commands stay with
// them.
func (r *Redis) exec(ctx context.Context, cmds ...command) error {
	if err := r.breaker.allow(); err != nil {
		return err
	}
	err := r.send(ctx, cmds)
	r.breaker.report(err)
	return err
}

func (r *Redis) send(ctx context.Context, cmds []command) error {
	err := r.pipeline(ctx, cmds)
	if err == nil {
		return nil
	}
	var again []command
	for _, c := range cmds {
		if redis.HasErrorPrefix(c.Err(), "NOSCRIPT") {
			c.SetErr(nil)
			again = append(again, c)
		}
	}
	if again == nil {
		return err
	}
	if err := r.loadScripts(ctx); err != nil && r.cluster == nil {
		return err // of a cluster, the master that fails may not be the one that is asked
	}
	if err := r.pipeline(ctx, again); err != nil {
		return err
	}
	return firstError(cmds)
}

func (r *Redis) pipeline(ctx context.Context, cmds []command) error {
	p := r.client.Pipeline()
	for _, c := range cmds {
		_ = p.Process(ctx, c)
	}
	if _, err := p.Exec(ctx); err != nil {
		if e := firstError(cmds); e != nil || errors.Is(err, redis.Nil) {
			return e
		}
		return err
	}
	return nil
}

func firstError(cmds []command) error {
	for _, c := range cmds {
		if err := c.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	return nil
}

func (r *Redis) loadScripts(ctx context.Context) error {
	return r.eachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		p := c.Pipeline()
		for _, source := range allScripts {
			// Not Script.Load: on a pipeline it takes the answer that is not there yet for the
			// script's hash.
			p.ScriptLoad(ctx, source)
		}
		_, err := p.Exec(ctx)
		return err
	})
}
