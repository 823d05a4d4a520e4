package storage

import (
	"context"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	gatherQueue = 4096 // commands waiting; beyond it callers get im.ErrOverloaded
	gatherBatch = 256  // commands in one round trip
	gatherLanes = 2    // round trips at the same time, so that one can fill while another flies
)

// gatherer puts the commands of concurrent callers into common round trips, since
// the send path asks for a hint and a token per message. It never waits for a
// batch to fill: what queued up while the last one was on its way makes the next.
type gatherer struct {
	redis *Redis
	queue chan gathered
}

type gathered struct {
	cmd  command
	done chan error
}

func newGatherer(r *Redis) *gatherer {
	return &gatherer{redis: r, queue: make(chan gathered, gatherQueue)}
}

// do sends cmd with others and waits for its reply; the reply is in cmd. After an
// error cmd must not be read: it may still be on its way.
func (g *gatherer) do(ctx context.Context, cmd command) error {
	w := gathered{cmd: cmd, done: make(chan error, 1)}
	select {
	case g.queue <- w:
	default:
		g.redis.metrics.refused.WithLabelValues("gather").Inc()
		return im.ErrOverloaded
	}
	select {
	case err := <-w.done:
		return cacheError(err)
	case <-ctx.Done():
		return cacheError(ctx.Err())
	}
}

func (g *gatherer) run(ctx context.Context) {
	lanes := make(chan struct{}, gatherLanes)
	for range gatherLanes - 1 {
		go func() {
			g.lane(ctx)
			lanes <- struct{}{}
		}()
	}
	g.lane(ctx)
	for range gatherLanes - 1 {
		<-lanes
	}
}

func (g *gatherer) lane(ctx context.Context) {
	batch := make([]gathered, 0, gatherBatch)
	cmds := make([]command, 0, gatherBatch)
	for {
		batch, cmds = batch[:0], cmds[:0]
		select {
		case <-ctx.Done():
			return
		case w := <-g.queue:
			batch, cmds = append(batch, w), append(cmds, w.cmd)
		}
	fill:
		for len(batch) < gatherBatch {
			select {
			case w := <-g.queue:
				batch, cmds = append(batch, w), append(cmds, w.cmd)
			default:
				break fill
			}
		}
		// Not under ctx: who waits has a deadline of its own, and is answered.
		opCtx, done := g.redis.op(context.WithoutCancel(ctx), "gather")
		err := g.redis.exec(opCtx, cmds...)
		done()
		for _, w := range batch {
			switch cmdErr := w.cmd.Err(); {
			case cmdErr != nil:
				w.done <- cmdErr
			case err != nil && firstError(cmds) == nil:
				w.done <- err // nothing was sent
			default:
				w.done <- nil
			}
		}
		clear(batch)
		clear(cmds)
	}
}
