package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

// The index over the real record: what Redis says and what the record says alone
// are the same, at every step and after a wipe.
func TestIndex_OverTheRecord(t *testing.T) {
	onEachStore(t, map[string]func(t *testing.T, db *DB){"": testIndexOverTheRecord})
}

func testIndexOverTheRecord(t *testing.T, db *DB) {
	s := miniServer(t)
	r := s.openAs(t, db, func(*RedisConfig) {})
	x, p, set := NewIndex(r, db), NewProjector(r), NewSettings(r, db)
	a, b, c := newPair(t, db)
	other, _, _ := newPair(t, db)
	strange := im.DirectConversation(b, other)
	must(t, db.EnsureConversations(t.Context(), []im.NewConversation{{ID: strange, Members: []im.UserID{b, other}}}))
	ctx := t.Context()

	same := func(step string) {
		t.Helper()
		for _, u := range []im.UserID{a, b, other} {
			fast, err := x.List(ctx, u, 0, 100)
			must(t, err)
			slow, err := x.listFromRecord(ctx, u, im.ListAll, 0, 100)
			must(t, err)
			slow.Position, slow.Degraded = fast.Position, fast.Degraded
			if fast.Degraded || fmt.Sprintf("%+v", fast) != fmt.Sprintf("%+v", slow) {
				t.Fatalf("%s: list of %s\nredis  %+v\nrecord %+v", step, u, fast, slow)
			}
			sources, degraded, err := x.Offline(ctx, u, 100)
			must(t, err)
			plain, err := x.offlineFromRecord(ctx, u, 100)
			must(t, err)
			if degraded || fmt.Sprintf("%+v", sources) != fmt.Sprintf("%+v", slices.Clip(plain)) && len(sources)+len(plain) > 0 {
				t.Fatalf("%s: offline of %s\nredis  %+v\nrecord %+v", step, u, sources, plain)
			}
		}
	}
	raised := func(u im.UserID, conv im.ConversationID) im.UserRaise {
		t.Helper()
		st, err := db.UserState(ctx, u, conv)
		must(t, err)
		return im.UserRaise{User: u, State: st}
	}
	seqs := map[im.ConversationID]im.Seq{}
	send := func(conv im.ConversationID, from im.UserID, kind im.Uncounted) {
		t.Helper()
		seqs[conv]++
		m := message(conv, seqs[conv], from)
		m.Uncounted = kind
		must(t, db.InsertMessages(ctx, []im.Message{m}))
		if kind == im.CountedForAll {
			must(t, db.MoveCursors(ctx, []im.CursorMove{{Conversation: conv, User: from, Read: m.Seq}}))
		}
		peer, _ := conv.Peer(from)
		to := raised(peer, conv)
		to.Offline = []im.OfflineEntry{{Seq: m.Seq, ID: m.ID}}
		pr := im.Projection{Users: []im.UserRaise{raised(from, conv), to}}
		switch kind {
		case im.UncountedForAll:
			pr.Uncounted = []im.UncountedSeq{{Conversation: conv, Seq: m.Seq}}
		case im.UncountedForSender:
			pr.Uncounted = []im.UncountedSeq{{Conversation: conv, Seq: m.Seq, User: from}}
		}
		project(t, p, pr)
	}
	same("nothing yet")
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		conv, from := c, []im.UserID{a, b}[rnd.IntN(2)]
		if rnd.IntN(3) == 0 {
			conv, from = strange, []im.UserID{b, other}[rnd.IntN(2)]
		}
		switch n := rnd.IntN(11); {
		case n < 5 || seqs[conv] == 0:
			send(conv, from, im.Uncounted(rnd.IntN(3)))
		case n == 5:
			s.flush(t)
		case n == 8:
			ch := im.SettingsChange{MutedUntil: ptr(rnd.Int64N(2) * im.MutedForever), Pinned: ptr(rnd.IntN(2) == 0), Draft: ptr([]string{"", "x"}[rnd.IntN(2)])}
			change(t, set, from, conv, ch)
		case n == 9:
			change(t, set, from, conv, im.SettingsChange{Hidden: ptr(im.Seq(rnd.IntN(2)) * seqs[conv]), MarkedUnread: ptr(rnd.IntN(2) == 0)})
		case n == 10:
			_, err := set.DeleteConversation(ctx, from, conv, im.Seq(rnd.IntN(int(seqs[conv])+1)))
			must(t, err)
		default:
			d := im.Seq(1 + rnd.IntN(int(seqs[conv])))
			must(t, db.MoveCursors(ctx, []im.CursorMove{{Conversation: conv, User: from, Delivered: d, Read: d / 2}}))
			peer, _ := conv.Peer(from)
			u := raised(from, conv)
			u.ClearOffline = u.State.Delivered
			project(t, p, im.Projection{Users: []im.UserRaise{u, raised(peer, conv)}})
		}
		same(fmt.Sprintf("step %d", i))
	}
	must(t, db.NoteDoubt(ctx, "test"))
	first := standing(t, s)
	eventually(t, "the doubt is acted on", func() bool {
		_, any, err := db.Doubts(context.WithoutCancel(ctx))
		return err == nil && !any && standing(t, s) != first
	})
	same("after a doubt")
}
