package storage

import (
	"fmt"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// Channels over the real record: what Redis says, sealed and after a wipe, and what the
// record says alone are the same, in either mode.
func TestIndex_ChannelsOverTheRecord(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){
		"written": func(t *testing.T, db *DB) { testChannelsOverTheRecord(t, db, false) },
		"merged":  func(t *testing.T, db *DB) { testChannelsOverTheRecord(t, db, true) },
	})
}

func testChannelsOverTheRecord(t *testing.T, db *DB, atEnd bool) {
	s, ctx := miniServer(t), t.Context()
	x, p := NewIndex(s.open(t), db), NewProjector(s.open(t))
	users := newUsers(t, db, 3)
	same := func(step string) {
		t.Helper()
		for _, u := range users {
			fast, err := x.List(ctx, u, 0, 100)
			must(t, err)
			slow, err := x.listFromRecord(ctx, u, im.ListAll, 0, 100)
			must(t, err)
			slow.Position, slow.Degraded = fast.Position, fast.Degraded
			for _, page := range []im.ListPage{fast, slow} {
				for i := range page.States {
					page.States[i] = visible(page.States[i])
				}
			}
			if fmt.Sprintf("%+v", fast) != fmt.Sprintf("%+v", slow) {
				t.Fatalf("%s: list of %s\nredis  %+v\nrecord %+v", step, u, fast, slow)
			}
			sources, degraded, err := x.Offline(ctx, u, 100)
			must(t, err)
			plain, err := x.offlineFromRecord(ctx, u, 100)
			must(t, err)
			if degraded || fmt.Sprintf("%+v", sources) != fmt.Sprintf("%+v", append([]im.OfflineSource{}, plain...)) {
				t.Fatalf("%s: offline of %s\nredis  %+v\nrecord %+v", step, u, sources, plain)
			}
		}
	}
	// store is what a strand does with a message, and raises whom it moves: of a merged
	// channel only those whose own numbers moved.
	store := func(m im.Message, moved ...im.UserID) {
		t.Helper()
		if m.Membership != nil {
			m.Membership.Merge = atEnd
		}
		must(t, db.InsertMessages(ctx, []im.Message{m}))
		ends, err := db.ChannelEnds(ctx, []im.ConversationID{m.Conversation})
		must(t, err)
		pr := im.Projection{}
		if m.Uncounted == im.UncountedForAll {
			pr.Uncounted = []im.UncountedSeq{{Conversation: m.Conversation, Seq: m.Seq}}
		}
		if atEnd {
			pr.Ends = []im.ChannelEnd{ends[m.Conversation]}
		} else {
			moved = users
		}
		for _, u := range moved {
			if st, err := db.UserState(ctx, u, m.Conversation); err == nil {
				pr.Users = append(pr.Users, im.UserRaise{User: u, State: st})
			}
		}
		project(t, p, pr)
	}
	notices := func(change im.GroupChange, moved ...im.UserID) {
		t.Helper()
		for _, op := range change.Ops {
			store(opMessage(t, op, nextSeq(t, db, op.Conversation)), moved...)
		}
	}
	same("nothing yet")
	change, err := db.CreateGroup(ctx, im.NewGroup{Owner: users[0], Name: "waders", JoinPolicy: im.JoinOpen, Members: users[1:]})
	must(t, err)
	notices(change, users...)
	c, g := change.Group.Main, change.Group.ID
	same("made")
	text := func() {
		t.Helper()
		m := message(c, nextSeq(t, db, c), users[0])
		store(m)
		must(t, db.MoveCursors(ctx, []im.CursorMove{{Conversation: c, User: users[0], Read: m.Seq}}))
		project(t, p, im.Projection{Users: []im.UserRaise{{User: users[0], State: im.ConversationState{Conversation: c, Read: m.Seq}}}})
	}
	for i := range 5 {
		text()
		same(fmt.Sprintf("message %d", i))
	}
	st, err := x.Row(ctx, users[1], c)
	must(t, err)
	if st.Merged != atEnd || st.Unread != 5 || st.LastSeq != 6 {
		t.Fatalf("state %+v", st)
	}
	change, err = db.RemoveMember(ctx, users[0], g, users[2])
	must(t, err)
	notices(change, users[2])
	text()
	same("one has left")
	s.flush(t)
	same("flushed")
	change, _, err = db.AskToJoin(ctx, users[2], g, "")
	must(t, err)
	notices(change, users[2])
	text()
	same("they are back")
	change, err = db.DissolveGroup(ctx, users[0], g)
	must(t, err)
	notices(change)
	same("dissolved")
	s.flush(t)
	same("dissolved and flushed")
}
