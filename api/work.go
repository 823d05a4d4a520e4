package api

import (
	"context"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/logic/im"
)

const keyWork = "work"

// work is a request's share of the process: a slot ([A3]) and a deadline ([A2]).
// Neither runs while the client is still sending its body or taking its answer, so
// that slow clients keep nobody else out.
type work struct {
	s      *Server
	c      *gin.Context
	base   context.Context
	until  time.Time
	cancel context.CancelFunc
	held   bool
	paused time.Time
}

// admit gives a request its share, or answers overloaded.
func (s *Server) admit(c *gin.Context) {
	w := &work{s: s, c: c, base: c.Request.Context(), until: time.Now().Add(s.cfg.RequestTimeout)}
	if err := w.start(); err != nil {
		s.abort(c, err)
		return
	}
	defer w.stop()
	c.Set(keyWork, w)
	c.Next()
}

func (w *work) start() error {
	select {
	case w.s.slots <- struct{}{}:
	default:
		return im.ErrOverloaded
	}
	w.held = true
	var ctx context.Context
	ctx, w.cancel = context.WithDeadline(w.base, w.until)
	w.c.Request = w.c.Request.WithContext(ctx)
	return nil
}

func (w *work) stop() {
	if w.held {
		w.held = false
		w.cancel()
		<-w.s.slots
	}
}

func (w *work) pause() {
	w.stop()
	w.paused = time.Now()
}

// resume returns im.ErrOverloaded where the slot is gone.
func (w *work) resume() error {
	w.until = w.until.Add(time.Since(w.paused))
	return w.start()
}
