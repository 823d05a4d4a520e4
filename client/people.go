package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Me is this user's own profile with what they have set.
func (h *HTTP) Me(ctx context.Context) (m protocol.Me, err error) {
	return m, h.Do(ctx, http.MethodGet, "/v1/users/me", nil, &m)
}

// UpdateMe changes what is not nil.
func (h *HTTP) UpdateMe(ctx context.Context, u protocol.UpdateProfile) (m protocol.Me, err error) {
	return m, h.Do(ctx, http.MethodPatch, "/v1/users/me", u, &m)
}

// FindUser finds a user by the exact handle.
func (h *HTTP) FindUser(ctx context.Context, handle string) (p im.Profile, err error) {
	return p, h.Do(ctx, http.MethodGet, "/v1/users?"+url.Values{"handle": {handle}}.Encode(), nil, &p)
}

// RequestContact asks somebody to become a contact; both are where they had asked
// already.
func (h *HTTP) RequestContact(ctx context.Context, r protocol.RequestContact) (c protocol.Contact, err error) {
	return c, h.Do(ctx, http.MethodPost, "/v1/contacts/requests", r, &c)
}

// AcceptContact makes both contacts; again is as once.
func (h *HTTP) AcceptContact(ctx context.Context, r im.ContactRequestID) (c protocol.Contact, err error) {
	return c, h.Do(ctx, http.MethodPost, "/v1/contacts/requests/"+r.String()+"/accept", nil, &c)
}

// RefuseContact ends a request of somebody else's.
func (h *HTTP) RefuseContact(ctx context.Context, r im.ContactRequestID) error {
	return h.Do(ctx, http.MethodPost, "/v1/contacts/requests/"+r.String()+"/refuse", nil, nil)
}

// WithdrawContact ends a request of one's own.
func (h *HTTP) WithdrawContact(ctx context.Context, r im.ContactRequestID) error {
	return h.Do(ctx, http.MethodDelete, "/v1/contacts/requests/"+r.String(), nil, nil)
}

// RemoveContact ends a contact on both sides.
func (h *HTTP) RemoveContact(ctx context.Context, u im.UserID) error {
	return h.Do(ctx, http.MethodDelete, "/v1/contacts/"+u.String(), nil, nil)
}

// SetRemark gives a contact a name that nobody else sees; empty takes it away.
func (h *HTTP) SetRemark(ctx context.Context, u im.UserID, remark string) (c protocol.Contact, err error) {
	return c, h.Do(ctx, http.MethodPatch, "/v1/contacts/"+u.String(), protocol.SetRemark{Remark: remark}, &c)
}

// Contacts pages through the full list; after is the last page's Next. Keep the first
// page's Version once all are applied.
func (h *HTTP) Contacts(ctx context.Context, after string, limit int) (c protocol.Contacts, err error) {
	return c, h.Do(ctx, http.MethodGet, "/v1/contacts?"+pageQuery("after", after, limit), nil, &c)
}

// ContactsSince is what changed after a version; Full says that it is the top of the
// full list instead.
func (h *HTTP) ContactsSince(ctx context.Context, version uint64, limit int) (c protocol.Contacts, err error) {
	return c, h.Do(ctx, http.MethodGet, "/v1/contacts?"+pageQuery("since", strconv.FormatUint(version, 10), limit), nil, &c)
}

// ContactRequests pages through the pending requests, the latest first; before is the
// last page's Next.
func (h *HTTP) ContactRequests(ctx context.Context, incoming bool, before string, limit int) (r protocol.ContactRequests, err error) {
	direction := "outgoing"
	if incoming {
		direction = "incoming"
	}
	return r, h.Do(ctx, http.MethodGet, "/v1/contacts/requests?direction="+direction+"&"+pageQuery("before", before, limit), nil, &r)
}

// Blocks lists whom this user has blocked.
func (h *HTTP) Blocks(ctx context.Context) (b protocol.Blocks, err error) {
	return b, h.Do(ctx, http.MethodGet, "/v1/blocks", nil, &b)
}

// SetBlock blocks a user or lets them write again.
func (h *HTTP) SetBlock(ctx context.Context, u im.UserID, on bool) error {
	method := http.MethodDelete
	if on {
		method = http.MethodPut
	}
	return h.Do(ctx, method, "/v1/blocks/"+u.String(), nil, nil)
}

// pageQuery names where a page begins and how long it is, as far as they are given.
func pageQuery(key, from string, limit int) string {
	q := url.Values{}
	if from != "" {
		q.Set(key, from)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return q.Encode()
}
