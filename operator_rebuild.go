package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/curlew-im/curlew/api/admin"
)

// rebuildCommand completes Redis from MySQL anew.
func (o *operator) rebuildCommand() *cobra.Command {
	rebuild := &cobra.Command{Use: "rebuild", Short: "Have what is derived built anew", Args: cobra.NoArgs}
	var user string
	var all, now bool
	redis := &cobra.Command{
		Use:   "redis {--user ID|HANDLE | --all [--now]}",
		Short: "Have Redis completed from MySQL anew",
		Long: "Of one user everything is dropped and built again at once. Of all, what is there is no longer trusted and\n" +
			"completed user by user as they are read; with --now also those whom nobody reads, and this waits for it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case (user != "") == all:
				return errors.New("name one user by --user, or say --all")
			case now && !all:
				return errors.New("--now goes with --all; one user is rebuilt at once")
			}
			return o.rebuild(cmd.Context(), admin.RebuildRequest{User: user, All: all, Eager: now})
		},
	}
	flags := redis.Flags()
	flags.StringVar(&user, "user", "", "one user, by ID or handle")
	flags.BoolVar(&all, "all", false, "everybody")
	flags.BoolVar(&now, "now", false, "with --all: walk all users and show how far it has come")
	rebuild.AddCommand(redis)
	return rebuild
}

func (o *operator) rebuild(ctx context.Context, r admin.RebuildRequest) error {
	var p admin.RebuildProgress
	if err := o.ask(ctx, http.MethodPost, "/v1/admin/rebuild", r, &p); err != nil {
		return err
	}
	switch {
	case r.User != "":
		fmt.Fprintf(o.out, "rebuilt %s in %s\n", r.User, p.Took())
		return nil
	case !r.Eager:
		fmt.Fprintln(o.out, "a new generation stands: each user is completed when next read")
		return nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for p.Running {
		fmt.Fprintf(o.out, "%d users rebuilt, %d failed; at user %s of %s\n", p.Users, p.Failed, p.At, p.Last)
		select {
		case <-ctx.Done():
			return fmt.Errorf("no longer watching; it goes on: %w", ctx.Err())
		case <-tick.C:
		}
		if err := o.ask(ctx, http.MethodGet, "/v1/admin/rebuild", nil, &p); err != nil {
			return err
		}
	}
	fmt.Fprintf(o.out, "rebuilt %d users in %s, %d failed\n", p.Users, p.Took(), p.Failed)
	if p.Failed > 0 {
		return errors.New("the users that failed are completed when next read")
	}
	return nil
}
