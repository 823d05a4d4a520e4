package admin

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// Config is what an operator sets of the admin listener. A zero field is its default.
type Config struct {
	// Listen is host:port (default 127.0.0.1:8070).
	Listen string
	// Token is asked for as "Authorization: Bearer" by what changes something, by
	// profiles, and on an address that is not loopback by metrics (default none, allowed
	// on a loopback address only; see im.CheckSecret).
	Token string
	// Profiles offers /debug/pprof (default off: a profile shows memory).
	Profiles bool
	// CheckTimeout bounds each readiness check (default 2 s, below the usual probe's).
	CheckTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:8070"
	}
	if c.CheckTimeout == 0 {
		c.CheckTimeout = 2 * time.Second
	}
	return c
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	c = c.withDefaults()
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("admin.listen: %q is not host:port", c.Listen)
	}
	switch {
	case c.Token == "" && !loopback(host):
		return fmt.Errorf("admin.token: needed, since admin.listen %q is not a loopback address", c.Listen)
	case c.Token != "" && im.CheckSecret(c.Token) != nil:
		return fmt.Errorf("admin.token: %w", im.CheckSecret(c.Token))
	case c.CheckTimeout < 0:
		return fmt.Errorf("admin.check_timeout: must be positive")
	}
	return nil
}

// Address is where the listener is reached by default.
func (c Config) Address() string { return c.withDefaults().Listen }

// public says that others than this machine's users reach the listener.
func (c Config) public() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	return err != nil || !loopback(host)
}

// loopback is true for names of this machine that no foreign page can take over by
// DNS.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
