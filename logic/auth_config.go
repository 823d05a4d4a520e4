package logic

import (
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// AuthConfig is how users prove who they are.
type AuthConfig struct {
	// KeysFile holds the keys that sign access tokens (see LoadSigningKeys). No
	// default: every process that signs or verifies must have the same.
	KeysFile string
	// GenerateKeys makes the file with one new key where it is missing. For one machine
	// (dev); processes on many must share a file that an operator made.
	GenerateKeys bool
	// AccessTTL is how long an access token is good (default 1 h, 1 min to 24 h): also
	// how long a stolen one is, if nobody notices.
	AccessTTL time.Duration
	// RefreshTTL is how long an unused device stays logged in (default 30 days).
	RefreshTTL time.Duration
	// LoginPerMinute bounds logins per account and per address (default 20; negative:
	// none). It refills, so nobody can lock somebody else out for good.
	LoginPerMinute int
	// RegisterPerMinute bounds new users per address (default 10; negative: none).
	RegisterPerMinute int
	// LookupPerMinute bounds searches by handle per user (default 60; negative: none),
	// so that handles are not enumerated.
	LookupPerMinute int
	// ConcurrentHashes bounds password hashes computed at once (default GOMAXPROCS):
	// each takes 19 MiB and about 30 ms of one core.
	ConcurrentHashes int
	// WaitingHashes is how many more may wait for one of those (default 64, about a
	// second on two cores); beyond it: overloaded.
	WaitingHashes int
	// StateCacheSize is how many (user, device) versions are kept (default 100,000,
	// about 20 MB).
	StateCacheSize int
	// ServerKeys are what backends with users of their own show. Default: none.
	ServerKeys []ServerKey
}

// ServerKey is one backend's key. Several may stand side by side, so that one can be
// replaced without a gap.
type ServerKey struct {
	ID     string // 1 to 64 of A-Z a-z 0-9 _ -
	Secret string // see im.CheckSecret
}

const (
	defaultAccessTTL  = time.Hour
	defaultRefreshTTL = 30 * 24 * time.Hour
)

// Validate names the first bad field.
func (c AuthConfig) Validate() error {
	bad := func(field string, value any, why string) error {
		return fmt.Errorf("logic.auth.%s: %v %s", field, value, why)
	}
	switch {
	case c.KeysFile == "":
		return bad("keys_file", `""`, "is empty: a file of signing keys is needed; on one machine logic.auth.generate_keys makes it there")
	case c.AccessTTL != 0 && (c.AccessTTL < time.Minute || c.AccessTTL > 24*time.Hour):
		return bad("access_ttl", c.AccessTTL, "is not between 1m and 24h")
	case c.RefreshTTL != 0 && c.RefreshTTL < max(c.AccessTTL, time.Minute):
		return bad("refresh_ttl", c.RefreshTTL, "is below access_ttl or 1m")
	case c.ConcurrentHashes < 0 || c.ConcurrentHashes > 1024:
		return bad("concurrent_hashes", c.ConcurrentHashes, "is not between 0 and 1024")
	case c.WaitingHashes < 0:
		return bad("waiting_hashes", c.WaitingHashes, "is negative")
	case c.StateCacheSize < 0:
		return bad("state_cache_size", c.StateCacheSize, "is negative")
	}
	seen := map[string]bool{}
	for i, k := range c.ServerKeys {
		field := fmt.Sprintf("server_keys[%d]", i)
		switch {
		case !isKeyID(k.ID):
			return bad(field+".id", fmt.Sprintf("%q", k.ID), "is not 1 to 64 of A-Z a-z 0-9 _ -")
		case seen[k.ID]:
			return bad(field+".id", k.ID, "stands twice")
		}
		if err := im.CheckSecret(k.Secret); err != nil {
			return fmt.Errorf("logic.auth.%s.secret: %w", field, err)
		}
		seen[k.ID] = true
	}
	return nil
}

func (c AuthConfig) withDefaults() AuthConfig {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if c.AccessTTL == 0 {
		c.AccessTTL = defaultAccessTTL
	}
	if c.RefreshTTL == 0 {
		c.RefreshTTL = max(defaultRefreshTTL, c.AccessTTL)
	}
	def(&c.LoginPerMinute, 20)
	def(&c.RegisterPerMinute, 10)
	def(&c.LookupPerMinute, 60)
	def(&c.ConcurrentHashes, runtime.GOMAXPROCS(0))
	def(&c.WaitingHashes, 64)
	def(&c.StateCacheSize, 100_000)
	return c
}

// authMetrics counts what accounts are asked for.
type authMetrics struct {
	requests *prometheus.CounterVec
}

func newAuthMetrics(reg prometheus.Registerer) *authMetrics {
	m := &authMetrics{requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "curlew_logic_auth_requests_total",
		Help: "Requests about accounts by kind and the code they were answered with.",
	}, []string{"kind", "code"})}
	reg.MustRegister(m.requests)
	return m
}

func (m *authMetrics) count(kind string, err *error) {
	code := "ok"
	if *err != nil {
		code = protocol.CodeOf(*err).Name
	}
	m.requests.WithLabelValues(kind, code).Inc()
}
