package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// mirror is what a client keeps of its list by sync alone: everything once, and from
// then on what changed since its position.
type mirror struct {
	position *im.Position
	rows     map[im.ConversationID]row
}

// quiet waits until every user sees what the model says, and looks at their lists once
// more when nothing moves: then they must be right at the first look. Only where Redis was
// emptied meanwhile it may take the time that cursors take to MySQL and back.
func (g *play) quiet() {
	for _, p := range g.players {
		g.agrees(p)
	}
	for _, p := range g.players {
		if diff := g.lists(p) + g.sources(p) + g.gadgets(p); diff != "" {
			if !g.mode.shaken() {
				failf("%s, after it was right: %s", p.name, diff)
			}
			g.agrees(p)
		}
	}
}

func (g *play) agrees(p *player) {
	end := time.Now().Add(g.deadEnd)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		diff := g.differs(p)
		if diff == "" {
			return
		}
		if time.Now().After(end) {
			failf("%s: %s", p.name, diff)
		}
		time.Sleep(wait)
	}
}

// differs is the first fact in which what p sees is not what the model says.
func (g *play) differs(p *player) string {
	for _, look := range []func(*player) string{g.lists, g.histories, g.sources, g.mirrors, g.gadgets, g.groupFacts} {
		if diff := look(p); diff != "" {
			return diff
		}
	}
	return ""
}

// rowOf is a row of the engine's in the model's words.
func rowOf(c protocol.Conversation, u im.UserID) row {
	r := row{
		conv: c.ConversationID, first: c.FirstSeq, last: c.LastSeq, left: c.Left, change: c.LastChange,
		delivered: c.DeliveredSeq, read: c.ReadSeq, unread: c.Unread, peerDelivered: c.PeerDelivered, peerRead: c.PeerRead,
		mentioned: c.MentionedSeq, deletions: c.Deletions, floor: c.FloorSeq, isHidden: c.Hidden, isMarked: c.MarkedUnread,
	}
	if c.Left {
		r.change, r.read = 0, min(r.read, r.last)
	}
	if c.Channel != nil {
		r.name = c.Channel.GroupName + "/" + c.Channel.Name
	}
	if s := c.Settings; s != nil {
		r.version, r.pinned, r.muted, r.marked, r.hidden = s.Version, s.PinnedAt > 0, s.MutedUntil, s.MarkedSeq, s.HiddenSeq
		if s.Draft != nil {
			r.draft = s.Draft.Text
		}
	}
	if c.LastMessage != nil {
		r.lastMessage = brief(*c.LastMessage, u, false)
	}
	return r
}

func differ(what string, got, want row) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("%s:\n got %+v\nwant %+v", what, got, want)
}

// lists is the list in pages, its order and totals, and each row by itself, also those
// that are hidden.
func (g *play) lists(p *player) string {
	var got []protocol.Conversation
	var total, muteless uint64
	wanted, moments := g.w.list(p.id)
	for before, more := "", true; more; {
		page, err := p.http.Conversations(context.Background(), before, 3)
		if err != nil || page.Degraded {
			return fmt.Sprintf("list: %v degraded %t", err, page.Degraded)
		}
		got = append(got, page.Items...)
		total, muteless = page.UnreadTotal, page.UnreadBadge
		before, more = page.Next, page.HasMore
	}
	if len(got) != len(wanted) {
		return fmt.Sprintf("the list has %d rows, want %d:\n got %s\nwant %+v", len(got), len(wanted), rowsOf(got), wanted)
	}
	for i, c := range got {
		at := slices.IndexFunc(wanted, func(r row) bool { return r.conv == c.ConversationID })
		if at < 0 || moments[at] != moments[i] {
			return fmt.Sprintf("the list is in the order\n got %s\nwant %+v", rowsOf(got), wanted)
		}
		if diff := differ("list", rowOf(c, p.id), wanted[at]); diff != "" {
			return diff
		}
	}
	if all, badge := g.w.totals(p.id); total != all || muteless != badge {
		return fmt.Sprintf("unread in total %d and %d, want %d and %d", total, muteless, all, badge)
	}
	for _, th := range g.w.of(p.id) {
		c, err := p.http.Conversation(context.Background(), th.id)
		if err != nil {
			return fmt.Sprintf("row of %s: %v", th.id, err)
		}
		r, _ := th.row(p.id)
		if diff := differ("row", rowOf(c, p.id), r); diff != "" {
			return diff
		}
	}
	return ""
}

