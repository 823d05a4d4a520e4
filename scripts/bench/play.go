package main

import (
	"slices"
	"strings"
	"sync"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/replay/corpus"
)

// play is the state of a replay.
type play struct {
	mu      sync.Mutex // guards all that follows, and the threads
	room    *room
	script  []cue // one round of the logs
	at      int   // lines taken from it
	stopped bool

	list []*playThread
	of   map[im.ConversationID]*playThread
}

// cue is one line of the logs: who says what where.
type cue struct {
	in   *playThread
	who  int
	text string
}

// playThread is one conversation with what was said in it.
type playThread struct {
	thread
	busy    bool
	waiting []cue // taken from the script while another is in flight; inFlight over all threads
	said    []cue
}

// newPlay hands out the parts: one after another to the casts, who say each line together.
func newPlay(speakers []string, lines []corpus.Line, all []person) *play {
	p := &play{of: make(map[im.ConversationID]*playThread)}
	part := make(map[string]int, len(speakers))
	for i, nick := range speakers {
		part[nick] = i
	}
	for _, l := range lines {
		text := strings.ToValidUTF8(l.Text, "\uFFFD") // the logs hold some Latin-1
		for cast := range slices.Chunk(all, len(speakers)) {
			from, to := cast[part[l.From]].user, cast[part[l.To]].user
			id := im.DirectConversation(from, to)
			t := p.of[id]
			if t == nil {
				t = &playThread{thread: thread{ends: [2]im.UserID{from, to}}}
				p.of[id] = t
				p.list = append(p.list, t)
			}
			c := cue{in: t, text: text}
			if t.ends[0] != from {
				c.who = 1
			}
			p.script = append(p.script, c)
		}
	}
	return p
}

func (p *play) meanBytes() float64 {
	n := 0
	for _, c := range p.script {
		n += len(c.text)
	}
	return float64(n) / float64(len(p.script))
}

// begin takes the first lines. One that is said at once leaves at once.
func (p *play) begin(r *room) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room = r
	for range inFlight {
		p.take()
	}
}

func (p *play) stop() {
	p.mu.Lock()
	p.stopped = true
	for _, t := range p.list {
		t.waiting = nil
	}
	p.mu.Unlock()
}

// came goes on where a message has come: in its conversation with what waits there, and
// with the next line of the logs.
func (p *play) came(receiver *talker, from im.UserID) *talker {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil
	}
	t := p.of[im.DirectConversation(from, receiver.user)]
	t.busy = false
	var next *talker
	if len(t.waiting) > 0 {
		c := t.waiting[0]
		t.waiting = t.waiting[1:]
		next = p.say(c)
	}
	p.take()
	return next
}

// take takes the next line of the logs: to be said now, or when its turn comes.
func (p *play) take() {
	c := p.script[p.at%len(p.script)]
	p.at++
	if c.in.busy {
		c.in.waiting = append(c.in.waiting, c)
		return
	}
	_ = p.say(c).flush() // its reader sees the end
}

func (p *play) say(c cue) *talker {
	c.in.busy = true
	c.in.said = append(c.in.said, c)
	return p.room.tell(&c.in.thread, c.who, c.text)
}
