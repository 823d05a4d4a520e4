package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	generationEvery = time.Second // how often the identity and the rows of doubt are looked at
	// doubtLease is for how long one process alone acts on doubt, and, since it is not
	// given back, the least time between two generations set because of doubt, each of
	// which has every list completed again. A doubt that finds it taken is acted on at the
	// next look: together within the 2 s after which answers are exact again.
	doubtLease = 900 * time.Millisecond
)

// doubts is what the watcher asks of MySQL; *DB has it.
type doubts interface {
	// Doubts says whether a worker could not project something, and up to which row.
	Doubts(ctx context.Context) (upTo uint64, any bool, err error)
	ClearDoubts(ctx context.Context, upTo uint64) error
}

// generations watches over the one token that stands for "Redis has forgotten
// nothing since" [S11]. Whoever finds it missing, finds it set under another life
// of Redis, or has cause to doubt, sets a new one.
type generations struct {
	identity func(context.Context) (string, error) // nil: ask the server
	log      *slog.Logger
	metrics  *redisMetrics
	cluster  *redisCluster // nil: a single server
	doubts   doubts
	kick     chan struct{} // somebody has read another token
	acted    uint64        // a new generation stands for the doubts up to here, and they cannot be removed yet; 0: none. run's own
	actedAt  time.Time     // when this process last set a generation for doubts. run's own

	mu      sync.Mutex // guards what follows; never held over a call
	known   []string   // lives of the servers that this process talks to
	whole   bool       // all of them were asked; always so of a single server
	wrote   bool       // something was projected to them
	current im.Generation
	next    chan struct{} // closed when current changes
}

func newGenerations(identity func(context.Context) (string, error), log *slog.Logger, m *redisMetrics) *generations {
	return &generations{identity: identity, log: log, metrics: m, kick: make(chan struct{}, 1), next: make(chan struct{})}
}

// WatchDoubts makes Run look for rows of doubt each second and act on them. Call it
// before Run, in processes that have MySQL.
func (r *Redis) WatchDoubts(d doubts) { r.gen.doubts = d }

// onConnect runs on each new connection before its first use: another run ID or
// replication ID than the generation was set under means that Redis was restarted
// or failed over, and may hold less than it did, seals included.
func (g *generations) onConnect(ctx context.Context, cn *redis.Conn) error {
	id, err := g.identify(ctx, cn)
	if err != nil {
		return err
	}
	lives := []string{id}
	var cmd *redis.Cmd
	switch {
	case g.cluster == nil:
		cmd = generationScript.Run(ctx, cn, []string{keyGeneration}, rand.Text(), flag(g.moved(lives)), "1", id)
	case g.knows(id):
		return nil // this life was noted before, and what it held it holds
	default: // the key may be another master's
		cmd = generationScript.Run(ctx, g.cluster.lives, []string{keyGeneration}, rand.Text(), flag(g.moved(lives)), "0", id)
	}
	token, fresh, err := generationReply(cmd)
	if err != nil {
		return fmt.Errorf("check generation: %w", err)
	}
	g.note(lives, g.cluster == nil, token, fresh, "identity")
	return nil
}

// moved says whether this process wrote to another Redis than the one behind lives. A
// writer that moves may have left its last writes in the old one, after others had
// moved and sealed: it voids what they sealed.
func (g *generations) moved(lives []string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.whole && g.wrote && !containsAll(g.known, lives)
}

func (g *generations) knows(life string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.known, life)
}

func containsAll(known, lives []string) bool {
	return !slices.ContainsFunc(lives, func(life string) bool { return !slices.Contains(known, life) })
}

