package protocol

import "github.com/curlew-im/curlew/logic/im"

// Me is one's own profile with what one has set. It answers GET and PATCH /v1/users/me.
type Me struct {
	im.Profile
	MessagePolicy im.MessagePolicy `json:"message_policy"`
}

// RequestContact is the body of POST /v1/contacts/requests; one of UserID and Handle.
type RequestContact struct {
	UserID  *im.UserID `json:"user_id,omitempty"`
	Handle  string     `json:"handle,omitempty"`
	Message string     `json:"message,omitempty"` // at most 200 characters
}

// Contact is one's own entry about another user.
type Contact struct {
	User      im.Profile           `json:"user"`
	State     im.ContactState      `json:"state"`
	RequestID *im.ContactRequestID `json:"request_id,omitempty"` // pending, or the one that was accepted
	Message   string               `json:"message,omitempty"`    // of a pending request
	Remark    string               `json:"remark,omitempty"`
	Version   uint64               `json:"version"`
	ChangedAt int64                `json:"changed_at"`
}

// Contacts answers GET /v1/contacts.
type Contacts struct {
	Items []Contact `json:"items"`
	// Full says that Items is the list from its top, to be taken instead of what the
	// client has; else it is what changed since the given version, with what has ended.
	Full    bool   `json:"full"`
	HasMore bool   `json:"has_more"`       // full: page on with Next; else: ask again since Version
	Next    string `json:"next,omitempty"` // full: pass as after
	// Version is what to ask since, once the page is applied; of a full list once all of
	// its pages are, and only its first page has it.
	Version *uint64 `json:"version,omitempty"`
}

// ContactRequests answers GET /v1/contacts/requests.
type ContactRequests struct {
	Items   []Contact `json:"items"`
	HasMore bool      `json:"has_more"`
	Next    string    `json:"next,omitempty"` // pass as before
}

// SetRemark is the body of PATCH /v1/contacts/{user}; an empty remark takes it away.
type SetRemark struct {
	Remark string `json:"remark"` // at most 64 characters
}

// ContactChanged says what happened between this user and another. Where the contact's
// version is not the one after the client's, something was missed: ask since.
type ContactChanged struct {
	Kind    im.ContactEvent `json:"kind"`
	Contact Contact         `json:"contact"`
}
