package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/scripts/devtest"
	"github.com/curlew-im/curlew/scripts/devtest/ports"
)

// An excerpt of real chat is replayed, to people directly and in a group, over two
// connectors: the line it ends with is all zeros.
func TestReplay_ExcerptOverTwoConnectors(t *testing.T) {
	t.Parallel()
	command := filepath.Join(t.TempDir(), "replay")
	if out, err := exec.Command("go", "build", "-o", command, "./scripts/replay").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	s := devtest.Start(t)
	between := bridge(ports.Free(t))
	core := between.engine(t, s, configs.RoleJobs, configs.RoleLogic, configs.RoleAPI)
	sockets := between.engine(t, s, configs.RoleConnector).socket + "," + between.engine(t, s, configs.RoleConnector).socket
	for _, mode := range []string{"direct", "groups"} {
		cmd := exec.CommandContext(t.Context(), command, "-mode", mode, "-data", "scripts/replay/testdata",
			"-addr", core.http, "-socket", sockets, "-key", devtest.ServerKeyID+":"+devtest.ServerKeySecret)
		out, err := cmd.CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err != nil {
			t.Fatalf("%s: %v\n%s", mode, err, strings.Join(lines[max(0, len(lines)-15):], "\n"))
		}
		t.Log(lines[len(lines)-1])
	}
}