// note keeps what a check of all servers or of one found, and wakes who waits for a new
// generation. cause counts only where this check has set it.
func (g *generations) note(lives []string, all bool, token im.Generation, fresh bool, cause string) {
	if fresh {
		g.metrics.generations.WithLabelValues(cause).Inc()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if all {
		if !slices.ContainsFunc(lives, func(life string) bool { return slices.Contains(g.known, life) }) {
			g.wrote = false // to none of these
		}
		g.known, g.whole = lives, true
	} else if !slices.Contains(g.known, lives[0]) {
		g.known = append(slices.Clone(g.known), lives[0])
	}
	if token == g.current {
		return
	}
	if g.current != "" {
		close(g.next)
		g.next = make(chan struct{})
		g.log.Info("new redis generation: what Redis holds is completed again before it is trusted", "cause", cause, "here", fresh)
	}
	g.current = token
}

// identify names the life of the server behind a connection. A replica is refused:
// what is written there is lost.
func (g *generations) identify(ctx context.Context, c redis.Cmdable) (string, error) {
	if g.identity != nil {
		return g.identity(ctx)
	}
	sections := [][]string{{"server"}, {"replication"}}
	if g.cluster != nil {
		sections = [][]string{{"server", "replication", "commandstats"}} // several at once are of 7.0
	}
	var info string
	for _, some := range sections {
		text, err := c.Info(ctx, some...).Result()
		if err != nil {
			return "", fmt.Errorf("identify redis: %w", err)
		}
		info += text
	}
	if infoField(info, "role") != "master" {
		return "", errors.New("READONLY redis is a replica: give the address of the primary")
	}
	life := infoField(info, "run_id") + " " + infoField(info, "master_replid")
	if g.cluster != nil {
		life += " " + emptied(info)
	}
	return life, nil
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

func generationReply(cmd *redis.Cmd) (im.Generation, bool, error) {
	reply, err := cmd.StringSlice()
	if err != nil {
		return "", false, err
	}
	if len(reply) != 2 || reply[0] == "" {
		return "", false, fmt.Errorf("generation script replied %q", reply)
	}
	return im.Generation(reply[0]), reply[1] == "1", nil
}

func (g *generations) changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.next
}

// noteWrite remembers that this process has projected something.
func (g *generations) noteWrite() {
	g.mu.Lock()
	g.wrote = true
	g.mu.Unlock()
}

// saw tells the watcher that a reader saw another token than this process knows.
func (g *generations) saw(token im.Generation) {
	g.mu.Lock()
	known := g.current
	g.mu.Unlock()
	if token != known {
		select {
		case g.kick <- struct{}{}:
		default:
		}
	}
}

// ensure returns the generation that stands, setting one where there is none or
// where Redis is not who it was.
func (g *generations) ensure(ctx context.Context, r *Redis) (im.Generation, error) {
	return g.check(ctx, r, false, "missing")
}

// reset sets a new generation, whatever stands.
func (g *generations) reset(ctx context.Context, r *Redis, cause string) error {
	_, err := g.check(ctx, r, true, cause)
	return err
}

func (g *generations) check(ctx context.Context, r *Redis, force bool, cause string) (im.Generation, error) {
	ctx, done := r.op(ctx, "generation")
	defer done()
	if err := r.breaker.allow(); err != nil {
		return "", cacheError(err)
	}
	lives, err := r.identities(ctx)
	if err != nil {
		r.breaker.report(err)
		return "", cacheError(err)
	}
	args := append([]string{rand.Text(), flag(force || g.moved(lives)), "1"}, lives...)
	cmd := eval(ctx, generationScript, []string{keyGeneration}, args...)
	err = r.send(ctx, []command{cmd})
	r.breaker.report(err)
	if err != nil {
		return "", fmt.Errorf("check generation: %w", cacheError(err))
	}
	token, fresh, err := generationReply(cmd)
	if err != nil {
		return "", cacheError(err)
	}
	g.note(lives, true, token, fresh, cause)
	return token, nil
}

// run looks each second, and at once when a reader has seen another token.
func (g *generations) run(ctx context.Context, r *Redis) {
	tick := time.NewTicker(generationEvery)
	defer tick.Stop()
	away, doubtful := false, false
	for {
		_, err := g.ensure(ctx, r)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !away:
			g.log.Warn("redis is away: lists come from MySQL, pushes pause", "err", err)
		case err == nil && away:
			g.log.Info("redis is back")
		}
		away = err != nil
		if !away && g.doubts != nil {
			err := g.actOnDoubt(ctx, r)
			if err != nil && ctx.Err() == nil && !doubtful {
				g.log.Warn("rows of doubt could not be acted on", "err", err)
			}
			doubtful = err != nil
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-g.kick:
		}
	}
}

// actOnDoubt sets a new generation where a worker could not project, and only then
// removes the rows: a message noted in them was committed before, so every rebuild
// under the new generation reads it. A generation is set once for them, though MySQL
// may be read and not written to for a while.
func (g *generations) actOnDoubt(ctx context.Context, r *Redis) error {
	ctx, cancel := context.WithTimeout(ctx, 2*r.cfg.Timeout)
	defer cancel()
	upTo, any, err := g.doubts.Doubts(ctx)
	if err != nil || !any {
		return err
	}
	if upTo == g.acted {
		return g.clearDoubts(ctx)
	}
	lease := redis.NewBoolCmd(ctx, "set", keyDoubt, "1", "px", doubtLease.Milliseconds(), "nx")
	err = r.exec(ctx, lease)
	// A full Redis refuses the lease, but not that the generation goes: each process has
	// a lease of its own then.
	full := redis.IsOOMError(err)
	switch {
	case err != nil && !full:
		return err
	case err == nil && !lease.Val(), full && time.Since(g.actedAt) < doubtLease:
		return nil
	}
	if err := g.reset(ctx, r, "doubt"); err != nil {
		return err
	}
	g.acted, g.actedAt = upTo, time.Now()
	return g.clearDoubts(ctx)
}

// clearDoubts removes the rows that have been acted on.
func (g *generations) clearDoubts(ctx context.Context) error {
	err := g.doubts.ClearDoubts(ctx, g.acted)
	if err == nil {
		g.acted = 0
	}
	return err
}
