// Package scripts holds what looks at the whole house.
package scripts

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/curlew-im/curlew"

// allowed lists the arrows between the floors; whatever is not here is a wall. main
// and the scripts may see everything.
var allowed = map[string][]string{
	"logic/im":       {},
	"logic/im/joint": {},
	"api/protocol":   {"logic/im"},
	"connector":      {"logic/im", "api/protocol"},
	"logic":          {"logic/im", "api/protocol"},
	"jobs/queue":     {"logic/im", "api/protocol"},
	"jobs":           {"logic/im", "logic/im/joint", "api/protocol", "jobs/queue"},
	"storage":        {"logic/im", "logic/im/joint", "api/protocol"},
	"api":            {"logic/im", "api/protocol", "logic", "api/web"},
	"api/admin":      {"logic/im", "api/protocol"},
	"api/web":        {},
	"client":         {"logic/im", "api/protocol"},
	"configs":        {"connector", "logic", "jobs", "jobs/queue", "storage", "api", "api/admin"},
}

func TestFloorplan_ArrowsAreThoseDrawn(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		from := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if from == "" || from == "scripts" || strings.HasPrefix(from, "scripts/") {
			continue
		}
		walls, known := allowed[from]
		if !known {
			t.Errorf("package %s is not on the floor plan", from)
			continue
		}
		may := map[string]bool{}
		for _, to := range walls {
			may[to] = true
		}
		for _, imp := range p.Imports {
			if to, ours := strings.CutPrefix(imp, module+"/"); ours && !may[to] {
				t.Errorf("%s imports %s", from, to)
			}
		}
	}
}
