package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

// person is one user of the load. Who is silent has no device that connects and sends
// nothing: only their list is looked at, by which nobody else has it completed.
type person struct {
	id     im.UserID
	device im.DeviceID
	token  string
	silent bool
}

// watchers are the silent people in all groups.
const watchers = 3

func (p *person) http(base string) *client.HTTP {
	return &client.HTTP{Base: base, Token: func() string { return "Bearer " + p.token }, Client: patient}
}

// patient waits longer than the server may, and for no connection of others: what it
// measures is the server's.
var patient = &http.Client{
	Timeout:   15 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second},
}

// size of a load.
type size struct {
	people int // with a device
	silent int // members of the big group who never connect
	direct int
	small  int // groups of 5, of which some have a guest
	middle int // groups of up to 50
	rate   float64
}

var (
	whole = size{people: 50, silent: 470, direct: 10, small: 15, middle: 4, rate: 150}
	quick = size{people: 20, silent: 490, direct: 5, small: 8, middle: 2, rate: 60}
)

// guests is how many of the small groups somebody comes to and leaves.
const guests = 4

// crowd are the users of a run and their conversations.
type crowd struct {
	people []*person // also the watchers
	convs  []*conv
	byID   map[im.UserID]*person
	// marker writes to marks, a one-to-one conversation in each partition: what is in the
	// log before that is handled before it.
	marker *person
	marks  []im.UserID
}

// gather makes users and conversations for one run.
func gather(ctx context.Context, c *cluster, run string, z size) (*crowd, error) {
	w := &crowd{byID: make(map[im.UserID]*person)}
	server := c.backend()
	users, err := upsert(ctx, server, run, z.people+z.silent)
	if err != nil {
		return nil, fmt.Errorf("create users: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, u := range users[:z.people+watchers] {
		p := &person{id: u, device: im.DeviceID(fmt.Sprint("device-", i)), silent: i >= z.people}
		w.people = append(w.people, p)
		w.byID[u] = p
		g.Go(func() error {
			t, err := server.IssueTokens(gctx, protocol.IssueTokens{UserID: &p.id, Device: p.device, Platform: "faults"})
			p.token = t.AccessToken
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("issue tokens: %w", err)
	}
	for i := range z.direct {
		a, b := users[2*i%z.people], users[(2*i+1)%z.people]
		w.convs = append(w.convs, &conv{id: im.DirectConversation(a, b), members: []im.UserID{a, b}, speakers: 2})
	}
	base := c.bases()[0]
	silent := users[z.people : z.people+watchers]
	group := func(speakers, others []im.UserID, guest im.UserID) error {
		v, err := w.group(ctx, base, slices.Concat(speakers, others))
		if err != nil {
			return fmt.Errorf("create a group: %w", err)
		}
		v.guest, v.speakers = guest, len(speakers)
		w.convs = append(w.convs, v)
		return nil
	}
	at := func(i int) im.UserID { return users[i%z.people] }
	for i := range z.small {
		var guest im.UserID
		if i < guests {
			guest = at(3*i + 5)
		}
		if err := group([]im.UserID{at(3 * i), at(3*i + 1), at(3*i + 2), at(3*i + 3), at(3*i + 4)}, silent, guest); err != nil {
			return nil, err
		}
	}
	for i := range z.middle {
		if err := group(slices.Concat(users[i:z.people], users[:i]), silent, 0); err != nil {
			return nil, err
		}
	}
	if err := group(users[:z.people], users[z.people:len(users)-1], 0); err != nil {
		return nil, err
	}
	return w, w.mark(ctx, server, users[len(users)-1], users[z.people+watchers:])
}

// mark makes the marker.
func (w *crowd) mark(ctx context.Context, server *client.HTTP, marker im.UserID, among []im.UserID) error {
	t, err := server.IssueTokens(ctx, protocol.IssueTokens{UserID: &marker, Device: "marker", Platform: "faults"})
	if err != nil {
		return fmt.Errorf("issue a token: %w", err)
	}
	w.marker = &person{id: marker, device: "marker", token: t.AccessToken}
	n := (queue.Config{}).WithDefaults().Partitions
	in := make(map[int]bool)
	for _, u := range among {
		if p := queue.Partition(im.DirectConversation(marker, u), n); !in[p] {
			in[p] = true
			w.marks = append(w.marks, u)
		}
	}
	return nil
}

func upsert(ctx context.Context, server *client.HTTP, run string, n int) (ids []im.UserID, err error) {
	var all []protocol.ServerUser
	for i := range n {
		all = append(all, protocol.ServerUser{ExternalID: fmt.Sprint(run, "-", i), Nickname: fmt.Sprint("person ", i)})
	}
	for part := range slices.Chunk(all, protocol.MaxServerUsers) {
		res, err := server.UpsertUsers(ctx, part)
		if err != nil {
			return nil, err
		}
		for _, u := range res.Users {
			ids = append(ids, u.ID)
		}
	}
	return ids, nil
}

// group makes one of which the first is the owner.
func (w *crowd) group(ctx context.Context, base string, members []im.UserID) (*conv, error) {
	owner := w.byID[members[0]].http(base)
	others := members[1:]
	first := min(len(others), im.MaxMembersPerCall)
	made, err := owner.CreateGroup(ctx, protocol.CreateGroup{Name: "faults", Members: others[:first], ClientGroupID: client.NewClientMsgID()})
	if err != nil {
		return nil, err
	}
	for part := range slices.Chunk(others[first:], im.MaxMembersPerCall) {
		if _, err := owner.AddMembers(ctx, made.Group.ID, part...); err != nil {
			return nil, err
		}
	}
	return &conv{id: made.Group.MainChannelID, group: made.Group.ID, members: members}, nil
}
