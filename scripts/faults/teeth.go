package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// teethFiles are seeded bugs. Each file says what it is, under which faults it shows and
// as which classes, and what text of which file is replaced by what:
//
//	faults: F15, F28
//	finds: lost
//	set: jobs.realtime.strands=4
//	sql: ALTER TABLE …
//	undo: ALTER TABLE …
//	quick
//	file: jobs/queue/produce.go
//	<<<<
//	old text
//	====
//	new text
//	>>>>
//
// The product has no line of it: the changed copies are given to go build -overlay.
//
//go:embed teeth
var teethFiles embed.FS

// tooth is one seeded bug, which the suite must find.
type tooth struct {
	name, about   string
	faults, finds []string
	set           map[string]string
	sql, undo     string
	quick         bool // costs no build: a quick run has it too
	edits         []edit
}

// edit replaces old, which must be in the file once.
type edit struct{ file, old, new string }

func readTeeth() (all []tooth, err error) {
	files, err := teethFiles.ReadDir("teeth")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := teethFiles.ReadFile("teeth/" + f.Name())
		if err != nil {
			return nil, err
		}
		t, err := parseTooth(strings.TrimSuffix(f.Name(), ".txt"), string(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		all = append(all, t)
	}
	return all, nil
}

func parseTooth(name, s string) (t tooth, err error) {
	t = tooth{name: name, set: make(map[string]string)}
	list := func(s string) []string { return strings.Fields(strings.ReplaceAll(s, ",", " ")) }
	file := ""
	for s != "" {
		line, rest, _ := strings.Cut(s, "\n")
		s = rest
		key, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "<<<<":
			old, rest, ok := strings.Cut(s, "====\n")
			if !ok {
				return t, fmt.Errorf("%s: no ====", file)
			}
			new, rest, ok := strings.Cut(rest, ">>>>\n")
			if !ok || file == "" {
				return t, fmt.Errorf("%q: no >>>> or no file", file)
			}
			t.edits = append(t.edits, edit{file, old, new})
			s = rest
		case key == "faults":
			t.faults = list(value)
		case key == "finds":
			t.finds = list(value)
		case key == "set":
			k, v, _ := strings.Cut(value, "=")
			t.set[k] = v
		case key == "sql":
			t.sql = value
		case line == "quick":
			t.quick = true
		case key == "undo":
			t.undo = value
		case key == "file":
			file = value
		default:
			t.about = strings.TrimSpace(t.about + " " + line)
		}
	}
	for _, class := range t.finds {
		if !slices.Contains(classes, class) {
			return t, fmt.Errorf("no class is called %q", class)
		}
	}
	if t.about == "" || len(t.faults) == 0 || len(t.finds) == 0 || len(t.edits) == 0 && t.sql == "" {
		return t, fmt.Errorf("says too little")
	}
	return t, nil
}

// seed applies the edits to copies of the sources; the tree stays as it is.
func (t *tooth) seed(root string) (map[string][]byte, error) {
	seeded := make(map[string][]byte)
	for _, e := range t.edits {
		b := seeded[e.file]
		if b == nil {
			var err error
			if b, err = os.ReadFile(filepath.Join(root, e.file)); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(b, []byte(e.old)); n != 1 {
			return nil, fmt.Errorf("%s: %s has this %d times, not once:\n%s", t.name, e.file, n, e.old)
		}
		seeded[e.file] = bytes.Replace(b, []byte(e.old), []byte(e.new), 1)
	}
	return seeded, nil
}

// overlay writes the seeded sources to dir and returns the file that go build -overlay
// reads.
func (t *tooth) overlay(root, dir string) (string, error) {
	seeded, err := t.seed(root)
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for file, b := range seeded {
		at := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(at, b, 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = at
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	at := filepath.Join(dir, "overlay.json")
	return at, os.WriteFile(at, b, 0o600)
}
