package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/api/protocol"
)

const (
	operatorTimeout = 30 * time.Second // one request; the listener's own deadlines are shorter
	operatorAnswer  = 16 << 20         // bytes of one answer
)

// operator speaks to the admin listener of a process that runs, for the commands that
// ask it something or turn it. It knows the routes of api/admin and nothing of what is
// behind them.
type operator struct {
	base string // of the listener; empty: admin.listen of the configuration
	load func() (admin.Config, error)
	out  io.Writer
}

// operatorCommands are those commands, with their common flag.
func operatorCommands(load func() (admin.Config, error), out io.Writer) []*cobra.Command {
	o := &operator{load: load, out: out}
	all := []*cobra.Command{
		o.rebuildCommand(),
		o.deadCommand(),
		o.lagCommand(),
		o.poolsCommand(),
	}
	for _, c := range all {
		c.PersistentFlags().StringVar(&o.base, "admin", "", "admin listener of the process to ask (default admin.listen); the token is admin.token's")
	}
	return all
}

// ask sends body as JSON, where it is not nil, and decodes the answer, where that is
// asked for. What the listener refuses is a *protocol.Error.
func (o *operator) ask(ctx context.Context, method, path string, body, answer any) error {
	cfg, err := o.load()
	if err != nil {
		return err
	}
	base := o.base
	if base == "" {
		base = "http://" + reachable(cfg.Address())
	}
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+path, &content)
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+cfg.Token)
	}
	// The token goes to no other address than the one that was named.
	asker := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer asker.CloseIdleConnections()
	resp, err := asker.Do(req)
	if err != nil {
		return fmt.Errorf("no answer from the admin listener; does the process run, and is its address that of --admin? %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, operatorAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		refused := &protocol.Error{}
		if json.Unmarshal(b, refused) != nil || refused.Code == "" {
			return fmt.Errorf("%s %s: %s", method, path, resp.Status)
		}
		return refused
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

// reachable is where to ask a listener that listens on every address.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// table writes rows under a head, in columns.
func (o *operator) table(head []string, rows [][]string) error {
	w := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}