func rowsOf(all []protocol.Conversation) string {
	var b strings.Builder
	for _, c := range all {
		fmt.Fprintf(&b, "%s:%d ", c.ConversationID, c.LastSeq)
	}
	return b.String()
}

// histories is every conversation forwards in pages, what changed in it, what was
// edited, and what was deleted; and none of what is not theirs.
func (g *play) histories(p *player) string {
	for _, th := range g.w.convs {
		s := th.seats[p.id]
		if s == nil {
			_, err := p.http.History(context.Background(), protocol.History{ConversationID: th.id})
			open := th.circle == nil && (th.low == p.id || th.high == p.id)
			if open && err != nil || !open && !client.IsCode(err, "not_found") {
				return fmt.Sprintf("history of %s: %v", th.id, err)
			}
			continue
		}
		var want, changed []string
		byChange := map[uint64]string{}
		for seq := s.first(); seq <= th.top(s); seq++ {
			m := th.at(seq)
			want = append(want, th.shows(m, p.id, false))
			if m.change > 0 {
				byChange[m.change] = th.shows(m, p.id, false)
			}
		}
		for n := uint64(1); n <= uint64(len(th.changes)); n++ {
			if text, ok := byChange[n]; ok {
				changed = append(changed, text)
			}
		}
		if diff := g.pages(p, th, s, want, changed); diff != "" {
			return diff
		}
	}
	return ""
}

func (g *play) pages(p *player, th *thread, s *seat, want, changed []string) string {
	var got, gotChanged []string
	for after, more := im.Seq(0), true; more; {
		page, err := p.http.History(context.Background(), protocol.History{ConversationID: th.id, AfterSeq: &after, Limit: 7})
		first := s.first()
		if first == 1 {
			first = 0
		}
		if err != nil || page.FirstSeq != first {
			return fmt.Sprintf("history of %s: %v, from %d on, want %d", th.id, err, page.FirstSeq, first)
		}
		for _, m := range page.Items {
			got = append(got, brief(m, p.id, false))
			after = m.Seq
		}
		more = page.HasMore
	}
	if !slices.Equal(got, want) {
		return fmt.Sprintf("history of %s:\n got %q\nwant %q", th.id, got, want)
	}
	for after, more := uint64(0), true; more; {
		page, err := p.http.History(context.Background(), protocol.History{ConversationID: th.id, AfterChange: &after, Limit: 3})
		if err != nil || page.Change == nil {
			return fmt.Sprintf("changes of %s: %v", th.id, err)
		}
		for _, m := range page.Items {
			gotChanged = append(gotChanged, brief(m, p.id, false))
		}
		after, more = *page.Change, page.HasMore
		if !more && s.in() && after != uint64(len(th.changes)) {
			return fmt.Sprintf("changes of %s are complete up to %d, want %d", th.id, after, len(th.changes))
		}
	}
	if !slices.Equal(gotChanged, changed) {
		return fmt.Sprintf("changes of %s:\n got %q\nwant %q", th.id, gotChanged, changed)
	}
	if diff := g.edited(p, th, s); diff != "" {
		return diff
	}
	deletions, err := p.http.Deletions(context.Background(), th.id, 0, 100)
	if err != nil || len(deletions.Items) != len(s.gone) {
		return fmt.Sprintf("deletions of %s: %+v, %v; want %v", th.id, deletions, err, s.gone)
	}
	for _, d := range deletions.Items {
		if s.gone[d.Seq] != d.Deletion {
			return fmt.Sprintf("deletions of %s: %+v; want %v", th.id, deletions.Items, s.gone)
		}
	}
	return ""
}

