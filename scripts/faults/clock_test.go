package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The engine of F26 is built from the Go that builds everything else: where that has
// changed, it is to be said before a run.
func TestStepNow_FitsThisGo(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("no go command:", err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	stepped, err := stepNow(source)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stepNow(stepped[:len(stepped)/4]); err == nil {
		t.Error("a time.go without Now was taken")
	}
	if n := strings.Count(string(stepped), "faultsStep()"); n != 1 {
		t.Errorf("Now has %d steps, not one", n)
	}
}

func TestBearing_IsJudgedByTheClockOfWhoIsAsked(t *testing.T) {
	api := &process{role: "api"}
	now := time.Now()
	day, short := bearing{issued: now, expire: now.Add(24 * hour)}, bearing{issued: now, expire: now.Add(endsIn)}
	ahead := bearing{issued: now.Add(hour), expire: now.Add(25 * hour)}
	for _, c := range []struct {
		about string
		token bearing
		step  time.Duration
		want  opinion
	}{
		{"a long one", day, 0, good},
		{"a long one, by a clock an hour ahead", day, hour, good},
		{"a long one, by a clock 20 s behind", day, -20 * time.Second, good},
		{"a long one, by a clock an hour behind", day, -hour, bad},
		{"a short one", short, 0, good},
		{"a short one, by a clock an hour ahead", short, hour, bad},
		{"one issued an hour ahead", ahead, 0, bad},
		{"one issued an hour ahead, where it was issued", ahead, hour, good},
		{"one at the leeway", bearing{issued: now.Add(leeway), expire: now.Add(hour)}, 0, either},
	} {
		if got := c.token.judged(nil, api, map[*process]time.Duration{api: c.step}); got != c.want {
			t.Errorf("%s: %d, want %d", c.about, got, c.want)
		}
	}
}

func TestJumps_StepsTogetherStayWithinTheLeeway(t *testing.T) {
	for _, j := range jumps {
		if far := aside * time.Duration(-j.times); far > leeway-5*time.Second {
			t.Errorf("%s: %s", j.about, far)
		}
	}
}
