package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// op is one change of who is in a channel, and the notice that must tell of it.
type op struct {
	kinds       []im.NoticeKind // one of them
	join, leave []*speaker
	seq         im.Seq // found by the check
}

var (
	created = []im.NoticeKind{im.NoticeCreated, im.NoticeChannelCreated}
	joins   = []im.NoticeKind{im.NoticeJoined}
	leaves  = []im.NoticeKind{im.NoticeLeft, im.NoticeRemoved}
)

// change makes one change, whose notices the given rooms get, and returns when they are
// stored: as the answer says, else when they are in the history. A change that is tried
// again may find itself done. The rooms' mu are held.
func (g *groupReplay) change(ctx context.Context, o op, rooms []*room, call func() (protocol.GroupChanged, error)) (protocol.GroupChanged, error) {
	var done protocol.GroupChanged
	tries := 0
	err := again(ctx, func() (err error) {
		tries++
		done, err = call()
		var e *protocol.Error
		if tries > 1 && errors.As(err, &e) && !e.Retryable {
			done, err = protocol.GroupChanged{}, nil // the history tells whether it was done
		}
		return err
	})
	if err != nil {
		return done, err
	}
	for _, r := range rooms {
		one := o
		r.plan = append(r.plan, planned{op: &one})
		r.notices++
		r.in = slices.DeleteFunc(r.in, func(s *speaker) bool { return slices.Contains(o.leave, s) })
		r.in = append(r.in, o.join...)
	}
	if done.Applied && tries == 1 {
		return done, nil
	}
	return done, g.heard(ctx, rooms)
}

