package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

const (
	callTimeout = 5 * time.Second // of one request, as everywhere
	bodyBytes   = 64 << 10        // of a request
)

// Check says whether one thing this process needs answers.
type Check struct {
	Name string // a short stable word: "mysql", "redis", "kafka"
	Ask  func(ctx context.Context) error
}

// Deps is what the listener shows and turns.
type Deps struct {
	Checks      []Check
	Generations Generations // nil: this process has no Redis
	Rebuilds    Rebuilds    // nil: it has no MySQL; needs Generations
	Logs        Logs        // nil: it has no Kafka
	Dead        Dead        // nil: it has no workers
	Pools       PoolBook    // nil: it has no MySQL
	Own         OwnPools    // nil: it does not play jobs
	Gatherer    prometheus.Gatherer
	Log         *slog.Logger
}

// Server is the admin listener of one process.
type Server struct {
	cfg      Config
	deps     Deps
	http     *http.Server
	listener net.Listener
	ready    readiness
}

// NewServer builds the routes. It does not listen yet.
func NewServer(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg.withDefaults(), deps: deps}
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.HandleFunc(r.pattern, r.handle)
	}
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a CPU profile of a minute
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(deps.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// route is one endpoint.
type route struct {
	pattern string // as of http.ServeMux
	handle  http.HandlerFunc
}

// routes is every endpoint there is: openapi.yaml says what they take and answer ([O3]).
func (s *Server) routes() []route {
	rebuilds, dead := s.deps.Rebuilds != nil, s.deps.Dead != nil
	all := []route{
		{"GET /health", func(w http.ResponseWriter, _ *http.Request) {
			write(w, http.StatusOK, map[string]string{"status": "ok"})
		}},
		{"GET /ready", s.handleReady},
		{"GET /metrics", s.metrics()},
		{"GET /openapi.yaml", handleContract},
		{"POST /v1/admin/generation", s.offer(s.deps.Generations != nil, s.handleGeneration)},
		{"POST /v1/admin/rebuild", s.offer(rebuilds, s.handleRebuild)},
		{"GET /v1/admin/rebuild", s.offer(rebuilds, s.handleRebuildProgress)},
		{"GET /v1/admin/dead", s.offer(dead, s.handleDead)},
		{"GET /v1/admin/dead/{id}", s.offer(dead, s.handleDeadLetter)},
		{"POST /v1/admin/dead/{id}/replay", s.offer(dead, s.handleReplay)},
		{"POST /v1/admin/dead/{id}/discard", s.offer(dead, s.handleDiscard)},
		{"GET /v1/admin/pools", s.offer(s.deps.Pools != nil, s.handlePools)},
		{"PATCH /v1/admin/pools/{lane}", s.offer(s.deps.Pools != nil, s.handleSetPool)},
		{"DELETE /v1/admin/pools/{lane}", s.offer(s.deps.Pools != nil, s.handleResetPool)},
		{"GET /v1/admin/lag", s.offer(s.deps.Logs != nil, s.handleLag)},
		{"POST /v1/admin/partitions/{lane}/{partition}/resume", s.offer(s.deps.Logs != nil, s.handleResume)},
	}
	if s.cfg.Profiles {
		all = append(all,
			route{"GET /debug/pprof/", s.operator(pprof.Index)},
			route{"GET /debug/pprof/profile", s.operator(pprof.Profile)},
			route{"GET /debug/pprof/trace", s.operator(pprof.Trace)},
			route{"GET /debug/pprof/symbol", s.operator(pprof.Symbol)})
	}
	return all
}

func (s *Server) metrics() http.HandlerFunc {
	h := promhttp.HandlerFor(s.deps.Gatherer, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelError),
		Timeout:  10 * time.Second, MaxRequestsInFlight: 4,
	}).ServeHTTP
	if s.cfg.public() {
		return s.operator(h)
	}
	return h
}

// offer is for operators, where this process has what it turns; else it is not found.
func (s *Server) offer(has bool, h http.HandlerFunc) http.HandlerFunc {
	if !has {
		h = func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, im.ErrNotFound) }
	}
	return s.operator(h)
}

// operator lets in who may turn switches ([O1]).
func (s *Server) operator(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.allowed(r) {
			s.fail(w, r, im.ErrUnauthenticated)
			return
		}
		h(w, r)
	}
}

func (s *Server) allowed(r *http.Request) bool {
	if s.cfg.Token != "" {
		given := sha256.Sum256([]byte(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")))
		want := sha256.Sum256([]byte(s.cfg.Token))
		return subtle.ConstantTimeCompare(given[:], want[:]) == 1
	}
	// Validate has seen to it that we listen on loopback. A page in a browser on this
	// machine can reach us, but names its origin, or a host that is not ours.
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return loopback(strings.Trim(host, "[]")) && r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == ""
}

func (s *Server) handleGeneration(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	if err := s.deps.Generations.Reset(ctx); err != nil {
		s.fail(w, r, err)
		return
	}
	s.deps.Log.Info("new generation", "by", "operator")
	w.WriteHeader(http.StatusNoContent)
}

// Handler is the listener's face without the listener.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Listen binds Config.Listen.
func (s *Server) Listen() error {
	l, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	s.listener = l
	return nil
}

// Addr is where the server listens; empty before Listen.
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Run serves until ctx ends. It listens itself where Listen was not called. It is
// the last to stop, so that a drain can be watched.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		if err := s.Listen(); err != nil {
			return err
		}
	}
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	s.deps.Log.Info("admin listening", "addr", s.Addr())
	select {
	case err := <-failed:
		return fmt.Errorf("admin: serve: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := s.http.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	<-failed
	return err
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the operator has hung up
}

// fail answers with err's row of the table, and logs what is a person's to know.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := protocol.CodeOf(err)
	if code.HTTP >= http.StatusInternalServerError {
		s.deps.Log.Error("operator's request failed", "path", r.URL.Path, "err", err)
	}
	write(w, code.HTTP, protocol.NewError(err))
}

// read decodes a bounded body that holds one JSON value and nothing that v does not
// know.
func read(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyBytes))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return im.ErrTooLarge
	case err != nil:
		return im.Invalid("body", strings.TrimPrefix(err.Error(), "json: "))
	case d.More():
		return im.Invalid("body", "more than one value")
	}
	return nil
}
