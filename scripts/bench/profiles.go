package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// profiles has each process of the engine take a CPU profile for as long as the run is
// measured, which costs it a few per cent.
func (b *bench) profile(ctx context.Context, name string, span time.Duration) (wait func() error) {
	if b.profiles == "" {
		return func() error { return nil }
	}
	var taken sync.WaitGroup
	errs := make([]error, len(b.engine.nodes))
	for i, n := range b.engine.nodes {
		taken.Go(func() {
			file := filepath.Join(b.profiles, fmt.Sprintf("%s-%s-%d.pprof", name, n.role, i))
			errs[i] = n.profile(ctx, file, span)
		})
	}
	return func() error {
		taken.Wait()
		return errors.Join(errs...)
	}
}

// profile is one process's, of whole seconds.
func (n *node) profile(ctx context.Context, file string, span time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, span+10*time.Second)
	defer cancel()
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", n.admin, max(1, int(span.Seconds())))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("profile of %s: %s", n.role, res.Status)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Close())
}
