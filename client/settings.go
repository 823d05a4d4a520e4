package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// settled is what this device knows to be set for a conversation: how far, not what.
type settled struct {
	version uint64
	floor   im.Seq
}

// ChangeSettings pins, mutes, marks, hides or keeps the draft of a conversation. The
// user's other devices hear of it by OnSettings.
func (c *Client) ChangeSettings(ctx context.Context, conv im.ConversationID, change protocol.ChangeSettings) (s protocol.ConversationSettings, err error) {
	if err = c.Do(ctx, protocol.CmdSettings, protocol.SettingsOf{ConversationID: conv, ChangeSettings: change}, &s); err == nil {
		c.learn(conv, settled{s.Settings.Version, s.FloorSeq})
	}
	return s, err
}

// DeleteConversation deletes for this user what was said up to a seq.
func (c *Client) DeleteConversation(ctx context.Context, conv im.ConversationID, upTo im.Seq) (s protocol.ConversationSettings, err error) {
	if err = c.Do(ctx, protocol.CmdDelete, protocol.DeleteConversation{ConversationID: conv, UpToSeq: upTo}, &s); err == nil {
		c.learn(conv, settled{s.Settings.Version, s.FloorSeq})
	}
	return s, err
}

// learn notes what is set; false where that was known already, or is older.
func (c *Client) learn(conv im.ConversationID, now settled) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.settings[conv]
	if now.version <= known.version && now.floor <= known.floor {
		return false
	}
	c.settings[conv] = settled{max(now.version, known.version), max(now.floor, known.floor)}
	return true
}

// learnRow is learn for a row of a list.
func (c *Client) learnRow(row *protocol.Conversation) {
	now := settled{floor: row.FloorSeq}
	if row.Settings != nil {
		now.version = row.Settings.Version
	}
	c.learn(row.ConversationID, now)
}

// missed says that this device has not heard of what a digest says is set, or of the
// channel at all: where it begins there, the list says.
func (c *Client) missed(d protocol.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, channel := d.ConversationID.Channel(); channel && c.threads[d.ConversationID] == nil {
		return true
	}
	known := c.settings[d.ConversationID]
	return d.SettingsVersion > known.version || d.FloorSeq > known.floor
}

// ChangeSettings pins, mutes, marks, hides or keeps the draft of a conversation.
func (h *HTTP) ChangeSettings(ctx context.Context, conv im.ConversationID, change protocol.ChangeSettings) (s protocol.ConversationSettings, err error) {
	return s, h.Do(ctx, http.MethodPatch, "/v1/conversations/"+url.PathEscape(string(conv))+"/settings", change, &s)
}

// DeleteConversation deletes for this user what was said up to a seq.
func (h *HTTP) DeleteConversation(ctx context.Context, conv im.ConversationID, upTo im.Seq) (s protocol.ConversationSettings, err error) {
	path := "/v1/conversations/" + url.PathEscape(string(conv)) + "?up_to_seq=" + strconv.FormatUint(uint64(upTo), 10)
	return s, h.Do(ctx, http.MethodDelete, path, nil, &s)
}

// Conversation is one row of the list.
func (h *HTTP) Conversation(ctx context.Context, conv im.ConversationID) (row protocol.Conversation, err error) {
	return row, h.Do(ctx, http.MethodGet, "/v1/conversations/"+url.PathEscape(string(conv)), nil, &row)
}

// ConversationsOnly pages through what a filter lets through of the list.
func (h *HTTP) ConversationsOnly(ctx context.Context, only im.ListFilter, before string, limit int) (c protocol.Conversations, err error) {
	q := url.Values{"filter": {string(only)}}
	if before != "" {
		q.Set("before", before)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return c, h.Do(ctx, http.MethodGet, "/v1/conversations?"+q.Encode(), nil, &c)
}
