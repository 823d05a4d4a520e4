package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/api/protocol"
)

// deadCommand lists what was given up, and puts it back into the log or discards it.
func (o *operator) deadCommand() *cobra.Command {
	dead := &cobra.Command{Use: "dead", Short: "List, read, replay and discard records that were given up", Args: cobra.NoArgs}
	var state, lane string
	list := &cobra.Command{
		Use: "list", Short: "List dead letters, the oldest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.dead(cmd.Context(), state, lane) },
	}
	list.Flags().StringVar(&state, "state", "", "open, replaying, replayed, discarded, or all (default those that are open, and then those whose replay has not ended)")
	list.Flags().StringVar(&lane, "lane", "", "only of realtime, delay or retry")

	var payload bool
	show := &cobra.Command{
		Use: "show ID", Short: "Read one", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.deadShow(cmd.Context(), args[0], payload) },
	}
	show.Flags().BoolVar(&payload, "payload", false, "also what it holds, as people's messages")

	var force, all bool
	var contains string
	replay := &cobra.Command{
		Use:   "replay {ID… | --all [--lane LANE] [--contains TEXT]}",
		Short: "Put them back into the log",
		Long: "Each is done as if it were new, once: a message is stored under its own client message ID, and its sender is told.\n" +
			"Where the sender has said the same since, that is said instead, unless --force is given.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) > 0) == all {
				return errors.New("name letters by ID, or say --all")
			}
			if all {
				return o.deadReplayAll(cmd.Context(), lane, contains, force)
			}
			return o.deadReplay(cmd.Context(), args, force)
		},
	}
	replay.Flags().BoolVar(&force, "force", false, "also what the sender has said again since")
	replay.Flags().BoolVar(&all, "all", false, "all that are open")
	replay.Flags().StringVar(&lane, "lane", "", "with --all: only of realtime, delay or retry")
	replay.Flags().StringVar(&contains, "contains", "", "with --all: only those whose reason has this in it")

	discard := &cobra.Command{
		Use: "discard ID…", Short: "End them for good", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				if err := o.ask(cmd.Context(), http.MethodPost, "/v1/admin/dead/"+url.PathEscape(id)+"/discard", nil, nil); err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				fmt.Fprintf(o.out, "%s discarded\n", id)
			}
			return nil
		},
	}
	dead.AddCommand(list, show, replay, discard)
	return dead
}

// eachDead calls f for every letter, page by page.
func (o *operator) eachDead(ctx context.Context, state, lane string, f func(admin.DeadLetter) error) error {
	q := url.Values{"limit": {"100"}}
	if state != "all" {
		q.Set("state", state)
	}
	if lane != "" {
		q.Set("lane", lane)
	}
	for {
		var page admin.DeadLetters
		if err := o.ask(ctx, http.MethodGet, "/v1/admin/dead?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, l := range page.Items {
			if err := f(l); err != nil {
				return err
			}
		}
		if page.After == "" {
			return nil
		}
		q.Set("after", page.After)
	}
}

func (o *operator) dead(ctx context.Context, state, lane string) error {
	states := []string{state}
	if state == "" { // all that somebody has yet to decide on; a process may have died as it replayed
		states = []string{"open", "replaying"}
	}
	var rows [][]string
	for _, state := range states {
		err := o.eachDead(ctx, state, lane, func(l admin.DeadLetter) error {
			rows = append(rows, []string{
				l.ID, l.State, time.UnixMilli(l.ParkedAt).UTC().Format(time.DateTime), fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Offset),
				string(l.Conversation), string(l.ClientMsgID), strconv.Itoa(l.Attempts), oneLine(l.Reason),
			})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return o.table([]string{"ID", "STATE", "PARKED (UTC)", "RECORD", "CONVERSATION", "CLIENT MESSAGE ID", "ATTEMPTS", "REASON"}, rows)
}

// oneLine is a reason as a cell of a table; what may control a terminal is escaped.
func oneLine(s string) string {
	const most = 80
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return strings.Trim(strconv.QuoteToGraphic(s), `"`)
}

func (o *operator) deadShow(ctx context.Context, id string, payload bool) error {
	var l admin.DeadLetter
	path := "/v1/admin/dead/" + url.PathEscape(id)
	if payload {
		path += "?payload=true"
	}
	if err := o.ask(ctx, http.MethodGet, path, nil, &l); err != nil {
		return err
	}
	rows := [][]string{
		{"id", l.ID}, {"state", l.State}, {"kind", l.Kind}, {"parked", time.UnixMilli(l.ParkedAt).UTC().Format(time.RFC3339)},
		{"record", fmt.Sprintf("%s/%d/%d, %d bytes", l.Topic, l.Partition, l.Offset, l.Bytes)},
		{"conversation", string(l.Conversation)}, {"sender", l.Sender.String()}, {"client message ID", string(l.ClientMsgID)},
		{"attempts", strconv.Itoa(l.Attempts)}, {"reason", strconv.QuoteToGraphic(l.Reason)},
	}
	if l.Unreadable != "" {
		rows = append(rows, []string{"unreadable", strconv.QuoteToGraphic(l.Unreadable)})
	}
	if payload {
		rows = append(rows, []string{"payload", strconv.QuoteToGraphic(string(l.Payload))})
	}
	return o.table([]string{"FIELD", "VALUE"}, rows)
}

func (o *operator) replayOne(ctx context.Context, id string, force bool) error {
	err := o.ask(ctx, http.MethodPost, "/v1/admin/dead/"+url.PathEscape(id)+"/replay", admin.ReplayRequest{Force: force}, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	fmt.Fprintf(o.out, "%s replayed\n", id)
	return nil
}

func (o *operator) deadReplay(ctx context.Context, ids []string, force bool) error {
	for _, id := range ids {
		if err := o.replayOne(ctx, id, force); err != nil {
			return err
		}
	}
	return nil
}

// deadReplayAll goes on after what is refused for good; what is away ends it.
func (o *operator) deadReplayAll(ctx context.Context, lane, contains string, force bool) error {
	refused := 0
	err := o.eachDead(ctx, "open", lane, func(l admin.DeadLetter) error {
		if !strings.Contains(l.Reason, contains) {
			return nil
		}
		err := o.replayOne(ctx, l.ID, force)
		var no *protocol.Error
		if errors.As(err, &no) && !no.Retryable {
			fmt.Fprintln(o.out, err)
			refused++
			return nil
		}
		return err
	})
	if err == nil && refused > 0 {
		err = fmt.Errorf("%d were not replayed", refused)
	}
	return err
}
