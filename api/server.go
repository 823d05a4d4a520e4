package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
)

// Deps is what the HTTP face calls.
type Deps struct {
	Chat       Chat
	Accounts   Accounts
	People     People
	Groups     Groups
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Server is the HTTP face of one process.
type Server struct {
	cfg      Config
	deps     Deps
	log      *slog.Logger
	metrics  *metrics
	engine   *gin.Engine
	http     *http.Server
	listener net.Listener
	slots    chan struct{} // one taken per request in flight
	draining atomic.Bool
}

// NewServer builds the routes. It does not listen yet.
func NewServer(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, deps: deps, log: deps.Log, metrics: m, slots: make(chan struct{}, cfg.MaxInFlight)}
	if err := s.buildEngine(); err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           s.engine,
		ReadHeaderTimeout: cfg.HeaderTimeout,
		ReadTimeout:       cfg.BodyTimeout,
		WriteTimeout:      cfg.BodyTimeout + 2*cfg.RequestTimeout, // reading, working, then a slow reader
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(deps.Log.Handler(), slog.LevelDebug), // peers' TLS and reset noise
	}
	return s, nil
}

func (s *Server) buildEngine() error {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.RedirectTrailingSlash = false
	e.RedirectFixedPath = false
	e.HandleMethodNotAllowed = true
	if err := e.SetTrustedProxies(s.cfg.TrustedProxies); err != nil {
		return fmt.Errorf("api.trusted_proxies: %w", err)
	}
	e.Use(s.observe, s.recover, s.guard, s.cors)
	e.NoRoute(s.noRoute)
	e.NoMethod(s.noMethod)
	s.engine = e
	return s.routes()
}

// routes is the whole face, in the order of openapi.yaml.
func (s *Server) routes() error {
	e := s.engine
	if err := s.webRoutes(); err != nil {
		return err
	}
	e.GET("/health", s.health)

	open := e.Group("/v1", s.admit)
	open.GET("/limits", s.handle(s.limits))
	open.POST("/auth/register", s.handle(s.register))
	open.POST("/auth/login", s.handle(s.login))
	open.POST("/auth/refresh", s.handle(s.refresh))
	if s.cfg.Demo {
		open.POST("/auth/demo", s.handle(s.demo))
	}

	v1 := e.Group("/v1", s.admit, s.authenticate)
	v1.POST("/auth/logout", s.handle(s.logout))
	v1.POST("/auth/password", s.handle(s.changePassword))
	v1.GET("/auth/devices", s.handle(s.listDevices))
	v1.DELETE("/auth/devices/:device", s.handle(s.revokeDevice))
	v1.PUT("/auth/devices/me/push", s.handle(s.setPush))
	v1.DELETE("/auth/devices/me/push", s.handle(s.clearPush))

	v1.GET("/users", s.handle(s.findUser))
	v1.GET("/users/me", s.handle(s.me))
	v1.PATCH("/users/me", s.handle(s.updateMe))
	v1.GET("/users/:user", s.handle(s.user))
	v1.GET("/contacts", s.handle(s.listContacts))
	v1.PATCH("/contacts/:user", s.handle(s.setRemark))
	v1.DELETE("/contacts/:user", s.handle(s.removeContact))
	v1.GET("/contacts/requests", s.handle(s.listContactRequests))
	v1.POST("/contacts/requests", s.handle(s.requestContact))
	v1.DELETE("/contacts/requests/:request", s.handle(s.withdrawContact))
	v1.POST("/contacts/requests/:request/accept", s.handle(s.acceptContact))
	v1.POST("/contacts/requests/:request/refuse", s.handle(s.refuseContact))
	v1.GET("/presence", s.handle(s.presence))
	v1.GET("/blocks", s.handle(s.listBlocks))
	v1.PUT("/blocks/:user", s.handle(s.setBlock(true)))
	v1.DELETE("/blocks/:user", s.handle(s.setBlock(false)))

	v1.POST("/messages", s.handle(s.send))
	v1.GET("/scheduled", s.handle(s.listScheduled))
	v1.GET("/scheduled/:schedule", s.handle(s.scheduled))
	v1.PATCH("/scheduled/:schedule", s.handle(s.changeScheduled))
	v1.DELETE("/scheduled/:schedule", s.handle(s.cancelScheduled))
	v1.POST("/scheduled/:schedule/send", s.handle(s.sendScheduled))
	v1.GET("/conversations", s.handle(s.listConversations))
	v1.GET("/conversations/:conversation", s.handle(s.conversation))
	v1.DELETE("/conversations/:conversation", s.handle(s.deleteConversation))
	v1.PATCH("/conversations/:conversation/settings", s.handle(s.changeSettings))
	v1.GET("/conversations/:conversation/messages", s.handle(s.history))
	v1.POST("/conversations/:conversation/messages/:seq/changes", s.handle(s.change))
	v1.GET("/conversations/:conversation/messages/:seq/edits", s.handle(s.edits))
	v1.GET("/conversations/:conversation/messages/:seq/reactions", s.handle(s.reactors))
	v1.POST("/conversations/:conversation/deletions", s.handle(s.deleteMessages))
	v1.GET("/conversations/:conversation/deletions", s.handle(s.deletions))
	v1.GET("/conversations/:conversation/messages/:seq/receipts", s.handle(s.recipients))
	v1.POST("/conversations/:conversation/receipts", s.handle(s.receipts))
	v1.GET("/conversations/:conversation/receipts", s.handle(s.receiptCounts))
	v1.GET("/offline", s.handle(s.offlineSources))
	v1.GET("/offline/:conversation", s.handle(s.offlinePull))
	v1.POST("/offline/:conversation/ack", s.handle(s.offlineAck))
	v1.GET("/sync", s.handle(s.sync))
	s.groupRoutes(v1.Group("/groups"))

	server := e.Group("/v1/server", s.admit, s.authenticateServer)
	server.POST("/users", s.handle(s.upsertUsers))
	server.POST("/tokens", s.handle(s.issueTokens))
	server.POST("/messages", s.handle(s.serverSend))
	server.GET("/scheduled/:schedule", s.handle(s.serverScheduled))
	server.DELETE("/scheduled/:schedule", s.handle(s.serverCancelScheduled))
	return nil
}

