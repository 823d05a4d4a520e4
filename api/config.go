package api

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"
)

// Config is what an operator sets of the HTTP face. A zero field is its default.
type Config struct {
	// Listen is host:port (default 127.0.0.1:8080; a newcomer's machine serves nobody
	// else until told to).
	Listen string
	// SocketURL is where the page finds the connector (default
	// ws://127.0.0.1:8090/v1/ws). Behind a proxy: its public wss:// address.
	SocketURL string
	// AllowedOrigins are the pages of other origins that may call, each as
	// scheme://host[:port] (default none). Never "*"; no cookies exist to be sent.
	AllowedOrigins []string
	// TrustedProxies are the addresses or networks whose X-Forwarded-For is believed
	// (default none: limits by address count the peer's).
	TrustedProxies []string
	// MaxBodyBytes bounds a request's body (default 256 KiB: 500 users of an upsert
	// fit).
	MaxBodyBytes int64
	// HeaderTimeout and BodyTimeout bound the reading of a request, from its first
	// byte (default 5 s and 10 s).
	HeaderTimeout, BodyTimeout time.Duration
	// RequestTimeout bounds the work on one request (default 4.8 s: answered within 5 s,
	// and after the 4.5 s at which a send that waits is answered 202).
	RequestTimeout time.Duration
	// IdleTimeout closes a connection between two requests (default 2 min, longer than
	// the usual 60 s of balancers in front).
	IdleTimeout time.Duration
	// DrainTimeout is how long Run lets requests finish once told to stop (default 6 s,
	// above RequestTimeout).
	DrainTimeout time.Duration
	// MaxConns bounds open connections; where one more comes, the longest idle one is
	// closed, or it waits (default 4,096, a fifth of a process limit of 20,000
	// descriptors).
	MaxConns int
	// MaxInFlight bounds requests being worked on; more are answered overloaded
	// (default 1,024).
	MaxInFlight int
	// Demo offers POST /v1/auth/demo: an account for whoever asks. The dev profile
	// alone sets it.
	Demo bool
}

func (c Config) withDefaults() Config {
	def(&c.Listen, "127.0.0.1:8080")
	def(&c.SocketURL, "ws://127.0.0.1:8090/v1/ws")
	def(&c.MaxBodyBytes, 256<<10)
	def(&c.HeaderTimeout, 5*time.Second)
	def(&c.BodyTimeout, 10*time.Second)
	def(&c.RequestTimeout, 4800*time.Millisecond)
	def(&c.IdleTimeout, 2*time.Minute)
	def(&c.DrainTimeout, 6*time.Second)
	def(&c.MaxConns, 4096)
	def(&c.MaxInFlight, 1024)
	return c
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	c = c.withDefaults()
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("api.listen: %q is not host:port", c.Listen)
	}
	if u, err := url.Parse(c.SocketURL); err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("api.socket_url: %q is not a ws:// or wss:// address", c.SocketURL)
	}
	for _, o := range c.AllowedOrigins {
		if err := validOrigin(o); err != nil {
			return fmt.Errorf("api.allowed_origins: %q %w", o, err)
		}
	}
	for _, p := range c.TrustedProxies {
		_, errAddr := netip.ParseAddr(p)
		_, errNet := netip.ParsePrefix(p)
		if errAddr != nil && errNet != nil {
			return fmt.Errorf("api.trusted_proxies: %q is neither an address nor a network", p)
		}
	}
	for _, f := range []struct {
		name string
		bad  bool
		want string
	}{
		{"max_body_bytes", c.MaxBodyBytes < 32<<10, "at least 32768: one message with its longest content escaped"},
		{"header_timeout", c.HeaderTimeout < 0, "positive"},
		{"body_timeout", c.BodyTimeout < c.HeaderTimeout, "at least header_timeout"},
		{"request_timeout", c.RequestTimeout < time.Second, "at least 1s"},
		{"idle_timeout", c.IdleTimeout < 0, "positive"},
		{"drain_timeout", c.DrainTimeout < 0, "positive"},
		{"max_conns", c.MaxConns < 1, "positive"},
		{"max_in_flight", c.MaxInFlight < 1, "positive"},
	} {
		if f.bad {
			return fmt.Errorf("api.%s: must be %s", f.name, f.want)
		}
	}
	return nil
}

func validOrigin(o string) error {
	u, err := url.Parse(o)
	switch {
	case err != nil:
		return errors.New("is not an origin")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Scheme+"://"+u.Host != o:
		return errors.New("is not of the form scheme://host[:port]")
	}
	return nil
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
