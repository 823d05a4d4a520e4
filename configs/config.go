package configs

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"

	"github.com/curlew-im/curlew/api"
	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/connector"
	"github.com/curlew-im/curlew/jobs"
	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic"
	"github.com/curlew-im/curlew/storage"
)

// Role is one part of the engine that a process may play.
type Role string

// The roles. A process plays all of them unless told otherwise.
const (
	RoleConnector Role = "connector"
	RoleLogic     Role = "logic"
	RoleJobs      Role = "jobs"
	RoleAPI       Role = "api"
)

// Roles is all of them, senders before receivers: the order in which they stop.
var Roles = []Role{RoleConnector, RoleAPI, RoleLogic, RoleJobs}

// Config is everything an operator sets. Each part is described where it is used.
type Config struct {
	// Profile is production (default), dev or bench; it decides the defaults below.
	Profile string
	// Roles that this process plays (default all).
	Roles []Role
	// Data is the folder of what this process keeps itself: the embedded stores and, in
	// dev, keys (default data).
	Data string
	// Log is how logs are written.
	Log Log

	Storage   Storage
	Queue     queue.Config
	Connector Connector
	Logic     Logic
	Jobs      Jobs
	API       api.Config
	Admin     admin.Config
}

// Log is how logs are written, to standard error.
type Log struct {
	Level  slog.Level // debug, info (default), warn, error
	Format string     // json (default) or text
}

// Storage is where the record and the projection are.
type Storage struct {
	storage.DBConfig `mapstructure:",squash"`
	Redis            storage.RedisConfig
}

// Connector is the sockets, and where logic is when it is in other processes.
type Connector struct {
	connector.Config `mapstructure:",squash"`
	Upstream         connector.GRPCUpstreamConfig
}

// Jobs is the workers, and who looks whether they did as promised.
type Jobs struct {
	jobs.Config `mapstructure:",squash"`
	Audit       jobs.AuditConfig
}

// Logic is the deciding part with what it is asked by and what it holds against texts.
type Logic struct {
	logic.Config `mapstructure:",squash"`
	Auth         logic.AuthConfig
	People       logic.PeopleConfig
	// GRPC is where connectors in other processes reach this one.
	GRPC logic.GRPCServerConfig
	// WordsFile is the list of words that the filter masks or refuses, read again when
	// it changes (default none).
	WordsFile string
}

// Profile is the defaults that go by a name: production, dev (everything on this
// machine, embedded stores where no address is given, no limits by address) and bench
// (production without limits).
func Profile(name string) (*Config, error) {
	c := &Config{Profile: name, Roles: slices.Clone(Roles), Data: "data", Log: Log{Format: "json"}}
	switch name {
	case "":
		c.Profile = "production"
	case "production":
	case "dev":
		c.Log.Format = "text"
		c.Queue.CreateTopics = true
		c.API.Demo = true
		c.Logic.Auth.GenerateKeys = true
		c.Connector.DrainTime = -1
		c.lift()
	case "bench":
		c.Queue.CreateTopics = true
		c.Logic.Auth.GenerateKeys = true
		c.Connector.DrainTime = -1
		c.lift()
	default:
		return nil, fmt.Errorf("profile: %q is none of production, dev, bench", name)
	}
	return c, nil
}

// lift takes off the rates and caps that a load generator, or an office behind one
// address, would meet.
func (c *Config) lift() {
	c.Connector.HandshakesPerSecond = -1
	c.Connector.ConnectsPerIP = -1
	c.Connector.ConnectionsPerIP = -1
	c.Connector.MessagesPerSecond = -1
	c.Connector.ControlsPerSecond = -1
	c.Logic.SendPerSecond = -1
	c.Logic.GroupsPerMinute = -1
	c.Logic.GroupJoinsPerMinute = -1
	c.Logic.GroupChangesPerMinute = -1
	c.Logic.Auth.LoginPerMinute = -1
	c.Logic.Auth.RegisterPerMinute = -1
	c.Logic.Auth.LookupPerMinute = -1
	c.Logic.People.RequestsPerMinute = -1
}

// finish fills in what follows from other settings, where it was not set itself.
func (c *Config) finish() {
	if c.Storage.Dialect == "" && c.Storage.DSN != "" {
		c.Storage.Dialect = storage.MySQL
	}
	if c.Storage.Path == "" {
		c.Storage.Path = filepath.Join(c.Data, "curlew.db")
	}
	if c.Logic.Auth.KeysFile == "" && c.Logic.Auth.GenerateKeys {
		c.Logic.Auth.KeysFile = filepath.Join(c.Data, "signing.keys")
	}
	if c.Logic.MaxMessageBytes == 0 { // what clients are told is what the connector enforces
		c.Logic.MaxMessageBytes = c.Connector.MaxMessageBytes
	}
	if c.Connector.Heartbeat == 0 {
		c.Connector.Heartbeat = c.Logic.Heartbeat
	}
}