func (s *Server) groupRoutes(groups *gin.RouterGroup) {
	groups.POST("", s.handle(s.createGroup))
	groups.GET("", s.handle(s.listGroups))
	g := groups.Group("/:group")
	g.GET("", s.handle(s.group))
	g.PATCH("", s.handle(s.updateGroup))
	g.DELETE("", s.handle(s.dissolveGroup))
	g.GET("/members", s.handle(s.listGroupMembers))
	g.POST("/members", s.handle(s.addGroupMembers))
	g.DELETE("/members/:user", s.handle(s.removeGroupMember))
	g.PUT("/members/:user/role", s.handle(s.setRole))
	g.PUT("/members/:user/mute", s.handle(s.muteMember))
	g.POST("/transfer", s.handle(s.transferGroup))
	g.POST("/join", s.handle(s.joinGroup))
	g.DELETE("/join", s.handle(s.withdrawJoin))
	g.GET("/requests", s.handle(s.listJoinRequests))
	g.POST("/requests/:user/accept", s.handle(s.decideJoin(true)))
	g.POST("/requests/:user/refuse", s.handle(s.decideJoin(false)))
	g.POST("/channels", s.handle(s.createChannel))
	c := g.Group("/channels/:conversation")
	c.PATCH("", s.handle(s.renameChannel))
	c.DELETE("", s.handle(s.removeChannel))
	c.GET("/members", s.handle(s.listChannelMembers))
	c.POST("/members", s.handle(s.addChannelMembers))
	c.DELETE("/members/:user", s.handle(s.removeChannelMember))
}

// Handler is the face without a listener.
func (s *Server) Handler() http.Handler { return s.engine }

// Listen binds Config.Listen, so that a taken port is known before anything starts.
func (s *Server) Listen() error {
	l, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	room := newPlaces(l, s.cfg.MaxConns)
	s.listener, s.http.ConnState = room, room.state
	return nil
}

// Addr is where the server listens; empty before Listen.
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Run serves until ctx ends, then lets the requests in flight finish for at most
// DrainTimeout. It listens itself where Listen was not called.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		if err := s.Listen(); err != nil {
			return err
		}
	}
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	s.log.Info("http listening", "addr", s.Addr())
	select {
	case err := <-failed:
		return fmt.Errorf("api: serve: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	start := time.Now()
	err := s.http.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	<-failed
	s.log.Info("http stopped", "dur", time.Since(start))
	return err
}
