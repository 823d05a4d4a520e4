package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/curlew-im/curlew/api/admin"
)

// lagCommand shows where the workers stand in the log, and lets a partition go on that
// stands still.
func (o *operator) lagCommand() *cobra.Command {
	lag := &cobra.Command{
		Use: "lag", Short: "Show how far the workers are behind, by lane and partition", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.lag(cmd.Context()) },
	}
	lag.AddCommand(&cobra.Command{
		Use:   "resume LANE PARTITION {OFFSET|earliest|latest}",
		Short: "Have a stopped partition go on",
		Long: "A partition stops where records that should be in the log are not. Its owner is asked (--admin), and goes on at\n" +
			"an offset. What that passes over is never done; what was done already changes nothing when it is done again,\n" +
			"so earliest loses nothing that is still there.",
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			partition, err := strconv.Atoi(args[1])
			if err != nil {
				return fmt.Errorf("partition %q is no number", args[1])
			}
			at, err := admin.ParseOffset(args[2])
			if err != nil {
				return err
			}
			var done admin.Resumed
			path := fmt.Sprintf("/v1/admin/partitions/%s/%d/resume", args[0], partition)
			if err := o.ask(cmd.Context(), http.MethodPost, path, admin.ResumeRequest{Offset: at}, &done); err != nil {
				return fmt.Errorf("%w (only the partition's owner can: see curlew lag)", err)
			}
			fmt.Fprintf(o.out, "%s/%d goes on at %d\n", args[0], partition, done.Offset)
			return nil
		},
	})
	return lag
}

func (o *operator) lag(ctx context.Context) error {
	var l admin.Lag
	if err := o.ask(ctx, http.MethodGet, "/v1/admin/lag", nil, &l); err != nil {
		return err
	}
	rows := make([][]string, len(l.Partitions))
	for i, p := range l.Partitions {
		age := time.Duration(p.AgeMS) * time.Millisecond
		rows[i] = []string{
			string(p.Lane), strconv.Itoa(p.Partition), strconv.FormatInt(p.Records, 10), age.Round(100 * time.Millisecond).String(),
			strconv.FormatInt(p.Start, 10), strconv.FormatInt(p.Committed, 10), strconv.FormatInt(p.End, 10), p.State, p.Owner,
		}
	}
	return o.table([]string{"LANE", "PARTITION", "RECORDS", "AGE", "START", "COMMITTED", "END", "STATE", "OWNER"}, rows)
}