// edited is all that the last edited message ever said.
func (g *play) edited(p *player, th *thread, s *seat) string {
	for seq := th.top(s); seq >= s.first(); seq-- {
		m := th.at(seq)
		if len(m.edits) == 0 || s.gone[seq] > 0 {
			continue
		}
		edits, err := p.http.Edits(context.Background(), th.id, seq)
		var got []string
		for _, e := range edits.Items {
			got = append(got, textOf(im.Message{Content: e.Content}))
		}
		if want := append(slices.Clone(m.edits), m.text); err != nil || !slices.Equal(got, want) {
			return fmt.Sprintf("edits of %d in %s: %q, %v; want %q", seq, th.id, got, err, want)
		}
		return ""
	}
	return ""
}

// sources is what waits for the user's devices.
func (g *play) sources(p *player) string {
	sources, err := p.http.Offline(context.Background())
	if err != nil || sources.Degraded {
		return fmt.Sprintf("offline: %v degraded %t", err, sources.Degraded)
	}
	got := map[im.ConversationID]string{}
	for _, o := range sources.Items {
		got[o.ConversationID] = fmt.Sprint(o.Count, " after ", o.DeliveredSeq, " of ", o.LastSeq)
	}
	for _, th := range g.w.of(p.id) {
		s, want := th.seats[p.id], ""
		if some, n := th.waiting(p.id, s); some {
			want = fmt.Sprint(n, " after ", s.delivered, " of ", th.top(s))
		}
		if got[th.id] != want {
			return fmt.Sprintf("offline in %s: %q, want %q", th.id, got[th.id], want)
		}
		delete(got, th.id)
	}
	if len(got) > 0 {
		return fmt.Sprintf("offline besides: %v", got)
	}
	return ""
}

// mirrors brings the mirror up to date and holds it against the model.
func (g *play) mirrors(p *player) string {
	mi := &p.mirror
	before := ""
	for more := true; more; {
		var s protocol.Synced
		var err error
		if before == "" {
			s, err = p.http.Sync(context.Background(), mi.position, 2)
		} else {
			err = p.http.Do(context.Background(), "GET", "/v1/sync?limit=2&before="+before, nil, &s)
		}
		if err != nil || s.Degraded {
			return fmt.Sprintf("sync: %v degraded %t", err, s.Degraded)
		}
		if s.Full && before == "" {
			mi.rows, mi.position = make(map[im.ConversationID]row), &s.Position
		}
		for _, c := range s.Conversations {
			mi.rows[c.ConversationID] = rowOf(c, p.id)
		}
		if !s.Full {
			mi.position = &s.Position
		}
		if more = s.HasMore; s.Full {
			before = s.Next
		}
	}
	for _, th := range g.w.of(p.id) {
		want, _ := th.row(p.id)
		got, there := mi.rows[th.id]
		if !there && want.isHidden {
			continue
		}
		got.name = want.name // a new name of the group is told in its main channel
		if want.left {       // of how what they have seen changes after that they are not told
			got.lastMessage, want.lastMessage = "", ""
			got.unread, want.unread = 0, 0 // nor of a recall
		}
		if diff := differ("by sync", got, want); diff != "" {
			return diff
		}
	}
	if len(mi.rows) > len(g.w.of(p.id)) {
		return fmt.Sprintf("sync told of %d conversations", len(mi.rows))
	}
	return ""
}

func (g *play) gadgets(p *player) string {
	for _, d := range p.gadgets {
		if diff := d.check(g.w); diff != "" {
			return diff
		}
	}
	return ""
}