// Plays says whether this process has the role.
func (c *Config) Plays(r Role) bool { return slices.Contains(c.Roles, r) }

// Embedded says which stores run in this process, for want of an address.
func (c *Config) Embedded() (db, redis, kafka bool) {
	return c.Storage.DSN == "", c.Storage.Redis.Addr == "", len(c.Queue.Brokers) == 0
}

// Validate names everything that is wrong, of the parts that this process plays.
func (c *Config) Validate() error {
	var errs []error
	if len(c.Roles) == 0 {
		errs = append(errs, errors.New("roles: none given"))
	}
	for _, r := range c.Roles {
		if !slices.Contains(Roles, r) {
			errs = append(errs, fmt.Errorf("roles: %q is none of %v", r, Roles))
		}
	}
	if c.Log.Format != "json" && c.Log.Format != "text" {
		errs = append(errs, fmt.Errorf("log.format: %q is neither json nor text", c.Log.Format))
	}
	db, redis, kafka := c.Embedded()
	if c.Profile == "production" || len(c.Roles) < len(Roles) {
		why := "needed in production"
		if c.Profile != "production" {
			why = "needed where roles run in processes of their own"
		}
		for _, s := range []struct {
			key     string
			missing bool
		}{{"storage.dsn", db}, {"storage.redis.addr", redis}, {"queue.brokers", kafka}} {
			if s.missing && !(s.key != "storage.redis.addr" && c.onlyConnector()) {
				errs = append(errs, fmt.Errorf("%s: %s", s.key, why))
			}
		}
	}
	errs = append(errs, c.validateStores())
	if c.Plays(RoleConnector) {
		errs = append(errs, c.Connector.Config.Validate())
		told := c.Logic.WithDefaults().Heartbeat
		switch beat := c.Connector.Heartbeat; {
		case !c.Plays(RoleLogic):
			errs = append(errs, c.Connector.Upstream.Validate())
		case beat > 0 && beat < told:
			errs = append(errs, fmt.Errorf("connector.heartbeat: %s is below logic.heartbeat, the %s that clients are told to keep", beat, told))
		}
	}
	if c.Plays(RoleAPI) {
		errs = append(errs, c.API.Validate())
	}
	if c.Plays(RoleJobs) {
		errs = append(errs, c.Jobs.Config.Validate(), c.Jobs.Audit.Validate())
	}
	if c.Bridge() {
		errs = append(errs, c.Logic.GRPC.Validate())
	}
	if c.Profile == "dev" {
		errs = append(errs, c.loopbackOnly())
	} else if c.API.Demo {
		errs = append(errs, errors.New("api.demo: accounts for whoever asks are for the dev profile alone"))
	}
	if c.Plays(RoleLogic) || c.Plays(RoleAPI) {
		errs = append(errs, c.Logic.Config.Validate(), c.Logic.Auth.Validate())
	}
	errs = append(errs, c.Admin.Validate())
	return errors.Join(errs...)
}

// validateStores looks at the stores that have an address; for the rest the defaults do.
func (c *Config) validateStores() error {
	var errs []error
	db, redis, kafka := c.Embedded()
	if !c.onlyConnector() {
		errs = append(errs, c.Storage.DBConfig.Validate())
		if !db && c.Storage.Dialect != storage.MySQL {
			errs = append(errs, fmt.Errorf("storage.dialect: %s does not go with storage.dsn", c.Storage.Dialect))
		}
		if !kafka {
			errs = append(errs, c.Queue.Validate())
		}
	}
	if !redis {
		errs = append(errs, c.Storage.Redis.WithDefaults().Validate())
	}
	return errors.Join(errs...)
}

// Bridge says that connectors of other processes call this one.
func (c *Config) Bridge() bool { return c.Plays(RoleLogic) && !c.Plays(RoleConnector) }

// loopbackOnly keeps the dev profile, which gives accounts to whoever asks and lifts
// the limits, on this machine.
func (c *Config) loopbackOnly() error {
	for key, addr := range map[string]string{"api.listen": c.API.Listen, "connector.listen": c.Connector.Listen} {
		host, _, err := net.SplitHostPort(addr)
		if addr == "" || err != nil { // the default, or named by Validate
			continue
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("%s: %s is not a loopback address, and the dev profile serves no other", key, addr)
		}
	}
	return nil
}

func (c *Config) onlyConnector() bool { return len(c.Roles) == 1 && c.Roles[0] == RoleConnector }
