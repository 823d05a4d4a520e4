package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// speaker is a person of the group. Several channels may want them at the same time.
type speaker struct {
	*person
	sockets []string // one after another, a life each

	life  sync.Mutex // guards the person's device, and what follows
	lives int
	names []naming
}

// naming is one change of a speaker's name: it shows in what they send after done, and
// does not in what was accepted before begun.
type naming struct {
	name        string
	begun, done time.Time
}

// nameFresh is for how long a process may show a name that was changed elsewhere.
const nameFresh = 5 * time.Second

// appear brings the device online. With s.life held.
func (s *speaker) appear(ctx context.Context, wantRead func(*person, im.ConversationID, im.Seq)) {
	s.socket = s.sockets[s.lives%len(s.sockets)]
	s.lives++
	s.comeOnline(ctx, wantRead)
}

// flip lets the device go or come; of those who are away, one in five comes.
func (s *speaker) flip(ctx context.Context, wantRead func(*person, im.ConversationID, im.Seq)) {
	s.life.Lock()
	defer s.life.Unlock()
	switch {
	case s.online():
		s.goOffline()
	case rand.IntN(5) == 0:
		s.appear(ctx, wantRead)
	}
}

// leave ends the device of somebody who has left, unless it has messages on their way.
func (s *speaker) leave() {
	s.life.Lock()
	defer s.life.Unlock()
	if s.online() {
		s.goOffline()
	}
}

// say queues a text, from the device that is then online.
func (s *speaker) say(ctx context.Context, to im.ConversationID, text string, wantRead func(*person, im.ConversationID, im.Seq)) (*client.Outgoing, error) {
	s.life.Lock()
	defer s.life.Unlock()
	if !s.online() {
		s.appear(ctx, wantRead)
	}
	s.settle()
	out, err := s.cl.SendText(protocol.To{ConversationID: to}, text)
	if err == nil {
		s.open = append(s.open, out)
	}
	return out, err
}

// rename changes the speaker's profile.
func (s *speaker) rename(ctx context.Context, name string) error {
	begun := time.Now()
	var now im.Profile
	err := again(ctx, func() error {
		return s.http.Do(ctx, "PATCH", "/v1/users/me", protocol.UpdateProfile{Nickname: &name}, &now)
	})
	s.life.Lock()
	s.names = append(s.names, naming{now.Nickname, begun, time.Now()})
	s.life.Unlock()
	return err
}

// calledAt says whether name is what a message of theirs may show that was sent, and
// accepted, at these times.
func (s *speaker) calledAt(name string, sent, accepted time.Time) bool {
	for i, n := range s.names {
		over := time.Time{}
		if i+1 < len(s.names) {
			over = s.names[i+1].done.Add(nameFresh)
		}
		if n.name == name && n.begun.Before(accepted) && (over.IsZero() || sent.Before(over)) {
			return true
		}
	}
	return false
}

// bounds is how far the speaker's cursor in c is known to have come, and the most that
// it may have where an answer was lost.
type bounds struct{ low, high im.Seq }

func (b bounds) raise(to im.Seq) bounds { return bounds{max(b.low, to), max(b.high, to)} }

// delivered and readTo are the cursors that the speaker's own acks and reads have moved.
// The device is away.
func (s *speaker) delivered(c im.ConversationID) bounds {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bounds{s.acked[c], max(s.acked[c], s.readTry[c], s.have[c])}
}

func (s *speaker) readTo(c im.ConversationID) bounds {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bounds{s.read[c], max(s.read[c], s.readTry[c])}
}
