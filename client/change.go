package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// ChangedUpTo is how far a device has learned what changed in one conversation: the
// number of the last change, and of the user's last deletion for themselves.
type ChangedUpTo struct{ Change, Deletion uint64 }

// NewClientChangeID is random, as NewClientMsgID.
func NewClientChangeID() im.ClientChangeID { return im.ClientChangeID(NewClientMsgID()) }

// Change recalls, edits or reacts. It returns once the server has taken it; what became
// of it comes by OnChanged or OnChangeRejected. After an error whose outcome is unknown
// the same client change ID may be tried again; an empty one is filled in.
func (c *Client) Change(ctx context.Context, ch protocol.Change) (a protocol.ChangeAnswer, err error) {
	if ch.ClientChangeID == "" {
		ch.ClientChangeID = NewClientChangeID()
	}
	return a, c.Do(ctx, protocol.CmdChange, ch, &a)
}

// Recall takes back a message of this user's.
func (c *Client) Recall(ctx context.Context, conv im.ConversationID, seq im.Seq) error {
	_, err := c.Change(ctx, protocol.Change{ConversationID: conv, Seq: seq, Kind: im.ChangeRecall})
	return err
}

// Edit gives a text of this user's another text.
func (c *Client) Edit(ctx context.Context, conv im.ConversationID, seq im.Seq, text string) error {
	content, err := json.Marshal(im.TextContent{Text: text})
	if err != nil {
		return fmt.Errorf("encode text: %w", err)
	}
	_, err = c.Change(ctx, protocol.Change{ConversationID: conv, Seq: seq, Kind: im.ChangeEdit, Content: content})
	return err
}

// React adds this user's reaction or takes it away.
func (c *Client) React(ctx context.Context, conv im.ConversationID, seq im.Seq, reaction string, on bool) error {
	kind := im.ChangeReact
	if !on {
		kind = im.ChangeUnreact
	}
	_, err := c.Change(ctx, protocol.Change{ConversationID: conv, Seq: seq, Kind: kind, Reaction: reaction})
	return err
}

// DeleteMessages deletes messages for this user, on all of their devices.
func (c *Client) DeleteMessages(ctx context.Context, conv im.ConversationID, seqs ...im.Seq) error {
	return c.Do(ctx, protocol.CmdDeleteMessages, protocol.DeleteMessages{ConversationID: conv, Seqs: seqs}, nil)
}

// changed takes a pushed change: told if it is next, pulled for if it is not [C5].
func (c *Client) changed(ctx context.Context, cn *conn, p protocol.Changed) error {
	th := c.thread(p.ConversationID)
	switch {
	case th == nil || p.Change <= th.changed.Change:
		return nil // not known here, or known already
	case p.Message != nil && p.Message.Seq > th.have: // the message first
		if err := c.pull(ctx, cn, p.ConversationID, th); err != nil {
			return err
		}
	}
	if p.Change != th.changed.Change+1 {
		return c.pullChanges(ctx, cn, p.ConversationID, th)
	}
	c.mu.Lock()
	th.changed.Change = p.Change
	c.mu.Unlock()
	if p.Message != nil && c.opt.OnChanged != nil {
		c.opt.OnChanged(*p.Message)
	}
	return nil
}

// deleted takes a push about this user's deletions.
func (c *Client) deleted(ctx context.Context, cn *conn, p protocol.Deleted) error {
	th := c.thread(p.ConversationID)
	if th == nil {
		return nil
	}
	for _, it := range p.Items {
		if it.Deletion > th.changed.Deletion+1 {
			return c.pullDeletions(ctx, cn, p.ConversationID, th)
		}
		c.gone(p.ConversationID, th, it)
	}
	return nil
}

// gone tells the application of a deletion, once.
func (c *Client) gone(conv im.ConversationID, th *thread, h im.Hidden) {
	if h.Deletion <= th.changed.Deletion {
		return
	}
	c.mu.Lock()
	th.changed.Deletion = h.Deletion
	c.mu.Unlock()
	if c.opt.OnDeleted != nil {
		c.opt.OnDeleted(conv, h.Seq)
	}
}

