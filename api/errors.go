package api

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// handler answers one request: a status with a body (nil: none), or an error.
type handler func(c *gin.Context) (status int, body any, err error)

func (s *Server) handle(h handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		status, body, err := h(c)
		switch {
		case err != nil:
			s.abort(c, err)
		case body == nil:
			c.Status(status)
		default:
			s.write(c, status, body)
		}
	}
}

// sendRoutes are the routes whose errors say what became of the message, whoever
// finds the error.
var sendRoutes = map[string]bool{
	"/v1/messages": true, "/v1/server/messages": true,
	"/v1/conversations/:conversation/messages/:seq/changes": true}

// abort ends a request with err.
func (s *Server) abort(c *gin.Context, err error) {
	shown := protocol.NewError
	if sendRoutes[c.FullPath()] {
		shown = protocol.NewSendError
	}
	e := *shown(err) // what is returned may be shared with others
	e.RequestID = requestID(c)
	code := protocol.CodeOf(err)
	if code.Name == "internal" {
		s.log.Error("request failed", "err", err, "route", c.FullPath(), "request", e.RequestID)
	}
	s.metrics.errors.WithLabelValues(e.Code).Inc()
	if e.RetryAfterMS > 0 {
		c.Header("Retry-After", strconv.FormatInt((e.RetryAfterMS+999)/1000, 10))
	}
	if code.HTTP == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", `Bearer realm="curlew"`)
	}
	s.write(c, code.HTTP, &e)
	c.Abort()
}

func (s *Server) write(c *gin.Context, status int, body any) {
	encoded, err := protocol.EncodeJSON(body)
	if err != nil {
		s.log.Error("encode answer", "err", err, "route", c.FullPath(), "request", requestID(c))
		c.Status(http.StatusInternalServerError)
		return
	}
	if w, admitted := c.Get(keyWork); admitted {
		w.(*work).stop()
	}
	c.Data(status, "application/json; charset=utf-8", encoded)
}

// recover turns a panic into internal; the stack goes to the log alone.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler {
			panic(p)
		}
		s.log.Error("panic", "err", fmt.Sprint(p), "route", c.FullPath(), "request", requestID(c), "stack", string(debug.Stack()))
		if c.Writer.Written() {
			c.Abort()
			return
		}
		s.abort(c, fmt.Errorf("panic: %v", p))
	}()
	c.Next()
}

func (s *Server) noRoute(c *gin.Context) { s.abort(c, im.ErrNotFound) }

func (s *Server) noMethod(c *gin.Context) { s.abort(c, protocol.ErrMethod) }

// observe counts and times what is below it.
func (s *Server) observe(c *gin.Context) {
	start := time.Now()
	s.metrics.inFlight.Inc()
	defer func() {
		s.metrics.inFlight.Dec()
		s.metrics.observe(c.Request.Method, c.FullPath(), c.Writer.Status(), start)
	}()
	c.Next()
}
