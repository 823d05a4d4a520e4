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

// Check says whether one thing this process needs answers.
type Check struct {
	Name string // a short stable word: "mysql", "redis", "kafka"
	Ask  func(ctx context.Context) error
}

// Deps is what the listener shows and turns.
type Deps struct {
	Checks      []Check
	Generations Generations // nil: this process has no Redis
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
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /ready", s.handleReady)
	metrics := promhttp.HandlerFor(deps.Gatherer, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(deps.Log.Handler(), slog.LevelError),
		Timeout:  10 * time.Second, MaxRequestsInFlight: 4,
	}).ServeHTTP
	if s.cfg.public() {
		metrics = s.operator(metrics)
	}
	mux.HandleFunc("GET /metrics", metrics)
	if deps.Generations != nil {
		mux.HandleFunc("POST /admin/generation", s.operator(s.handleGeneration))
	}
	if s.cfg.Profiles {
		mux.HandleFunc("GET /debug/pprof/", s.operator(pprof.Index))
		mux.HandleFunc("GET /debug/pprof/profile", s.operator(pprof.Profile))
		mux.HandleFunc("GET /debug/pprof/trace", s.operator(pprof.Trace))
		mux.HandleFunc("GET /debug/pprof/symbol", s.operator(pprof.Symbol))
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

// operator lets in who may turn switches ([O1]).
func (s *Server) operator(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.allowed(r) {
			fail(w, im.ErrUnauthenticated)
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
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := s.deps.Generations.Reset(ctx); err != nil {
		s.deps.Log.Error("set a new generation", "err", err)
		fail(w, err)
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

func fail(w http.ResponseWriter, err error) {
	write(w, protocol.CodeOf(err).HTTP, protocol.NewError(err))
}
