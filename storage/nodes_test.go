package storage

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

func testNodes(t *testing.T, db *DB) {
	const holders = 40
	got := make([]int, holders)
	var wg sync.WaitGroup
	for i := range holders {
		wg.Go(func() {
			n, err := db.AcquireNode(t.Context(), fmt.Sprintf("holder-%d", i), time.Hour)
			if err != nil {
				n = -1
				if !errors.Is(err, im.ErrConflict) {
					t.Error(err)
				}
			}
			got[i] = n
		})
	}
	wg.Wait()
	holder := map[int]string{}
	for i, n := range got {
		if n < 0 {
			continue
		}
		if n >= im.MessageNodes || holder[n] != "" {
			t.Errorf("node %d twice or out of range", n)
		}
		holder[n] = fmt.Sprintf("holder-%d", i)
	}
	if len(holder) != im.MessageNodes {
		t.Fatalf("%d of %d nodes are held by %d", len(holder), im.MessageNodes, holders)
	}
	must(t, db.RenewNode(t.Context(), 3, holder[3], time.Hour))
	if err := db.RenewNode(t.Context(), 3, holder[4], time.Hour); !errors.Is(err, im.ErrConflict) {
		t.Errorf("renewed by another: %v", err)
	}
	must(t, db.ReleaseNode(t.Context(), 3, holder[4])) // not its own: nothing happens
	if _, err := db.AcquireNode(t.Context(), "late", time.Hour); !errors.Is(err, im.ErrConflict) {
		t.Errorf("acquired while all are held: %v", err)
	}
	must(t, db.ReleaseNode(t.Context(), 3, holder[3]))
	if n, err := db.AcquireNode(t.Context(), "late", time.Hour); err != nil || n != 3 {
		t.Errorf("after a release: %d, %v", n, err)
	}
	_, err := db.w.Exec("UPDATE node_leases SET expires_at = 1 WHERE node = 5")
	must(t, err)
	if err := db.RenewNode(t.Context(), 5, holder[5], time.Hour); !errors.Is(err, im.ErrConflict) {
		t.Errorf("an expired lease was renewed: %v", err)
	}
	if n, err := db.AcquireNode(t.Context(), "next", time.Hour); err != nil || n != 5 {
		t.Errorf("after it expired: %d, %v", n, err)
	}
}
