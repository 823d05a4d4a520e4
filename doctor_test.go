package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/configs"
)

func TestExamine_NamesTheFileThatIsBroken(t *testing.T) {
	dir := t.TempDir()
	words := filepath.Join(dir, "words")
	if err := os.WriteFile(words, []byte("fine\nreject:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		set  map[string]string
		well bool
		want []string
	}{
		{"a newcomer's machine", map[string]string{"data": dir}, true, []string{"ok      signing keys", "ok      database"}},
		{"keys that nobody made", map[string]string{"data": dir, "logic.auth.generate_keys": "false", "logic.auth.keys_file": filepath.Join(dir, "none")},
			false, []string{"broken  signing keys in " + filepath.Join(dir, "none"), "mend: a line of id:secret"}},
		{"a bad line", map[string]string{"data": dir, "logic.words_file": words}, false, []string{"broken  word list in " + words + ": line 2"}},
	} {
		cfg, err := configs.Load(configs.Sources{Set: c.set})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var out strings.Builder
		if well := examine(t.Context(), cfg, &out); well != c.well {
			t.Errorf("%s: well %v\n%s", c.name, well, &out)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, &out)
			}
		}
	}
}
