package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// print shows a curve as a table.
func (c Curve) print(w io.Writer) {
	if len(c.Points) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s: costs of a %s, CPU in µs\n", c.Name, c.Points[0].Result.Unit)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	roles := byName(c.Points[0].Result.Costs.CPU)
	fmt.Fprintf(t, "%s\tserver\t", c.Name)
	for _, role := range roles {
		fmt.Fprintf(t, "%s\t", role)
	}
	fmt.Fprint(t, "statements\tcommands\tMySQL B\tRedis B\tKafka B\trecords a batch\tper second\tp50 ms\t\n")
	for _, p := range c.Points {
		r := p.Result
		fmt.Fprintf(t, "%d\t%.1f\t", p.X, r.Costs.ServerCPU)
		for _, role := range roles {
			fmt.Fprintf(t, "%.1f\t", r.Costs.CPU[role])
		}
		fmt.Fprintf(t, "%.3f\t%.2f\t%.0f\t%.0f\t%.0f\t%.1f\t%.0f\t%.1f\t\n", r.Costs.Statements, r.Costs.Commands,
			r.Costs.Bytes["mysql"], r.Costs.Bytes["redis"], r.Costs.Bytes["kafka"], r.Costs.Batch, r.Rate, r.Delay.P50)
	}
	t.Flush()
}
