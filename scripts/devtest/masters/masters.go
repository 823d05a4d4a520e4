// Package masters makes Redis servers of tests one cluster.
package masters

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Count is how many masters a cluster of tests has.
const Count = 3

const slots = 16384

// Args are what a server is started with to become one; bus is the port on which it talks
// to the others.
func Args(bus string) []string {
	return []string{"--cluster-enabled", "yes", "--cluster-port", bus,
		"--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"}
}

// Form divides the slots among servers that are new and lets them know each other. It
// returns once each serves.
func Form(ctx context.Context, addrs, buses []string) error {
	host, port, err := net.SplitHostPort(addrs[0])
	if err != nil {
		return err
	}
	for i, addr := range addrs {
		err := ask(addr, func(c *redis.Client) error {
			return errors.Join(
				c.ClusterAddSlotsRange(ctx, i*slots/len(addrs), (i+1)*slots/len(addrs)-1).Err(),
				// Epochs differ from the start, and need no agreement.
				c.Do(ctx, "cluster", "set-config-epoch", i+1).Err())
		})
		if err != nil {
			return fmt.Errorf("give slots to %s: %w", addr, err)
		}
	}
	for _, addr := range addrs[1:] {
		if err := ask(addr, func(c *redis.Client) error { return c.Do(ctx, "cluster", "meet", host, port, buses[0]).Err() }); err != nil {
			return fmt.Errorf("introduce %s: %w", addr, err)
		}
	}
	return Await(ctx, addrs)
}

// Await returns once each master knows all others and serves: some two seconds after it
// has started.
func Await(ctx context.Context, addrs []string) error {
	for _, addr := range addrs {
		err := ask(addr, func(c *redis.Client) error {
			for !whole(c.ClusterInfo(ctx).Val(), len(addrs)) {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(20 * time.Millisecond):
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("await %s: %w", addr, err)
		}
	}
	return nil
}

func whole(info string, nodes int) bool {
	for _, line := range []string{"cluster_state:ok", fmt.Sprintf("cluster_slots_ok:%d", slots), fmt.Sprintf("cluster_known_nodes:%d", nodes)} {
		if !strings.Contains(info, line+"\r\n") {
			return false
		}
	}
	return true
}

func ask(addr string, f func(c *redis.Client) error) error {
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1})
	defer c.Close()
	return f(c)
}