// heard waits until all notices of the rooms are in their histories.
func (g *groupReplay) heard(ctx context.Context, rooms []*room) error {
	ctx, cancel := context.WithTimeout(ctx, outage)
	defer cancel()
	for _, r := range rooms {
		for r.read < r.notices {
			after := r.upTo
			page, err := g.owner.http.History(ctx, protocol.History{ConversationID: r.id, AfterSeq: &after, Limit: 100})
			if err != nil { // the engine is away, or nothing is stored in it yet
				page = protocol.Page{}
			}
			for _, m := range page.Items {
				r.upTo = m.Seq
				if m.Type == im.TypeNotice {
					r.read++
				}
			}
			if page.HasMore {
				continue
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s: %d notices of %d: %w", r.name, r.read, r.notices, errors.Join(ctx.Err(), err))
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func (g *groupReplay) path(rest string) string { return "/v1/groups/" + g.id.String() + rest }

func (g *groupReplay) post(ctx context.Context, by *speaker, method, path string, in any) (done protocol.GroupChanged, err error) {
	return done, by.http.Do(ctx, method, path, in, &done)
}

// create makes the group and lets everyone in.
func (g *groupReplay) create(ctx context.Context) error {
	g.main = &room{name: "main"}
	clientID := client.NewClientMsgID()
	var first []*speaker
	for part := range slices.Chunk(g.order, im.MaxMembersPerCall) {
		ids := idsOf(part)
		if first == nil {
			first = append([]*speaker{g.owner}, part...)
			var made protocol.GroupChanged
			if err := again(ctx, func() (err error) {
				made, err = g.post(ctx, g.owner, "POST", "/v1/groups", protocol.CreateGroup{Name: "#ubuntu", Members: ids, ClientGroupID: clientID})
				return err
			}); err != nil {
				return fmt.Errorf("create group: %w", err)
			}
			g.id, g.main.id = made.Group.ID, made.Group.MainChannelID
			g.main.plan = []planned{{op: &op{kinds: created, join: first}}}
			g.main.in, g.main.notices = slices.Clone(first), 1
			continue
		}
		if err := g.addToGroup(ctx, part); err != nil {
			return err
		}
	}
	if err := g.heard(ctx, []*room{g.main}); err != nil {
		return err
	}
	g.log.Info("group created", "group", g.id, "members", len(g.order)+1)
	return nil
}

func (g *groupReplay) addToGroup(ctx context.Context, who []*speaker) error {
	g.main.mu.Lock()
	defer g.main.mu.Unlock()
	_, err := g.change(ctx, op{kinds: joins, join: who}, []*room{g.main}, func() (protocol.GroupChanged, error) {
		return g.post(ctx, g.owner, "POST", g.path("/members"), protocol.AddMembers{UserIDs: idsOf(who)})
	})
	if err != nil {
		return fmt.Errorf("add to group: %w", err)
	}
	return nil
}

// createRoom makes a file's channel. Where the answer was lost, it is looked for.
func (g *groupReplay) createRoom(ctx context.Context, script *channelScript) (*room, error) {
	home := make([]*speaker, len(script.home))
	for i, key := range script.home {
		home[i] = g.speakers[key]
	}
	r := &room{name: script.name, in: append([]*speaker{g.owner}, home...), notices: 1}
	r.plan = []planned{{op: &op{kinds: created, join: slices.Clone(r.in)}}}
	tries := 0
	err := again(ctx, func() error {
		if tries++; tries > 1 {
			var now protocol.Group
			if err := g.owner.http.Do(ctx, "GET", g.path(""), nil, &now); err != nil {
				return err
			}
			for _, c := range now.Channels {
				if c.Name == r.name {
					r.id = c.ConversationID
					return nil
				}
			}
		}
		made, err := g.post(ctx, g.owner, "POST", g.path("/channels"), protocol.CreateChannel{Name: r.name, Private: true, Members: idsOf(home)})
		if err == nil {
			r.id = made.Channel.ConversationID
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create channel: %w", err)
	}
	g.mu.Lock()
	g.rooms = append(g.rooms, r)
	g.mu.Unlock()
	return r, g.heard(ctx, []*room{r})
}

func (g *groupReplay) add(ctx context.Context, r *room, who []*speaker) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := g.change(ctx, op{kinds: joins, join: who}, []*room{r}, func() (protocol.GroupChanged, error) {
		return g.post(ctx, g.owner, "POST", g.path("/channels/"+string(r.id)+"/members"), protocol.AddMembers{UserIDs: idsOf(who)})
	})
	if err != nil {
		return fmt.Errorf("add to channel: %w", err)
	}
	return nil
}

func (g *groupReplay) remove(ctx context.Context, r *room, who, by *speaker) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := g.change(ctx, op{kinds: leaves, leave: []*speaker{who}}, []*room{r}, func() (protocol.GroupChanged, error) {
		return g.post(ctx, by, "DELETE", g.path("/channels/"+string(r.id)+"/members/"+who.id().String()), nil)
	})
	if err != nil {
		return fmt.Errorf("%s leaves channel: %w", who.nick, err)
	}
	return nil
}

// leaveGroup lets one in a hundred leave the group, and with it all channels that they
// are in; or the owner removes them. Every third comes back, to the main channel only.
func (g *groupReplay) leaveGroup(ctx context.Context) error {
	for i := 50; i < len(g.order); i += 100 {
		who, by := g.order[i], g.order[i]
		if i%200 == 50 {
			by = g.owner
		}
		var from []*room
		for _, r := range append([]*room{g.main}, g.rooms...) {
			if slices.Contains(r.in, who) {
				from = append(from, r)
			}
		}
		_, err := g.change(ctx, op{kinds: leaves, leave: []*speaker{who}}, from, func() (protocol.GroupChanged, error) {
			return g.post(ctx, by, "DELETE", g.path("/members/"+who.id().String()), nil)
		})
		if err != nil {
			return fmt.Errorf("%s leaves the group: %w", who.nick, err)
		}
		if i%300 == 50 {
			if err := g.addToGroup(ctx, []*speaker{who}); err != nil {
				return err
			}
		}
	}
	return nil
}

func idsOf(who []*speaker) []im.UserID {
	ids := make([]im.UserID, len(who))
	for i, s := range who {
		ids[i] = s.id()
	}
	return ids
}
