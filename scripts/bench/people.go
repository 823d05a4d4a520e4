package main

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// asked is how many HTTP requests are on their way at once while a run is prepared.
const asked = 16

// person is one user with one device.
type person struct {
	user   im.UserID
	device im.DeviceID
	token  string
}

func (p person) http(base string) *client.HTTP {
	return &client.HTTP{Base: base, Token: func() string { return "Bearer " + p.token }}
}

// people creates n users, as a backend does, and logs each in.
func (b *bench) people(ctx context.Context, prefix string, n int) ([]person, error) {
	all := make([]person, n)
	const each = 500 // protocol.MaxServerUsers
	server := b.engine.backend()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(asked)
	for at := 0; at < n; at += each {
		part := all[at:min(at+each, n)]
		g.Go(func() error {
			users := make([]protocol.ServerUser, len(part))
			for i := range part {
				users[i] = protocol.ServerUser{ExternalID: fmt.Sprint(b.run, "-", prefix, "-", at+i), Nickname: fmt.Sprint(prefix, " ", at+i)}
			}
			res, err := server.UpsertUsers(gctx, users)
			if err != nil {
				return err
			}
			for i := range part {
				part[i] = person{user: res.Users[i].ID, device: im.DeviceID(fmt.Sprint("bench-", at+i))}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("create users: %w", err)
	}
	g, gctx = errgroup.WithContext(ctx)
	g.SetLimit(asked)
	for i := range all {
		p := &all[i]
		g.Go(func() error {
			t, err := server.IssueTokens(gctx, protocol.IssueTokens{UserID: &p.user, Device: p.device, Platform: "bench"})
			p.token = t.AccessToken
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("issue tokens: %w", err)
	}
	return all, nil
}

// channel makes a group of all, the first its owner, and returns its channel.
func (b *bench) channel(ctx context.Context, all []person) (im.ConversationID, error) {
	var rest []im.UserID
	for _, p := range all[1:] {
		rest = append(rest, p.user)
	}
	owner := all[0].http(b.engine.http())
	invited := min(len(rest), im.MaxMembersPerCall)
	made, err := owner.CreateGroup(ctx, protocol.CreateGroup{Name: "bench", Members: rest[:invited]})
	if err != nil {
		return "", fmt.Errorf("create a group: %w", err)
	}
	for part := range slices.Chunk(rest[invited:], im.MaxMembersPerCall) {
		if _, err := owner.AddMembers(ctx, made.Group.ID, part...); err != nil {
			return "", fmt.Errorf("invite: %w", err)
		}
	}
	return made.Group.MainChannelID, nil
}
