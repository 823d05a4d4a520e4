// Curlew is an instant-messaging engine. This command runs it: all roles in one
// process on embedded stores where nothing is configured, or roles of their own on
// real Redis, MySQL and Kafka.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/configs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends at once: what is lost then is what a crash loses, nothing.
	context.AfterFunc(ctx, stop)
	if err := command(os.Stdout).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "curlew:", err)
		os.Exit(1)
	}
}

// command is the command line.
func command(out io.Writer) *cobra.Command {
	var file, profile string
	var roles, set []string
	given := func() (map[string]string, error) {
		values := map[string]string{}
		for _, kv := range set {
			key, value, ok := strings.Cut(kv, "=")
			if !ok {
				return nil, fmt.Errorf("--set %q is not key=value", kv)
			}
			values[key] = value
		}
		if profile != "" {
			values["profile"] = profile
		}
		if len(roles) > 0 {
			values["roles"] = strings.Join(roles, ",")
		}
		return values, nil
	}
	load := func() (*configs.Config, error) {
		values, err := given()
		if err != nil {
			return nil, err
		}
		return configs.FromEnvironment(file, values)
	}
	listener := func() (admin.Config, error) {
		values, err := given()
		if err != nil {
			return admin.Config{}, err
		}
		return configs.AdminFromEnvironment(file, values)
	}
	root := &cobra.Command{
		Use:           "curlew",
		Short:         "An instant-messaging engine: run it, all roles or some",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			app, err := NewApp(cmd.Context(), cfg, newLogger(cfg.Log))
			if err != nil {
				return err
			}
			paceCollector()
			go giveBack(cmd.Context(), idleAfter)
			app.Greet(out)
			return app.Run(cmd.Context())
		},
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&file, "config", "c", "", "configuration file (YAML; see configs/curlew.example.yaml)")
	flags.StringVar(&profile, "profile", "", "production, dev or bench (default dev where no store is given, else production)")
	flags.StringSliceVar(&roles, "roles", nil, "roles of this process: connector, logic, jobs, api (default all)")
	flags.StringArrayVar(&set, "set", nil, "one setting, as logic.heartbeat=10s; may be repeated")
	root.AddCommand(
		&cobra.Command{
			Use: "migrate", Short: "Bring the database's schema and Kafka's topics to this version", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := load()
				if err != nil {
					return err
				}
				return migrate(cmd.Context(), cfg, newLogger(cfg.Log), out)
			},
		},
		&cobra.Command{
			Use: "doctor", Short: "Name what is broken, of stores and settings, and how to mend it", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := load()
				if err != nil {
					return fmt.Errorf("the configuration is broken: %w", err)
				}
				if !examine(cmd.Context(), cfg, out) {
					return errors.New("something is broken")
				}
				return nil
			},
		},
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs,
			Run: func(*cobra.Command, []string) { fmt.Fprintln(out, version()) },
		},
	)
	root.AddCommand(operatorCommands(listener, out)...)
	return root
}

func newLogger(cfg configs.Log) *slog.Logger {
	opt := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(os.Stderr, opt))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, opt))
}

// version is the module's version or commit, the Go release and the platform.
func version() string {
	v := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		v = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && v == "(devel)" {
				v = s.Value
			}
		}
	}
	return fmt.Sprintf("curlew %s %s %s/%s", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