// catchChanges pulls what this device has not learned of one conversation's changes
// and deletions, given how far they have come.
func (c *Client) catchChanges(ctx context.Context, cn *conn, conv im.ConversationID, th *thread, upTo ChangedUpTo) error {
	if th.changed.Change < upTo.Change {
		if err := c.pullChanges(ctx, cn, conv, th); err != nil {
			return err
		}
	}
	if th.changed.Deletion < upTo.Deletion {
		return c.pullDeletions(ctx, cn, conv, th)
	}
	return nil
}

func (c *Client) pullChanges(ctx context.Context, cn *conn, conv im.ConversationID, th *thread) error {
	for {
		after := th.changed.Change
		var p protocol.Page
		err := cn.call(ctx, protocol.CmdHistory, protocol.History{ConversationID: conv, AfterChange: &after, Limit: pullPage}, &p)
		if err != nil {
			return fmt.Errorf("pull changes of %s: %w", conv, err)
		}
		for _, m := range p.Items {
			if c.opt.OnChanged != nil {
				c.opt.OnChanged(m)
			}
		}
		if p.Change != nil {
			c.mu.Lock()
			th.changed.Change = max(th.changed.Change, *p.Change)
			c.mu.Unlock()
		}
		if !p.HasMore || th.changed.Change == after {
			return nil
		}
	}
}

func (c *Client) pullDeletions(ctx context.Context, cn *conn, conv im.ConversationID, th *thread) error {
	for {
		var p protocol.Deletions
		err := cn.call(ctx, protocol.CmdDeletions, protocol.AskDeletions{ConversationID: conv, After: th.changed.Deletion, Limit: pullPage}, &p)
		if err != nil {
			return fmt.Errorf("pull deletions of %s: %w", conv, err)
		}
		for _, it := range p.Items {
			c.gone(conv, th, it)
		}
		if !p.HasMore || len(p.Items) == 0 {
			return nil
		}
	}
}

// HaveChanged goes with Have, for the Options of this device's next life. Call it after
// Run has returned.
func (c *Client) HaveChanged() map[im.ConversationID]ChangedUpTo {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := make(map[im.ConversationID]ChangedUpTo, len(c.threads))
	for id, th := range c.threads {
		have[id] = th.changed
	}
	return have
}

func messagePath(c im.ConversationID, seq im.Seq) string {
	return "/v1/conversations/" + url.PathEscape(string(c)) + "/messages/" + strconv.FormatUint(uint64(seq), 10)
}

// Change recalls, edits or reacts, and waits until it is accepted, or with wait until it
// is stored (at most 4.5 s, then the state is still accepted).
func (h *HTTP) Change(ctx context.Context, ch protocol.Change, wait bool) (a protocol.ChangeAnswer, err error) {
	path := messagePath(ch.ConversationID, ch.Seq) + "/changes"
	if wait {
		path += "?wait=stored"
	}
	return a, h.Do(ctx, http.MethodPost, path, ch, &a)
}

// Edits is all that a message ever said, the present last.
func (h *HTTP) Edits(ctx context.Context, c im.ConversationID, seq im.Seq) (e protocol.Edits, err error) {
	return e, h.Do(ctx, http.MethodGet, messagePath(c, seq)+"/edits", nil, &e)
}

// Reactors pages through who reacted to a message in one way; after is the last page's
// Next.
func (h *HTTP) Reactors(ctx context.Context, c im.ConversationID, seq im.Seq, reaction, after string, limit int) (r protocol.Reactors, err error) {
	path := messagePath(c, seq) + "/reactions?reaction=" + url.QueryEscape(reaction) + "&" + pageQuery("after", after, limit)
	return r, h.Do(ctx, http.MethodGet, path, nil, &r)
}

// DeleteMessages deletes messages for this user alone.
func (h *HTTP) DeleteMessages(ctx context.Context, c im.ConversationID, seqs ...im.Seq) error {
	return h.Do(ctx, http.MethodPost, "/v1/conversations/"+url.PathEscape(string(c))+"/deletions", protocol.DeleteMessages{Seqs: seqs}, nil)
}

// Deletions is what this user has deleted after a number, by number.
func (h *HTTP) Deletions(ctx context.Context, c im.ConversationID, after uint64, limit int) (d protocol.Deletions, err error) {
	path := "/v1/conversations/" + url.PathEscape(string(c)) + "/deletions?" + pageQuery("after", strconv.FormatUint(after, 10), limit)
	return d, h.Do(ctx, http.MethodGet, path, nil, &d)
}
