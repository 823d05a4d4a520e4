// Package services runs scripts/services for commands that have stores of their own.
package services

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Services are a Redis, a MariaDB and a Kafka that a command starts for itself.
type Services struct {
	Root string   // of the project
	Data string   // folder of the stores
	Env  []string // ports and sizes: CURLEW_SERVICES_…=…
}

// Run runs one command of scripts/services; what it says goes into the error.
func (s *Services) Run(ctx context.Context, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.Root, "scripts", "services"), command...)
	cmd.Env = append(os.Environ(), "CURLEW_SERVICES_DATA="+s.Data)
	cmd.Env = append(cmd.Env, s.Env...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/services %v: %w\n%s", command, err, said.String())
	}
	return string(out), nil
}

// Addresses are what `scripts/services env` exports: CURLEW_REDIS_ADDR and its like.
func (s *Services) Addresses(ctx context.Context) (map[string]string, error) {
	out, err := s.Run(ctx, "env")
	if err != nil {
		return nil, err
	}
	env := make(map[string]string)
	for line := range strings.Lines(out) {
		k, v, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		env[k] = strings.Trim(v, "'")
	}
	return env, nil
}

// Foreign is this process's environment without what is said to Curlew.
func Foreign() (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "CURLEW_") {
			env = append(env, kv)
		}
	}
	return env
}

// Answers says whether a process answers with 200 there.
func Answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}
