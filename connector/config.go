package connector

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"
)

// Config is what an operator sets of the sockets. A zero field is its default; of
// the rates and counts marked so, a negative one lifts the limit (the profiles dev
// and bench do).
type Config struct {
	// Listen is host:port (default 127.0.0.1:8090; a newcomer's machine serves nobody
	// else until told to).
	Listen string
	// AllowedOrigins are the pages of other hosts that may connect, each as
	// scheme://host[:port] (default none). A page of the socket's own host, whatever its
	// port, and a client that is no page and so sends no Origin are always let in: the
	// token is in the first message and no cookie exists to be abused.
	AllowedOrigins []string
	// TrustedProxies are the addresses or networks whose X-Forwarded-For is believed
	// (default none: limits by address count the peer's).
	TrustedProxies []string
	// TLSCertFile and TLSKeyFile, both or none, serve wss:// from here (default none:
	// TLS ends at a proxy). A TLS connection costs two goroutines and tens of KB, a
	// plain one on Linux neither.
	TLSCertFile, TLSKeyFile string

	// Loops is the number of event loops (default GOMAXPROCS).
	Loops int
	// Workers is how many messages are handed to logic at the same time (default 256: a
	// store that is away holds one for seconds).
	Workers int
	// MaxConnections is how many connections are held at once (default nine tenths of
	// the process's descriptors); more are answered 503.
	MaxConnections int

	// MaxMessageBytes bounds a message, reassembled (default 64 KiB), MaxFragments the
	// frames it may come in (default 64). Beyond: 1009, before anything is allocated.
	MaxMessageBytes, MaxFragments int
	// OutboxBytes and OutboxFrames bound what waits for one connection (default 1 MiB,
	// 256). Beyond it pushes are dropped; a client still behind after WriteTimeout is
	// closed with 4508 and pulls what it missed on return.
	OutboxBytes, OutboxFrames int

	// HandshakesPerSecond admits new connections on this node (default 1,000, also the
	// burst; negative: no limit). Beyond: 503 with Retry-After.
	HandshakesPerSecond int
	// ConnectsPerIP admits new connections of one address, per second (default 50, also
	// the burst; negative: no limit), ConnectionsPerIP open ones (default 200: whole
	// offices sit behind one; negative: no limit), those who have not finished their
	// handshake among them. An IPv6 address counts as its /64.
	ConnectsPerIP, ConnectionsPerIP int
	// SessionsPerUser bounds the sessions of one user here (default 10; negative: no
	// limit). Beyond: 1008.
	SessionsPerUser int
	// MessagesPerSecond and MessageBurst bound what one connection asks (default 20,
	// burst 40), ControlsPerSecond its pings, pongs and closes (default 10, burst 20).
	// Beyond: 4529. A negative rate lifts the limit.
	MessagesPerSecond, MessageBurst, ControlsPerSecond int

	// HandshakeTimeout is from accept to the end of the request's header, AuthTimeout
	// from there to the first message (default 5 s each).
	HandshakeTimeout, AuthTimeout time.Duration
	// FrameTimeout is how long a started message may take to be complete (default 10 s).
	FrameTimeout time.Duration
	// WriteTimeout is how long a client may take nothing (default 5 s).
	WriteTimeout time.Duration
	// Heartbeat is the interval that logic's connect reply tells clients (default 25 s:
	// under the 30 s after which some phone networks forget a connection). Silence of
	// 2.2 intervals ends a connection: whose network is cut is offline within a minute.
	Heartbeat time.Duration
	// CallTimeout bounds the answer to one message (default 5 s: no send hangs longer).
	CallTimeout time.Duration
	// RouteTimeout bounds one call to the routes, and to the directory of rooms (default
	// 2 s: with it, a connect is answered within 5 s though one of the stores is frozen).
	RouteTimeout time.Duration
	// RenewInterval is how often the node's lease is renewed, and a third of its
	// sessions with it (default 10 s: the lease lasts 30 s, an entry 90 s).
	RenewInterval time.Duration
	// DrainTime is over how long a stop spreads the sessions' farewell (default 10 s;
	// negative: at once).
	DrainTime time.Duration
}

func (c Config) withDefaults() Config {
	def(&c.Listen, "127.0.0.1:8090")
	def(&c.Workers, 256)
	def(&c.MaxMessageBytes, 64<<10)
	def(&c.MaxFragments, 64)
	def(&c.OutboxBytes, 1<<20)
	def(&c.OutboxFrames, 256)
	def(&c.HandshakesPerSecond, 1000)
	def(&c.ConnectsPerIP, 50)
	def(&c.ConnectionsPerIP, 200)
	def(&c.SessionsPerUser, 10)
	def(&c.MessagesPerSecond, 20)
	def(&c.MessageBurst, 40)
	def(&c.ControlsPerSecond, 10)
	def(&c.HandshakeTimeout, 5*time.Second)
	def(&c.AuthTimeout, 5*time.Second)
	def(&c.FrameTimeout, 10*time.Second)
	def(&c.WriteTimeout, 5*time.Second)
	def(&c.Heartbeat, 25*time.Second)
	def(&c.CallTimeout, 5*time.Second)
	def(&c.RouteTimeout, 2*time.Second)
	def(&c.RenewInterval, 10*time.Second)
	def(&c.DrainTime, 10*time.Second)
	return c
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	c = c.withDefaults()
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("connector.listen: %q is not host:port", c.Listen)
	}
	for _, o := range c.AllowedOrigins {
		if u, err := url.Parse(o); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Scheme+"://"+u.Host != o {
			return fmt.Errorf("connector.allowed_origins: %q is not scheme://host[:port]", o)
		}
	}
	for _, p := range c.TrustedProxies {
		if _, err := parseNetwork(p); err != nil {
			return fmt.Errorf("connector.trusted_proxies: %q is neither an address nor a network", p)
		}
	}
	for _, f := range []struct {
		name string
		bad  bool
		want string
	}{
		{"tls_key_file", (c.TLSCertFile == "") != (c.TLSKeyFile == ""), "given together with tls_cert_file"},
		{"loops", c.Loops < 0, "positive"},
		{"workers", c.Workers < 1, "positive"},
		{"max_connections", c.MaxConnections < 0, "positive"},
		{"max_message_bytes", c.MaxMessageBytes < 1024, "at least 1024"},
		{"max_fragments", c.MaxFragments < 1, "positive"},
		{"outbox_bytes", c.OutboxBytes < 4096, "at least 4096"},
		{"outbox_frames", c.OutboxFrames < 16, "at least 16"},
		{"message_burst", c.MessageBurst < 1, "positive"},
		{"handshake_timeout", c.HandshakeTimeout < 0, "positive"},
		{"auth_timeout", c.AuthTimeout < 0, "positive"},
		{"frame_timeout", c.FrameTimeout < 0, "positive"},
		{"write_timeout", c.WriteTimeout < 0, "positive"},
		{"heartbeat", c.Heartbeat < 0, "positive"},
		{"call_timeout", c.CallTimeout < 0, "positive"},
		{"route_timeout", c.RouteTimeout < 0, "positive"},
		{"renew_interval", c.RenewInterval < 0, "positive"},
	} {
		if f.bad {
			return fmt.Errorf("connector.%s: must be %s", f.name, f.want)
		}
	}
	return nil
}

// parseNetwork reads an address or a network in CIDR form.
func parseNetwork(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, errors.New("neither an address nor a network")
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
