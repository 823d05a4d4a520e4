package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sample is what scripts/bench appends, shortened: two runs, the last of which counts.
const sample = `{"about":{},"results":[{"scenario":"pairs","unit":"message","per_second":1,"delay_ms":{"p50":1,"p99":2},"costs":{"server_cpu_us":1}}]}
{"about":{},"results":[{"scenario":"pairs","unit":"message","per_second":15000,"delay_ms":{"p50":1,"p99":2},"costs":{"server_cpu_us":84}},
 {"scenario":"idle","unit":"connection","costs":{},"extra":{"connector RSS, KB a connection":0.9}},
 {"scenario":"connect","unit":"connection","per_second":4100,"costs":{"server_cpu_us":240}}],
 "curves":[{"curve":"rows","axis":"rows <&> more","points":[
  {"x":10000,"result":{"unit":"message","costs":{"server_cpu_us":90,"cpu_us":{"jobs":20,"generator":9},"redis_commands":5,"mysql_statements":0.1}}},
  {"x":10000000,"result":{"unit":"message","costs":{"server_cpu_us":120,"cpu_us":{"jobs":25,"generator":9},"redis_commands":6,"mysql_statements":0}}}]}]}
`

func TestRun_DrawsWhatTheLinesHold(t *testing.T) {
	in, out := filepath.Join(t.TempDir(), "lines.json"), t.TempDir()
	if err := os.WriteFile(in, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	names, err := run(in, out)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	if want := []string{filepath.Join(out, "growth-rows.svg"), filepath.Join(out, "peers.svg")}; !slices.Equal(names, want) {
		t.Fatalf("%v", names)
	}
	for i, shown := range [][]string{
		{"Costs of a message against rows <&> more", "all of the server 120", "jobs 25", "10k", "10M"},
		{"Tinode 0.25", "15k", "84", "not measured", "Curlew"},
	} {
		text := textOf(t, names[i])
		for _, s := range shown {
			if !strings.Contains(text, s) {
				t.Errorf("%s does not show %q", names[i], s)
			}
		}
	}
}

// textOf is all text of a picture, which must be XML with numbers for places.
func textOf(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(b); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
		t.Errorf("%s has a place that is no number", name)
	}
	var text strings.Builder
	for dec := xml.NewDecoder(strings.NewReader(string(b))); ; {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return text.String()
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c, ok := tok.(xml.CharData); ok {
			text.WriteString(string(c) + "\n")
		}
	}
}

func TestScale_IsLogarithmicWhereDecadesAreSpanned(t *testing.T) {
	linear := scaleOf([]float64{54, 85, math.NaN()}, 0, 100)
	if linear.log || linear.low != 0 || linear.high != 100 || linear.at(50) != 50 {
		t.Errorf("%+v", linear)
	}
	log := scaleOf([]float64{0, 0.8, 612}, 0, 100)
	if !log.log || log.low != 0.1 || log.high != 1000 || math.Abs(log.at(10)-50) > 1e-9 || log.at(0) != 0 {
		t.Errorf("%+v", log)
	}
	if none := scaleOf([]float64{0, 0}, 0, 100); none.at(0) != 0 || len(none.ticks()) == 0 {
		t.Errorf("%+v", none)
	}
}

func TestShort_HasThreeDigitsAtMost(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.012: "0.012", 0.25: "0.25", 9.04: "9.04", 85: "85", 612.4: "612", 2215: "2220", 20400: "20.4k", 140000: "140k", 1e7: "10M"} {
		if got := short(v); got != want {
			t.Errorf("%g is %q, not %q", v, got, want)
		}
	}
}
