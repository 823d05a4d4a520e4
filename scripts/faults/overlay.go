package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
)

// buildOver builds the engine into dir with some files replaced, or added, by path.
func buildOver(ctx context.Context, root, dir string, files map[string][]byte) (binary string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for path, b := range files {
		replace[path] = filepath.Join(dir, strconv.Itoa(len(replace))+"-"+filepath.Base(path))
		if err := os.WriteFile(replace[path], b, 0o600); err != nil {
			return "", err
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		return "", err
	}
	binary = filepath.Join(dir, "curlew")
	return binary, build(ctx, root, binary, "-overlay", overlay)
}

// over has all processes begin anew with another binary.
func (c *cluster) over(ctx context.Context, binary string) error {
	c.binary = binary
	for _, p := range c.procs {
		p.kill()
	}
	return c.whole(ctx)
}
