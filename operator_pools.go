package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/logic/im"
)

const poolsPath = "/v1/admin/pools"

// poolsCommand shows worker pools and turns them while they run.
func (o *operator) poolsCommand() *cobra.Command {
	var watch, steps bool
	pools := &cobra.Command{
		Use: "pools", Short: "Show the worker pools of all processes, and what limits them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.pools(cmd.Context(), watch, steps) },
	}
	pools.Flags().BoolVar(&watch, "watch", false, "again each second")
	pools.Flags().BoolVar(&steps, "steps", false, "also how long each step of a batch takes")
	var process string
	set := &cobra.Command{
		Use: "set LANE KNOB=VALUE…", Short: "Turn knobs of a lane's pools (size, batch, linger, strands, window_records, attempts, backoff_min, backoff_max)",
		Example: "  curlew pools set realtime size=32 linger=5ms",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.setPool(cmd.Context(), args[0], process, args[1:])
		},
	}
	reset := &cobra.Command{
		Use: "reset LANE", Short: "Have a lane's pools as configured again", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.ask(cmd.Context(), http.MethodDelete, poolsPath+"/"+url.PathEscape(args[0])+"?process="+url.QueryEscape(process), nil, nil)
		},
	}
	for _, c := range []*cobra.Command{set, reset} {
		c.Flags().StringVar(&process, "process", "", "in this process alone, for as long as it lives (default all, until reset)")
	}
	pools.AddCommand(set, reset)
	return pools
}

// pools writes a line for each pool.
func (o *operator) pools(ctx context.Context, watch, steps bool) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var p admin.Pools
		if err := o.ask(ctx, http.MethodGet, poolsPath, nil, &p); err != nil {
			return err
		}
		if watch {
			fmt.Fprint(o.out, "\x1b[H\x1b[2J") // from the top of an empty screen
		}
		if err := o.showPools(p, steps); err != nil {
			return err
		}
		if !watch {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (o *operator) showPools(p admin.Pools, steps bool) error {
	if p.Partial {
		fmt.Fprintln(o.out, "Redis does not answer: these are the pools of the process asked.")
	}
	rows := make([][]string, len(p.Pools))
	for i, r := range p.Pools {
		s := r.Settings
		stands := fmt.Sprint(len(r.Partitions))
		if n := len(r.Stopped); n > 0 {
			stands += fmt.Sprintf(" (%d stopped)", n)
		}
		commit, project, push := r.Steps["archive"], r.Steps["project"], r.Steps["push"]
		rows[i] = []string{
			r.Process, string(r.Lane), stands, fmt.Sprint(r.LagRecords), fmt.Sprintf("%.1fs", r.LagSeconds), fmt.Sprintf("%.0f", r.Rate),
			fmt.Sprintf("%d/%d", r.Busy, s.Size), fmt.Sprint(r.Waiting), fmt.Sprintf("%.0f/%.0f", r.BatchP50, r.BatchP99),
			quantiles(commit), quantiles(project), quantiles(push),
			fmt.Sprintf("batch=%d linger=%s strands=%d window=%d attempts=%d backoff=%s-%s", s.Batch, s.Linger, s.Strands, s.WindowRecords, s.Attempts, s.BackoffMin, s.BackoffMax),
		}
	}
	if err := o.table([]string{"PROCESS", "LANE", "PARTITIONS", "LAG", "AGE", "RATE/S", "BUSY", "WAIT", "BATCH p50/p99", "STORE ms", "PROJECT ms", "PUSH ms", "SETTINGS"}, rows); err != nil {
		return err
	}
	for _, r := range p.Pools {
		if a := r.Advice; a != nil && a.Bottleneck != "none" {
			fmt.Fprintf(o.out, "%s %s is limited by %s: %s. Turn: %s\n", r.Process, r.Lane, a.Bottleneck, a.Why, a.Knob)
		}
	}
	if !steps {
		return nil
	}
	var all [][]string
	for _, r := range p.Pools {
		names := make([]string, 0, len(r.Steps))
		for name := range r.Steps {
			names = append(names, name)
		}
		sort.Slice(names, func(i, j int) bool { return r.Steps[names[i]].Share > r.Steps[names[j]].Share })
		for _, name := range names {
			s := r.Steps[name]
			all = append(all, []string{r.Process, string(r.Lane), name, fmt.Sprint(s.Count), quantiles(s), fmt.Sprintf("%.0f%%", 100*s.Share)})
		}
	}
	return o.table([]string{"PROCESS", "LANE", "STEP", "COUNT", "p50/p99 ms", "OF THE TIME AT WORK"}, all)
}

func quantiles(s im.StepReport) string {
	if s.Count == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f/%.1f", s.P50, s.P99)
}

func (o *operator) setPool(ctx context.Context, lane, process string, knobs []string) error {
	patch, err := knobPatch(knobs)
	if err != nil {
		return err
	}
	var changed admin.PoolChanged
	if err := o.ask(ctx, http.MethodPatch, poolsPath+"/"+url.PathEscape(lane), admin.PoolChange{Process: process, Settings: patch}, &changed); err != nil {
		return err
	}
	for _, p := range changed.Pools {
		b, err := json.Marshal(p.Settings)
		if err != nil {
			return err
		}
		fmt.Fprintf(o.out, "%s %s: %s\n", p.Process, p.Lane, b)
	}
	return nil
}

// knobPatch reads knob=value; the listener says which are knobs.
func knobPatch(knobs []string) (patch admin.PoolPatch, err error) {
	fields := make(map[string]any, len(knobs))
	for _, k := range knobs {
		name, value, ok := strings.Cut(k, "=")
		if !ok || value == "" {
			return patch, fmt.Errorf("%q is not knob=value", k)
		}
		fields[name] = value
		if n, err := strconv.Atoi(value); err == nil {
			fields[name] = n
		}
	}
	b, err := json.Marshal(fields)
	if err != nil {
		return patch, err
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&patch); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			return patch, fmt.Errorf("%s is no value of %s", kind.Value, kind.Field)
		}
		return patch, fmt.Errorf("no such knob: %w", err)
	}
	return patch, nil
}
