package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/storage"
)

// toldOps are the records of a group's notices, as logic makes them.
func toldOps(ops []im.GroupOp) (tasks []im.Task) {
	for _, op := range ops {
		content, _ := json.Marshal(op.Notice)
		tasks = append(tasks, im.Task{Conversation: op.Conversation, Send: &im.SendTask{
			Sender: im.Sender{ID: im.SystemUser, Handle: "system"}, ClientMsgID: op.ID.ClientMsgID(), Type: im.TypeNotice, Content: content,
			Hash: im.HashContent(im.TypeNotice, content), Uncounted: im.UncountedForAll, Membership: &op.Membership,
		}})
	}
	return tasks
}

// survive processes a log by owners of which some die anywhere, two at once at times.
func survive(t *testing.T, cfg Config, w *world, db *storage.DB, l *logbook) {
	t.Helper()
	var lives sync.WaitGroup
	limit, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	for n := range 4 {
		last := n == 3
		ctx, cancel := context.WithCancel(limit)
		r := onStore(t, cfg, w, db, nil, func(string) error {
			if !last && w.chance.hits(0.05) {
				cancel()
				return errCrash
			}
			return nil
		})
		assigned := l.join()
		assigned.trust = true
		ended := make(chan struct{})
		lives.Go(func() {
			defer close(ended)
			go func() {
				_ = l.await(ctx)
				cancel()
			}()
			_ = live(ctx, r, assigned)
		})
		if !last && w.chance.intn(2) == 0 {
			continue
		}
		<-ended
	}
	lives.Wait()
	if limit.Err() != nil {
		t.Error("not done within a minute")
	}
}

func TestGroups_OnARealStoreMembersFollowTheLog(t *testing.T) {
	onEachStore(t, func(t *testing.T, db *storage.DB) {
		for seed, above := range []int{0, -1, 4} {
			t.Run(fmt.Sprint("merge above ", above), func(t *testing.T) { groupOnAStore(t, db, uint64(seed), above) })
		}
	})
}

func groupOnAStore(t *testing.T, db *storage.DB, seed uint64, above int) {
	var u []im.UserID
	for i := range 6 {
		p, err := db.CreateUser(t.Context(), im.NewUser{Handle: fmt.Sprintf("u%d-%d", seed, i), Nickname: "N", PasswordHash: "x"})
		if err != nil {
			t.Fatal(err)
		}
		u = append(u, p.ID)
	}
	w := newWorld(seed)
	cfg := quickConfig()
	cfg.MergeAbove = above
	l := newLogbook(w, 0)
	l.fetchMax = 8
	n := 0
	run := func(err error, c im.GroupChange, speakers ...im.UserID) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range toldOps(c.Ops) {
			l.append(task)
			for _, from := range speakers {
				n++
				l.append(text(task.Conversation, from, n))
			}
			if w.chance.intn(2) == 0 {
				l.append(task) // told twice
			}
		}
		survive(t, cfg, w, db, l)
	}
	made, err := db.CreateGroup(t.Context(), im.NewGroup{Owner: u[0], Name: "G", JoinPolicy: im.JoinOpen, Members: u[1:4]})
	run(err, made, u[0], u[1])
	g, main := made.Group.ID, made.Group.Main
	ch, change, err := db.CreateChannel(t.Context(), u[0], g, im.NewChannel{Name: "all"})
	run(err, change, u[2])
	change, err = db.AddMembers(t.Context(), u[0], g, []im.UserID{u[4], u[5]})
	run(err, change, u[4])
	change, err = db.RemoveMember(t.Context(), u[0], g, u[2])
	run(err, change, u[2], u[3]) // accepted before the removal
	change, err = db.AddMembers(t.Context(), u[0], g, []im.UserID{u[2]})
	run(err, change)
	change, err = db.RemoveChannel(t.Context(), u[0], g, ch.ID)
	run(err, change)

	if ops, err := db.PendingOps(t.Context(), 0, 100); err != nil || len(ops) > 0 {
		t.Errorf("left: %+v, %v", ops, err)
	}
	rosters, err := db.Rosters(t.Context(), []im.ConversationID{main, ch.ID})
	if err != nil {
		t.Fatal(err)
	}
	page, err := db.RosterPage(t.Context(), main, 0, 100)
	if err != nil || len(page) != 6 {
		t.Fatalf("in the main channel: %+v, %v", page, err)
	}
	if r := rosters[main]; r.Merged != (above != 0) || !r.Merged && !slices.Equal(r.Members, page) {
		t.Errorf("roster %+v", r)
	}
	if page, err := db.RosterPage(t.Context(), ch.ID, 0, 100); err != nil || len(page) != 0 {
		t.Errorf("in the removed channel: %+v, %v", page, err)
	}
	// Created at 1, two texts, two join at 4, a text, one leaves at 6, two texts, and joins again.
	for i, want := range []im.Member{{Join: 1, Joined: 1}, {Join: 1, Joined: 1}, {Join: 9, Joined: 9, Leave: 6}, {Join: 1, Joined: 1}, {Join: 4, Joined: 4}, {Join: 4, Joined: 4}} {
		row, err := db.Member(t.Context(), main, u[i])
		if err != nil || row.Join != want.Join || row.Joined != want.Joined || row.Leave != want.Leave || row.Read < row.Joined {
			t.Errorf("row of %d: %+v, %v, want %+v", i, row, err, want)
		}
	}
	if rosters[main].Version != 9 {
		t.Errorf("version %d", rosters[main].Version)
	}
	moved, err := db.Moved(t.Context(), main, 6, []im.UserID{u[1], u[2]}, 0, 10)
	if err != nil || len(moved) != 1 || moved[0].User != u[2] {
		t.Errorf("moved %+v, %v", moved, err)
	}
	if size, err := db.GroupSize(t.Context(), g); err != nil || size != 6 {
		t.Errorf("%d in the group, %v", size, err)
	}
}
