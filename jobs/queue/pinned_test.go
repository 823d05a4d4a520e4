package queue

import (
	"fmt"
	"slices"
	"testing"

	"github.com/segmentio/kafka-go"
)

// Each partition of a lane has one owner, no process has two more of a lane than another,
// and over the lanes that workers read those with fewer are not always the same.
func TestShares_AreEvenInEachLaneAndOverAll(t *testing.T) {
	for _, c := range []struct{ partitions, processes, spread int }{
		{8, 1, 0}, {8, 2, 0}, {8, 3, 0}, {8, 4, 0}, {8, 5, 1}, {8, 6, 1}, {8, 7, 1}, {8, 8, 0}, {8, 16, 1}, {32, 3, 0}, {1, 3, 0},
	} {
		total := make([]int, c.processes)
		for first, lane := range turns[:3] {
			var members []kafka.GroupMember
			for p := range c.processes { // as the broker names them: what the process is called, and anything
				members = append(members, kafka.GroupMember{ID: fmt.Sprintf("curlew-host-%02d-%d", p, (p*7+first*5)%11), Topics: []string{string(lane)}})
			}
			slices.Reverse(members)
			var parts []kafka.Partition
			for p := c.partitions + 3; p >= 0; p-- { // somebody has raised the count
				parts = append(parts, kafka.Partition{Topic: string(lane), ID: p})
			}
			seen, least, most := make(map[int]bool), c.partitions, 0
			for id, topics := range (shares{c.partitions, first}).AssignGroups(members, parts) {
				var process int
				if _, err := fmt.Sscanf(id, "curlew-host-%d-", &process); err != nil {
					t.Fatal(err)
				}
				own := topics[string(lane)]
				for _, p := range own {
					if seen[p] || p >= c.partitions {
						t.Errorf("%+v: partition %d", c, p)
					}
					seen[p] = true
				}
				total[process] += len(own)
				least, most = min(least, len(own)), max(most, len(own))
			}
			if len(seen) != c.partitions || most-least > 1 {
				t.Errorf("%+v, %s: %d partitions have an owner, %d to %d each", c, lane, len(seen), least, most)
			}
		}
		if d := slices.Max(total) - slices.Min(total); d > c.spread {
			t.Errorf("%+v: %v over all lanes", c, total)
		}
	}
}
