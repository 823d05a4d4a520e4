package client

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Presence asks who is online now.
func (c *Client) Presence(ctx context.Context, users ...im.UserID) ([]protocol.Presence, error) {
	return c.askPresence(ctx, users, nil)
}

// Watch asks who is online now, and has OnPresence told of every change until Unwatch,
// on this connection and those after it: after each connect OnPresence also sees the
// state of all who are watched. The server keeps 1,000 a connection.
func (c *Client) Watch(ctx context.Context, users ...im.UserID) ([]protocol.Presence, error) {
	on := true
	now, err := c.askPresence(ctx, users, &on)
	if err == nil {
		c.mu.Lock()
		for _, u := range users {
			c.watched[u] = true
		}
		c.mu.Unlock()
	}
	return now, err
}

// Unwatch ends what Watch began.
func (c *Client) Unwatch(ctx context.Context, users ...im.UserID) error {
	c.mu.Lock()
	for _, u := range users {
		delete(c.watched, u)
	}
	c.mu.Unlock()
	off := false
	_, err := c.askPresence(ctx, users, &off)
	return err
}

func (c *Client) askPresence(ctx context.Context, users []im.UserID, subscribe *bool) (all []protocol.Presence, err error) {
	for part := range slices.Chunk(users, im.MaxPresenceAsked) {
		var p protocol.Presences
		if err := c.Do(ctx, protocol.CmdPresence, protocol.AskPresence{Users: part, Subscribe: subscribe}, &p); err != nil {
			return nil, err
		}
		all = append(all, p.Items...)
	}
	return all, nil
}

// watchAgain asks anew for all who are watched: a new connection watches nobody, and
// after lost pushes one may be wrong. What cannot be answered now is asked again with
// the next heartbeat.
func (c *Client) watchAgain(ctx context.Context, cn *conn) {
	c.mu.Lock()
	users := slices.Sorted(maps.Keys(c.watched))
	c.mu.Unlock()
	on := true
	failed := false
	for part := range slices.Chunk(users, im.MaxPresenceAsked) {
		var p protocol.Presences
		if cn.call(ctx, protocol.CmdPresence, protocol.AskPresence{Users: part, Subscribe: &on}, &p) != nil {
			failed = true
			break
		}
		for _, one := range p.Items {
			if c.opt.OnPresence != nil {
				c.opt.OnPresence(one)
			}
		}
	}
	c.mu.Lock()
	c.unwatched = failed
	c.mu.Unlock()
}

// owesWatch says that the connection does not watch whom it should.
func (c *Client) owesWatch() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unwatched
}

// TypingEvery is how often to say that one goes on typing; the other side forgets it
// after twice as long.
const TypingEvery = protocol.TypingExpires / 2 * time.Millisecond

// Typing tells the other side that this user types in a conversation, or has stopped.
func (c *Client) Typing(ctx context.Context, conv im.ConversationID, on bool) error {
	return c.Do(ctx, protocol.CmdTyping, protocol.Typing{ConversationID: conv, On: on}, nil)
}

// Presence asks who is online now.
func (h *HTTP) Presence(ctx context.Context, users ...im.UserID) (all []protocol.Presence, err error) {
	for part := range slices.Chunk(users, im.MaxPresenceAsked) {
		ids := make([]string, len(part))
		for i, u := range part {
			ids[i] = u.String()
		}
		var p protocol.Presences
		if err := h.Do(ctx, http.MethodGet, "/v1/presence?"+url.Values{"users": {strings.Join(ids, ",")}}.Encode(), nil, &p); err != nil {
			return nil, err
		}
		all = append(all, p.Items...)
	}
	return all, nil
}

// Devices lists where this user is logged in.
func (h *HTTP) Devices(ctx context.Context) (d protocol.Devices, err error) {
	return d, h.Do(ctx, http.MethodGet, "/v1/auth/devices", nil, &d)
}

// RevokeDevice ends a device's login and its connections, wherever they are.
func (h *HTTP) RevokeDevice(ctx context.Context, d im.DeviceID) error {
	return h.Do(ctx, http.MethodDelete, "/v1/auth/devices/"+url.PathEscape(string(d)), nil, nil)
}
