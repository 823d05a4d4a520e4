package configs

import (
	"encoding"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"

	"github.com/curlew-im/curlew/api/admin"
)

// EnvPrefix begins every environment variable: logic.send_per_second is
// CURLEW_LOGIC_SEND_PER_SECOND. Lists are separated by commas.
const EnvPrefix = "CURLEW_"

// Sources says where a configuration comes from; each later one wins.
type Sources struct {
	File string            // YAML; empty: none
	Env  []string          // "KEY=value", as from os.Environ
	Set  map[string]string // from flags, by dotted path
}

// Load starts from the profile named in the sources (default production; dev where
// there is no file and no store's address), reads them in order and validates the
// result. Unknown keys are errors that name the key.
func Load(src Sources) (*Config, error) {
	cfg, err := read(src)
	if err != nil {
		return nil, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return cfg, nil
}

// read is Load without the validation.
func read(src Sources) (*Config, error) {
	k := koanf.New(".")
	if src.File != "" {
		if err := k.Load(file.Provider(src.File), yaml.Parser()); err != nil {
			return nil, fmt.Errorf("read %s: %w", src.File, err)
		}
	}
	over := map[string]any{}
	byEnv := make(map[string]string)
	for _, path := range Paths() {
		byEnv[EnvName(path)] = path
	}
	for name, path := range spoken {
		byEnv[EnvPrefix+name] = path
	}
	for _, kv := range src.Env {
		name, value, _ := strings.Cut(kv, "=")
		path, ours := byEnv[name]
		switch {
		case name == EnvPrefix+"SERVER_KEY":
			id, secret, _ := strings.Cut(value, ":")
			over[path] = []map[string]any{{"id": id, "secret": secret}}
		case ours && value != "":
			over[path] = value
		}
	}
	for path, value := range src.Set {
		over[path] = value
	}
	if err := k.Load(confmap.Provider(over, "."), nil); err != nil {
		return nil, fmt.Errorf("read environment and flags: %w", err)
	}
	name := k.String("profile")
	if name == "" && src.File == "" && !k.Exists("storage.dsn") && !k.Exists("storage.redis.addr") && !k.Exists("queue.brokers") {
		name = "dev" // nothing was said about where anything is: `go run .`
	}
	cfg, err := Profile(name)
	if err != nil {
		return nil, err
	}
	dec, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result:           cfg,
		ErrorUnused:      true,
		WeaklyTypedInput: true, // the environment has only strings
		MatchName:        func(key, field string) bool { return key == snake(field) },
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.TextUnmarshallerHookFunc(),
			splitLists,
		),
	})
	if err != nil {
		return nil, fmt.Errorf("configuration decoder: %w", err)
	}
	if err := dec.Decode(k.Raw()); err != nil {
		return nil, fmt.Errorf("configuration: %s", inKeys(err.Error()))
	}
	cfg.finish()
	return cfg, nil
}

// splitLists reads "a,b" as a list of strings, of whatever type they are. A list of
// anything else has one element then.
func splitLists(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.String || to.Kind() != reflect.Slice || to.Elem().Kind() != reflect.String {
		return data, nil
	}
	if data == "" {
		return []string{}, nil
	}
	return strings.Split(data.(string), ","), nil
}

// spoken are the names under which the stores' addresses go elsewhere too: in
// scripts/services and compose.yaml. SERVER_KEY is one key as id:secret.
var spoken = map[string]string{
	"MYSQL_DSN":       "storage.dsn",
	"MYSQL_ADMIN_DSN": "storage.admin_dsn",
	"REDIS_ADDR":      "storage.redis.addr",
	"REDIS_USER":      "storage.redis.username",
	"REDIS_PASSWORD":  "storage.redis.password",
	"KAFKA_ADDRS":     "queue.brokers",
	"SERVER_KEY":      "logic.auth.server_keys",
	// Of scripts/services, for its clusters.
	"KAFKA_REPLICATION": "queue.replication",
}

// FromEnvironment is Load with the process's own environment.
func FromEnvironment(path string, set map[string]string) (*Config, error) {
	src, err := environment(path, set)
	if err != nil {
		return nil, err
	}
	return Load(src)
}

// AdminFromEnvironment is what is said of the admin listener, for who only asks it: of the
// rest, which a process needs to run, nothing is validated.
func AdminFromEnvironment(path string, set map[string]string) (admin.Config, error) {
	src, err := environment(path, set)
	if err != nil {
		return admin.Config{}, err
	}
	cfg, err := read(src)
	if err != nil {
		return admin.Config{}, err
	}
	if err := cfg.Admin.Validate(); err != nil {
		return admin.Config{}, fmt.Errorf("configuration: %w", err)
	}
	return cfg.Admin, nil
}

func environment(path string, set map[string]string) (Sources, error) {
	if path != "" {
		if _, err := os.Stat(path); err != nil {
			return Sources{}, fmt.Errorf("configuration file: %w", err)
		}
	}
	return Sources{File: path, Env: os.Environ(), Set: set}, nil
}

var fieldPath = regexp.MustCompile(`'[A-Z]\w*(\.\w+)*'`)

// inKeys names settings as the file does: the decoder says 'Logic.Heartbeat'.
func inKeys(text string) string {
	return fieldPath.ReplaceAllStringFunc(text, func(path string) string {
		parts := strings.Split(strings.Trim(path, "'"), ".")
		for i, p := range parts {
			parts[i] = snake(p)
		}
		return strings.Join(parts, ".")
	})
}

// EnvName is the environment variable of a dotted path.
func EnvName(path string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// Paths lists every setting by its dotted path.
func Paths() []string { return paths("", reflect.TypeFor[Config]()) }

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

func paths(prefix string, t reflect.Type) []string {
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() || f.Type.Kind() == reflect.Func || f.Type.Kind() == reflect.Interface || f.Tag.Get("config") == "-" {
			continue
		}
		if f.Anonymous { // a part whose settings stand beside its neighbours
			all = append(all, paths(prefix, f.Type)...)
			continue
		}
		p := prefix + snake(f.Name)
		if f.Type.Kind() == reflect.Struct && !reflect.PointerTo(f.Type).Implements(textType) {
			all = append(all, paths(p+".", f.Type)...)
			continue
		}
		all = append(all, p)
	}
	return all
}

// snake turns a field's name into its key: OutboxLimit → outbox_limit, MySQLDSN →
// mysql_dsn. Runs of capitals stay together.
func snake(name string) string {
	if s, special := spelled[name]; special {
		return s
	}
	var b strings.Builder
	for i, r := range name {
		upper := r >= 'A' && r <= 'Z'
		if upper && i > 0 {
			prevLower := name[i-1] < 'A' || name[i-1] > 'Z'
			nextLower := i+1 < len(name) && name[i+1] >= 'a' && name[i+1] <= 'z'
			if prevLower || nextLower {
				b.WriteByte('_')
			}
		}
		if upper {
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// spelled are the names whose capitals do not tell where the words end.
var spelled = map[string]string{
	"MySQL": "mysql", "SQLite": "sqlite", "DSN": "dsn", "MySQLDSN": "mysql_dsn",
	"ConnectsPerIP": "connects_per_ip", "ConnectionsPerIP": "connections_per_ip",
	"AdminDSN": "admin_dsn", "SocketURL": "socket_url", "AccessTTL": "access_ttl", "RefreshTTL": "refresh_ttl",
}
