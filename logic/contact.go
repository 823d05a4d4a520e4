package logic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// PeopleDeps is what People is built from.
type PeopleDeps struct {
	Contacts Contacts
	Profiles Profiles
	Limits   Limits
	Texts    Filter // over what a request says
	Sessions Sessions
	Bus      Bus
	Clock    func() time.Time
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// People keeps who is whose contact and who has blocked whom. A change is pushed to
// the devices of both sides but the one that asked for it, best effort: what is lost
// is learned by the version ([L8]).
type People struct {
	cfg    PeopleConfig
	deps   PeopleDeps
	limits *limiter
	met    *peopleMetrics
}

// NewPeople needs every field of deps.
func NewPeople(cfg PeopleConfig, deps PeopleDeps) *People {
	return &People{cfg: cfg.withDefaults(), deps: deps, limits: newLimiter(deps.Limits, deps.Clock), met: newPeopleMetrics(deps.Metrics)}
}

// RequestContact asks somebody to become a contact, and makes them one where they have
// asked already. Asked before, or a contact: the entry as it is. im.ErrNotFound for
// nobody, im.ErrBlocked where they have blocked the caller, im.ErrConflict where the
// caller has blocked them, im.FullError, im.LimitError.
func (p *People) RequestContact(ctx context.Context, who im.Identity, req protocol.RequestContact) (c protocol.Contact, err error) {
	defer p.met.count("request", &err)
	message, err := cleanLine("message", req.Message, im.MaxRequestMessage)
	if err != nil {
		return c, err
	}
	if err := p.limits.take(ctx, "contact", "u:"+who.User.String(), p.cfg.RequestsPerMinute); err != nil {
		return c, err
	}
	to, err := p.whom(ctx, req)
	if err != nil {
		return c, err
	}
	if to == who.User || to == im.SystemUser {
		return c, im.Invalid("user_id", "cannot be a contact")
	}
	if message != "" {
		if message, err = p.deps.Texts.Apply(ctx, message); err != nil {
			return c, fmt.Errorf("filter: %w", err)
		}
	}
	change, err := p.deps.Contacts.RequestContact(ctx, who.User, to, message)
	if err != nil {
		return c, fmt.Errorf("request contact: %w", err)
	}
	return p.changed(ctx, who, change)
}

// whom finds who is asked. A handle is looked up in its exact form only.
func (p *People) whom(ctx context.Context, req protocol.RequestContact) (im.UserID, error) {
	switch {
	case (req.UserID != nil) == (req.Handle != ""):
		return 0, im.Invalid("user_id", "exactly one of user_id and handle")
	case req.UserID != nil:
		return *req.UserID, nil
	}
	handle, err := NormalizeHandle(req.Handle)
	if err != nil {
		return 0, im.ErrNotFound
	}
	u, err := p.deps.Profiles.UserByHandle(ctx, handle)
	if err != nil {
		return 0, fmt.Errorf("user by handle: %w", err)
	}
	return u, nil
}

// AcceptContact makes both contacts; again is as once. im.ErrNotFound for what is not
// a request to the caller, or is no more.
func (p *People) AcceptContact(ctx context.Context, who im.Identity, r im.ContactRequestID) (c protocol.Contact, err error) {
	defer p.met.count("accept", &err)
	change, err := p.deps.Contacts.AcceptContact(ctx, who.User, r)
	if err != nil {
		return c, fmt.Errorf("accept contact: %w", err)
	}
	return p.changed(ctx, who, change)
}

// RefuseContact ends a request to the caller; im.ErrConflict once it was accepted.
func (p *People) RefuseContact(ctx context.Context, who im.Identity, r im.ContactRequestID) (err error) {
	defer p.met.count("refuse", &err)
	change, err := p.deps.Contacts.RefuseContact(ctx, who.User, r)
	return p.told(ctx, who, "refuse contact", change, err)
}

// WithdrawContact ends a request of the caller's; im.ErrConflict once it was accepted.
func (p *People) WithdrawContact(ctx context.Context, who im.Identity, r im.ContactRequestID) (err error) {
	defer p.met.count("withdraw", &err)
	change, err := p.deps.Contacts.WithdrawContact(ctx, who.User, r)
	return p.told(ctx, who, "withdraw contact", change, err)
}

// RemoveContact ends a contact on both sides; again is as once.
func (p *People) RemoveContact(ctx context.Context, who im.Identity, peer im.UserID) (err error) {
	defer p.met.count("remove", &err)
	change, err := p.deps.Contacts.RemoveContact(ctx, who.User, peer)
	return p.told(ctx, who, "remove contact", change, err)
}

// SetRemark gives a contact a name that only the caller sees. im.ErrNotFound where they
// are no contact.
func (p *People) SetRemark(ctx context.Context, who im.Identity, peer im.UserID, remark string) (c protocol.Contact, err error) {
	defer p.met.count("remark", &err)
	if remark, err = cleanLine("remark", remark, im.MaxRemark); err != nil {
		return c, err
	}
	change, err := p.deps.Contacts.SetRemark(ctx, who.User, peer, remark)
	if err != nil {
		return c, fmt.Errorf("set remark: %w", err)
	}
	return p.changed(ctx, who, change)
}

// SetBlock blocks somebody or lets them write again; either twice is fine. It reaches
// every node within the 2 s for which sends trust their copy of it. A request pending
// between the two ends with a block.
func (p *People) SetBlock(ctx context.Context, who im.Identity, blocked im.UserID, on bool) (err error) {
	defer p.met.count("block", &err)
	if blocked == who.User || blocked == im.SystemUser {
		return im.Invalid("user_id", "cannot be blocked")
	}
	change, err := p.deps.Contacts.SetBlock(ctx, who.User, blocked, on)
	return p.told(ctx, who, "set block", change, err)
}

// Blocks lists whom the user has blocked.
func (p *People) Blocks(ctx context.Context, who im.Identity) ([]im.UserID, error) {
	blocked, err := p.deps.Contacts.Blocks(ctx, who.User)
	if err != nil {
		return nil, fmt.Errorf("blocks: %w", err)
	}
	return blocked, nil
}

// Contacts is a page of the user's contacts and pending requests: from above after in
// the full list, or with since what changed after that version.
func (p *People) Contacts(ctx context.Context, who im.Identity, after im.UserID, since *uint64, limit int) (protocol.Contacts, error) {
	limit, err := pageLimit(limit, maxPage)
	if err != nil {
		return protocol.Contacts{}, err
	}
	var page im.ContactPage
	if since != nil {
		page, err = p.deps.Contacts.ContactsSince(ctx, who.User, *since, limit)
	} else {
		page, err = p.deps.Contacts.Contacts(ctx, who.User, after, limit)
	}
	if err != nil {
		return protocol.Contacts{}, fmt.Errorf("contacts: %w", err)
	}
	out := protocol.Contacts{Full: page.Full, HasMore: page.HasMore}
	if since != nil || after == 0 {
		out.Version = &page.Version
	}
	if page.Full && page.HasMore {
		out.Next = page.Items[len(page.Items)-1].Peer.String()
	}
	out.Items, err = p.shown(ctx, page.Items...)
	return out, err
}

// ContactRequests is a page of the user's pending requests, the latest first, from
// below before (0: from the top).
func (p *People) ContactRequests(ctx context.Context, who im.Identity, incoming bool, before im.ContactRequestID, limit int) (protocol.ContactRequests, error) {
	limit, err := pageLimit(limit, defaultPage)
	if err != nil {
		return protocol.ContactRequests{}, err
	}
	items, more, err := p.deps.Contacts.ContactRequests(ctx, who.User, incoming, before, limit)
	if err != nil {
		return protocol.ContactRequests{}, fmt.Errorf("contact requests: %w", err)
	}
	out := protocol.ContactRequests{HasMore: more}
	if more {
		out.Next = items[len(items)-1].Request.String()
	}
	out.Items, err = p.shown(ctx, items...)
	return out, err
}

// changed pushes a change and shows the caller's side of it.
func (p *People) changed(ctx context.Context, who im.Identity, change im.ContactChange) (protocol.Contact, error) {
	p.tell(ctx, who, change)
	shown, err := p.shown(ctx, change.Mine)
	if err != nil {
		return protocol.Contact{}, err
	}
	return shown[0], nil
}

func (p *People) told(ctx context.Context, who im.Identity, doing string, change im.ContactChange, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	p.tell(ctx, who, change)
	return nil
}

// shown is entries with the profiles of whom they are about.
func (p *People) shown(ctx context.Context, entries ...im.Contact) ([]protocol.Contact, error) {
	users := make([]im.UserID, len(entries))
	for i, e := range entries {
		users[i] = e.Peer
	}
	profiles, err := p.deps.Profiles.Profiles(ctx, users)
	if err != nil {
		return nil, fmt.Errorf("profiles of contacts: %w", err)
	}
	out := make([]protocol.Contact, len(entries))
	for i, e := range entries {
		out[i] = protocol.Contact{User: profiles[e.Peer], State: e.State, Message: e.Message, Remark: e.Remark, Version: e.Version, ChangedAt: e.ChangedAt}
		out[i].User.ID = e.Peer // also of who is no more
		if e.Request != 0 {
			out[i].RequestID = &e.Request
		}
	}
	return out, nil
}

// tellTimeout bounds what a push may add to an answer while Redis is away.
const tellTimeout = 500 * time.Millisecond

// tell pushes a change to both sides' devices ([L8]).
func (p *People) tell(ctx context.Context, who im.Identity, change im.ContactChange) {
	if change.Event == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
	defer cancel()
	if err := p.push(ctx, who, change); err != nil {
		p.met.untold.Inc()
		if !away(err) {
			p.deps.Log.Warn("change of a contact not pushed", "user", who.User, "err", err)
		}
	}
}

func (p *People) push(ctx context.Context, who im.Identity, change im.ContactChange) error {
	entries := []im.Contact{change.Mine}
	if change.Theirs.Version != 0 {
		entries = append(entries, change.Theirs)
	}
	users := make([]im.UserID, len(entries))
	for i, e := range entries {
		users[i] = e.User
	}
	sessions, err := p.deps.Sessions.Sessions(ctx, users)
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	shown, err := p.shown(ctx, entries...)
	if err != nil {
		return err
	}
	batches := make(map[im.NodeID][]byte)
	var all []error
	for i, e := range entries {
		frame, err := protocol.EncodePush(protocol.PushFrame{Push: protocol.PushContact,
			Data: protocol.ContactChanged{Kind: change.Event, Contact: shown[i]}})
		if err != nil {
			all = append(all, err)
			continue
		}
		for _, ref := range sessions[e.User] {
			if e.User == who.User && ref.Device == who.Device {
				continue // it has the answer
			}
			batches[ref.Node] = protocol.AppendDelivery(batches[ref.Node], &protocol.Delivery{Users: users[i : i+1], Only: ref.Session, Frame: frame})
		}
	}
	if len(batches) > 0 {
		all = append(all, p.deps.Bus.Publish(ctx, batches))
	}
	return errors.Join(all...)
}
