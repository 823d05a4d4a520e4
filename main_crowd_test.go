package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// crowdSize is how many are in the large group: a little over where channels begin to be
// merged at read, or what the environment says (CURLEW_CROWD=10000).
func crowdSize(t *testing.T) int {
	s := os.Getenv("CURLEW_CROWD")
	if s == "" {
		return 600
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 100 || n > im.MaxGroupMembers {
		t.Fatalf("CURLEW_CROWD=%s", s)
	}
	return n
}

// A group grows beyond where its lists are written for each member: half are invited,
// half come by themselves, all at once, while somebody speaks. Everyone's lists, counts
// and histories are exact, before and after Redis is emptied.
func TestGroups_ACrowdGathers(t *testing.T) {
	t.Parallel()
	size := crowdSize(t)
	s := devtest.Start(t)
	e := startEngine(t, s)
	names := make([]string, size)
	for i := range names {
		names[i] = fmt.Sprintf("crowd%05d", i)
	}
	start := time.Now()
	var p []*person
	for part := range slices.Chunk(names, protocol.MaxServerUsers) {
		p = append(p, enrol(t, e.http, e.socket, part...)...)
	}
	t.Logf("%d users with a login: %.1f s", size, time.Since(start).Seconds())
	ada := p[0]
	g := ada.found("the crowd", im.JoinOpen)
	c := g.MainChannelID
	early, late := ada.connect("phone"), p[size-1].connect("phone")

	start = time.Now()
	invited := p[1 : size/2]
	for part := range slices.Chunk(invited, im.MaxMembersPerCall) {
		var ids []im.UserID
		for _, one := range part {
			ids = append(ids, one.id)
		}
		ada.changed(ada.http.AddMembers(t.Context(), g.ID, ids...))
	}
	t.Logf("%d invited: %.1f s", len(invited), time.Since(start).Seconds())

	start = time.Now()
	var joining errgroup.Group
	joining.SetLimit(32)
	var mu sync.Mutex // guards slow
	var slow time.Duration
	said := 0
	for i, one := range p[size/2:] {
		joining.Go(func() error {
			began := time.Now()
			again(t, one.name+" joins", func() error {
				_, err := one.http.JoinGroup(t.Context(), g.ID, "")
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			slow = max(slow, time.Since(began))
			return nil
		})
		if i%50 == 0 {
			early.sayIn(c, fmt.Sprint("while they come ", said))
			said++
		}
	}
	_ = joining.Wait() // again has failed the test
	t.Logf("%d joined, 32 at a time: %.1f s, the slowest %.2f s", size-size/2, time.Since(start).Seconds(), slow.Seconds())

	start = time.Now()
	seen := map[im.UserID]bool{}
	for after := ""; ; {
		page, err := ada.http.GroupMembers(t.Context(), g.ID, after, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Items {
			seen[m.User.ID] = true
		}
		if after = page.Next; !page.HasMore {
			break
		}
	}
	if now, err := ada.http.Group(t.Context(), g.ID); err != nil || now.Members != size || len(seen) != size {
		t.Errorf("%d members, %d in the pages, want %d; %v", now.Members, len(seen), size, err)
	}
	t.Logf("all pages of members: %.2f s", time.Since(start).Seconds())

	rooms, told := counted(e, "curlew_jobs_room_messages_total"), counted(e, `curlew_jobs_pushes_total{kind="message_room"}`)
	start = time.Now()
	const after = 100
	var last im.Seq
	for i := range after {
		o, err := early.SendText(client.ToConversation(c), fmt.Sprint("to all ", i))
		if err != nil {
			t.Fatal(err)
		}
		last = max(last, ada.stored(o).Seq)
	}
	t.Logf("%d messages to %d members, one after the other: %.2f s, %.2f publishes a message", after, size, time.Since(start).Seconds(),
		(counted(e, `curlew_jobs_pushes_total{kind="message_room"}`)-told)/(counted(e, "curlew_jobs_room_messages_total")-rooms))
	devtest.Eventually(t, "the last who came hears it all", func() bool {
		n := 0
		for _, m := range late.spoken(c) {
			if strings.HasPrefix(m, "to all") {
				n++
			}
		}
		return n == after
	})

	// Whoever is asked: the row, what waits and the history agree, also from an empty Redis.
	for _, empty := range []bool{false, true} {
		if empty {
			s.Redis.Flush()
		}
		for _, one := range []*person{p[1], p[size/2-1], p[size/2], p[size-2], ada} {
			h := one.history(c)
			counts := uint64(0)
			for _, m := range h {
				if m.Type == im.TypeText && one != ada {
					counts++
				}
			}
			// The cursors that sending moves are in MySQL a second later (contract 7).
			var row protocol.Conversation
			right := func() bool {
				row = one.row(c)
				return row.LastSeq >= last && row.LastSeq == h[len(h)-1].Seq && row.Unread == counts && (row.FirstSeq == h[0].Seq || h[0].Seq == 1)
			}
			devtest.Eventually(t, fmt.Sprintf("%s's row agrees with %d messages from %d to %d, of which %d count; Redis emptied: %v",
				one.name, len(h), h[0].Seq, h[len(h)-1].Seq, counts, empty), right)
			if src, waits := one.offline()[c]; one != ada && (!waits || src.LastSeq != row.LastSeq) {
				t.Errorf("%s: what waits %+v", one.name, src)
			}
		}
	}
	n, err := ada.http.ReceiptCounts(t.Context(), c, last)
	if err != nil || n.Items[0].Recipients != size-1 {
		t.Errorf("counts: %+v, %v", n, err)
	}
	start = time.Now()
	ada.changed(ada.http.DissolveGroup(t.Context(), g.ID))
	t.Logf("dissolved: %.2f s", time.Since(start).Seconds())
	if row := p[size-2].row(c); !row.Left {
		t.Errorf("after the end: %+v", row)
	}
	devtest.Eventually(t, "the end is heard", func() bool {
		all := late.heardIn(c)
		return len(all) > 0 && all[len(all)-1] == "*dissolved"
	})
}
