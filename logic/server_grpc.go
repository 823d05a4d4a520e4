package logic

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// GRPCServerConfig is where connectors on other machines reach logic.
type GRPCServerConfig struct {
	// Listen is host:port on a private network; there is no TLS on this port. No
	// default.
	Listen string
	// Token is what connectors must show. It is needed unless Listen is loopback; see
	// im.CheckSecret.
	Token string
	// DrainTimeout is how long a stop waits for connectors to go elsewhere (default
	// 6 s: above the 5 s in which everything pending is answered).
	DrainTimeout time.Duration
}

// Validate names the first bad field.
func (c GRPCServerConfig) Validate() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("logic.grpc.listen: %q is not host:port", c.Listen)
	}
	ip := net.ParseIP(host)
	loopback := host == "localhost" || (ip != nil && ip.IsLoopback())
	switch {
	case c.Token == "" && !loopback:
		return fmt.Errorf("logic.grpc.token: is empty, which only loopback may have and %s is not", c.Listen)
	case c.Token != "" && im.CheckSecret(c.Token) != nil:
		return fmt.Errorf("logic.grpc.token: %w", im.CheckSecret(c.Token))
	case c.DrainTimeout < 0:
		return fmt.Errorf("logic.grpc.drain_timeout: %s is negative", c.DrainTimeout)
	}
	return nil
}

// GRPCHandler is what connectors call; Service implements it. The methods are those
// of connector.Upstream.
type GRPCHandler interface {
	Connect(ctx context.Context, hello protocol.Hello, message []byte, answer func(protocol.ConnectAnswer))
	Handle(ctx context.Context, s *im.Session, message []byte, answer func(protocol.Answer))
	// Left is called when an accepted session has ended, or can no longer be reached.
	Left(s *im.Session)
	// OnRevoked has tell called with what connectors must learn.
	OnRevoked(tell func([]im.Revocation))
}

const (
	// bridgeDeadline bounds one call; the connector gives up a little sooner.
	bridgeDeadline = 5 * time.Second
	// bridgeBatchBytes is where a batch of answers is full and the next begins.
	bridgeBatchBytes = 64 << 10
	// bridgeInFlight bounds the messages of one stream that are being answered; beyond
	// it the stream is not read, and the connector's callers wait.
	bridgeInFlight = 32_768
	// bridgeConns bounds the connections one stream may introduce.
	bridgeConns = 1 << 20
)

// GRPCServer brings the messages of connectors in other processes to a handler.
type GRPCServer struct {
	cfg       GRPCServerConfig
	handler   GRPCHandler
	directory Directory
	log       *slog.Logger
	streams   prometheus.Gauge
	server    *grpc.Server
	lis       net.Listener

	mu      sync.Mutex // guards what follows
	open    map[*bridge]struct{}
	drain   bool
	revoked []toldRevocations // lately, for streams that open later
}

// toldRevocations were told at that time.
type toldRevocations struct {
	all []im.Revocation
	at  time.Time
}

// revokedKept is for how long a connector may have been without us and still learn
// all; revokedKeptMost bounds what is kept, in batches.
const (
	revokedKept     = time.Minute
	revokedKeptMost = 1000
)

// NewGRPCServer listens at once, so that a taken address is told at start; Run serves.
func NewGRPCServer(cfg GRPCServerConfig, handler GRPCHandler, directory Directory, log *slog.Logger, reg prometheus.Registerer) (*GRPCServer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 6 * time.Second
	}
	lis, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("logic.grpc.listen: %w", err)
	}
	s := &GRPCServer{cfg: cfg, handler: handler, directory: directory, log: log, lis: lis, open: map[*bridge]struct{}{},
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "curlew_logic_grpc_streams",
			Help: "Streams of connectors."})}
	reg.MustRegister(s.streams)
	handler.OnRevoked(s.tellRevoked)
	s.server = grpc.NewServer(
		grpc.ForceServerCodec(protocol.BridgeCodec{}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(4<<20), grpc.MaxConcurrentStreams(256),
	)
	s.server.RegisterService(&grpc.ServiceDesc{ServiceName: protocol.BridgeService, Methods: s.roomsMethods(), Streams: []grpc.StreamDesc{{
		StreamName: protocol.BridgeStream, ClientStreams: true, ServerStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error { return s.carry(stream) },
	}}}, nil)
	return s, nil
}

// Addr is where it listens.
func (s *GRPCServer) Addr() net.Addr { return s.lis.Addr() }

// Run serves until ctx ends. Then it asks connectors to go elsewhere, answers what is
// pending, and returns.
func (s *GRPCServer) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.server.Serve(s.lis) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve connectors: %w", err)
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.drain = true
	for b := range s.open {
		b.tell(&protocol.Told{Draining: true})
	}
	s.mu.Unlock()
	hard := time.AfterFunc(s.cfg.DrainTimeout, s.server.Stop)
	defer hard.Stop()
	s.server.GracefulStop() // waits for the streams to end
	if err := <-failed; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve connectors: %w", err)
	}
	return nil
}

// carry is the life of one stream.
func (s *GRPCServer) carry(stream grpc.ServerStream) error {
	if !s.known(stream.Context()) {
		return status.Error(codes.Unauthenticated, "token")
	}
	b := newBridge(s.handler, stream)
	s.mu.Lock()
	if s.drain {
		s.mu.Unlock()
		return status.Error(codes.Unavailable, "stopping")
	}
	s.open[b] = struct{}{}
	for _, r := range s.revoked {
		b.tell(&protocol.Told{Revoked: r.all})
	}
	s.mu.Unlock()
	s.streams.Inc()
	defer func() {
		s.mu.Lock()
		delete(s.open, b)
		s.mu.Unlock()
		s.streams.Dec()
	}()
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	return b.run()
}

// tellRevoked tells every connector.
func (s *GRPCServer) tellRevoked(all []im.Revocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, old := time.Now(), max(0, len(s.revoked)+1-revokedKeptMost)
	for old < len(s.revoked) && now.Sub(s.revoked[old].at) > revokedKept {
		old++
	}
	s.revoked = append(s.revoked[old:], toldRevocations{all, now})
	for b := range s.open {
		b.tell(&protocol.Told{Revoked: all})
	}
}

// known compares the token in constant time.
func (s *GRPCServer) known(ctx context.Context) bool {
	if s.cfg.Token == "" {
		return true
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		got, want := sha256.Sum256([]byte(strings.TrimPrefix(v, "Bearer "))), sha256.Sum256([]byte(s.cfg.Token))
		if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			return true
		}
	}
	return false
}
