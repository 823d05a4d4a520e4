package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/logic/im"
)

// shared fails while a process of jobs has not its share of the partitions of each lane.
func (s *scaling) shared(ctx context.Context) error {
	owned, all, err := s.partitions(ctx)
	if err != nil {
		return err
	}
	for lane, n := range all {
		for _, own := range owned {
			if n -= own[lane]; own[lane] < all[lane]/len(owned) {
				return fmt.Errorf("%s: they have %v", lane, owned)
			}
		}
		if n > 0 { // nobody's, or of one that is gone
			return fmt.Errorf("%s: they have %v", lane, owned)
		}
	}
	return nil
}

// partitions is how many of each lane each process of jobs has, the oldest first, and how
// many there are, by the broker's word.
func (s *scaling) partitions(ctx context.Context) (owned []map[string]int, all map[string]int, err error) {
	nodes := s.nodes("jobs")
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+nodes[len(nodes)-1].admin+"/v1/admin/lag", nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	var lag admin.Lag
	if err := json.NewDecoder(resp.Body).Decode(&lag); err != nil || resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("lag answered %s: %v", resp.Status, err)
	}
	all, owned = make(map[string]int), make([]map[string]int, len(nodes))
	for i, n := range nodes {
		owned[i] = make(map[string]int)
		pid := "-" + strconv.Itoa(n.cmd.Process.Pid)
		for _, p := range lag.Partitions {
			switch {
			case p.Lane == im.LaneRetry: // nobody reads it: no notifier is set
			case strings.HasSuffix(p.Owner, pid):
				owned[i][string(p.Lane)]++
			default:
				owned[i][string(p.Lane)] += 0 // shown as none
			}
		}
	}
	for _, p := range lag.Partitions {
		if p.Lane != im.LaneRetry {
			all[string(p.Lane)]++
		}
	}
	return owned, all, nil
}
