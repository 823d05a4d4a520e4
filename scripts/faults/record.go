package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// record is what everybody asked, was answered and was shown in one run. Times are
// monotonic, since the run began.
type record struct {
	began time.Time
	convs []*conv

	mu      sync.Mutex // guards what follows
	sends   []*send
	byToken map[string]*send
	changes []*change
	moves   []*move
	reads   map[seat]im.Seq // read receipts that were confirmed
	owed    map[seat]im.Seq // read receipts whose outcome is not known
	sights  []sight
	closing bool     // nobody reads any more
	early   []string // pushes of what could not yet be read
	partial []string // lists that left something out
	// seen is when the newest message was asked for that somebody else has seen, seenFirst
	// when that was so of any.
	seen, seenFirst map[im.ConversationID]time.Duration
	acked           int
}

// conv is one conversation of the load.
type conv struct {
	id      im.ConversationID
	group   im.GroupID  // 0: one-to-one
	members []im.UserID // from the beginning to the end; the first sees everything
	// speakers is how many of the members, from the first on, send.
	speakers int
	guest    im.UserID // one who comes and goes; 0: none
}

func (c *conv) has(u im.UserID) bool { return slices.Contains(c.members, u) }

// seat is one user in one conversation.
type seat struct {
	user im.UserID
	conv im.ConversationID
}

// outcome of one attempt, as it was answered.
type outcome int

const (
	unknown outcome = iota // no answer, or an answer that says so
	acked
	refused
)

// send is one message that somebody wanted to send, under one client message ID.
type send struct {
	conv   im.ConversationID
	sender im.UserID
	id     im.ClientMsgID
	token  string // the first word of its text, by which everybody knows it
	begun  time.Duration
	tries  []try
}

// try is one attempt.
type try struct {
	asked, answered time.Duration
	conn            int // of the socket; 0: by HTTP
	nth             int // place among what was written on that connection
	outcome         outcome
	seq             im.Seq // where it was answered stored
	code            string // of an error
}

// outcome of a message after all its attempts.
func (s *send) outcome() outcome {
	out := refused
	for _, t := range s.tries {
		switch t.outcome {
		case acked:
			return acked
		case unknown:
			out = unknown
		}
	}
	return out
}

// change is an edit or a recall that somebody wanted to make of a message of theirs.
type change struct {
	conv    im.ConversationID
	token   string // of the message
	recall  bool
	outcome outcome
}

// move is a change of a guest's membership, in the order in which they were asked for.
type move struct {
	conv            im.ConversationID
	user            im.UserID
	in              bool // comes, or goes
	asked, answered time.Duration
	outcome         outcome
}

// manner is how somebody came to see a message.
type manner uint8

const (
	pushed manner = iota
	placed        // one's own, pushed as stored: where it is and no more
	synced        // pulled because a sync at connect named it
	asked         // pulled because of a hole or a heartbeat: the push had not come
)

// shown is a message as it was shown to somebody.
type shown struct {
	seq      im.Seq
	id       im.MessageID
	sender   im.UserID
	cmid     im.ClientMsgID // to its sender only
	token    string         // empty where it was recalled, or is a notice
	recalled bool
	edited   bool
	notice   *im.Notice
	stored   int64 // when, in Unix milliseconds
}

// sight is a message shown to a device during the run.
type sight struct {
	seat
	shown
	manner manner
	conn   int
	at     time.Duration
}

func (g *sight) where() string { return fmt.Sprintf("%d of %s, to %s", g.seq, g.conv, g.user) }

func newRecord(convs []*conv) *record {
	return &record{
		began: time.Now(), convs: convs, byToken: make(map[string]*send),
		reads: make(map[seat]im.Seq), owed: make(map[seat]im.Seq),
		seen: make(map[im.ConversationID]time.Duration), seenFirst: make(map[im.ConversationID]time.Duration),
	}
}

func (r *record) now() time.Duration { return time.Since(r.began) }

// begin notes that a message is about to be sent for the first time.
func (r *record) begin(s *send) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.begun = r.now()
	r.sends = append(r.sends, s)
	r.byToken[s.token] = s
}

// tried notes the end of an attempt.
func (r *record) tried(s *send, t try) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.outcome == acked && s.outcome() != acked {
		r.acked++
	}
	s.tries = append(s.tries, t)
}

// saw notes what a device was shown.
func (r *record) saw(g sight) {
	g.at = r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sights = append(r.sights, g)
	if s := r.byToken[g.token]; s != nil && s.sender != g.user {
		r.seen[g.conv] = max(r.seen[g.conv], s.begun)
		if r.seenFirst[g.conv] == 0 {
			r.seenFirst[g.conv] = g.at
		}
	}
}

// through says whether in every conversation a message was sent after since, and seen by
// somebody else: whatever was broken then is whole again.
func (r *record) through(since time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !slices.ContainsFunc(r.convs, func(c *conv) bool { return r.seen[c.id] < since })
}

// counts are messages by their outcome.
func (r *record) counts() (n [3]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sends {
		n[s.outcome()]++
	}
	return n
}

func (r *record) note(list *[]string, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*list = append(*list, what)
}

// show reads a message of the wire.
func show(m im.Message) shown {
	s := shown{
		seq: m.Seq, id: m.ID, sender: m.Sender.ID, cmid: m.ClientMsgID,
		recalled: m.RecalledAt > 0, edited: m.EditedAt > 0, stored: m.StoredAt,
	}
	switch {
	case m.Type == im.TypeNotice:
		s.notice = new(im.Notice)
		_ = json.Unmarshal(m.Content, s.notice) // one that cannot be read is about nobody
	case m.Type == im.TypeText && !s.recalled:
		var text im.TextContent
		_ = json.Unmarshal(m.Content, &text) // one that cannot be read has no token, and is found
		s.token, _, _ = strings.Cut(text.Text, " ")
	}
	return s
}
