package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is one run of one scenario.
type Result struct {
	Scenario string  `json:"scenario"`
	Setting  string  `json:"setting"`
	Unit     string  `json:"unit"` // what is counted: message, delivery, connection, page …
	Seconds  float64 `json:"seconds"`
	Units    int64   `json:"units"`
	Rate     float64 `json:"per_second"`
	Delay    Delay   `json:"delay_ms"`
	Costs    Costs   `json:"costs"` // per unit
	Faults   Faults  `json:"faults"`
	// Extra are figures that only this scenario has, by name.
	Extra map[string]float64 `json:"extra,omitempty"`
	// Weights are of memory.
	Weights *unitCosts `json:"weights,omitempty"`
	// Stages are of scale.
	Stages []Stage `json:"stages,omitempty"`
}

// Delay is how long a unit took, ms.
type Delay struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func delayOf(h *hdrhistogram.Histogram) Delay {
	ms := func(us int64) float64 { return float64(us) / 1e3 }
	return Delay{ms(h.ValueAtQuantile(50)), ms(h.ValueAtQuantile(95)), ms(h.ValueAtQuantile(99)), ms(h.Max())}
}

// result fills in what all scenarios have.
func (b *bench) result(name, unit string, from, to costs, units int64, h *hdrhistogram.Histogram) Result {
	seconds := to.at.Sub(from.at).Seconds()
	return Result{
		Scenario: name, Unit: unit, Seconds: seconds, Units: units, Rate: float64(units) / seconds,
		Delay: delayOf(h), Costs: between(from, to, units),
	}
}

// print shows a result to a reader.
func (r Result) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s\n", r.Scenario, r.Setting)
	fmt.Fprintf(w, "  %.0f %s a second (%d in %.1f s); delay p50 %.1f  p95 %.1f  p99 %.1f  max %.0f ms\n",
		r.Rate, plural(r.Unit), r.Units, r.Seconds, r.Delay.P50, r.Delay.P95, r.Delay.P99, r.Delay.Max)
	fmt.Fprintf(w, "  CPU µs each: server %.1f", r.Costs.ServerCPU)
	for _, role := range byName(r.Costs.CPU) {
		fmt.Fprintf(w, "  %s %.1f", role, r.Costs.CPU[role])
	}
	for _, role := range byName(r.Costs.Least) {
		fmt.Fprintf(w, "; least busy %s %.2f of an even share", role, r.Costs.Least[role])
	}
	fmt.Fprintf(w, "\n  reads and writes each:")
	for _, role := range byName(r.Costs.Syscalls) {
		fmt.Fprintf(w, "  %s %.2f", role, r.Costs.Syscalls[role])
	}
	c := r.Costs
	fmt.Fprintf(w, "\n  each: publishes %.3f  Redis commands %.2f  statements %.3f  fsyncs %.3f; records a batch %.1f, a produce request %.1f\n",
		c.Publishes, c.Commands, c.Statements, c.Fsyncs, c.Batch, c.Request)
	fmt.Fprintf(w, "  bytes read and written each:")
	for _, role := range byName(c.Bytes) {
		fmt.Fprintf(w, "  %s %.0f", role, c.Bytes[role])
	}
	fmt.Fprintln(w)
	for _, name := range byName(r.Extra) {
		fmt.Fprintf(w, "  %s %.4g\n", name, r.Extra[name])
	}
	if r.Weights != nil {
		r.Weights.print(w)
	}
	printStages(w, r.Stages)
	fmt.Fprintf(w, "  %s\n", r.Faults)
}

func plural(unit string) string {
	if strings.HasSuffix(unit, "y") {
		return strings.TrimSuffix(unit, "y") + "ies"
	}
	return unit + "s"
}

func byName[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// line is everything of a run as one line of JSON.
func line(w io.Writer, about About, results []Result, floors []Floor, curves []Curve) error {
	return json.NewEncoder(w).Encode(struct {
		About   About    `json:"about"`
		Results []Result `json:"results"`
		Floors  []Floor  `json:"floors,omitempty"`
		Curves  []Curve  `json:"curves,omitempty"`
	}{about, results, floors, curves})
}
