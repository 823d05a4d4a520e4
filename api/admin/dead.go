package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// deadPage is how many letters an answer has where nothing is said, and at most.
const deadPage, maxDeadPage = 50, 100

// DeadLetter is a record that was given up. What a message says is in Payload, which is
// shown where it is asked for only.
type DeadLetter struct {
	ID           string            `json:"id"`
	Topic        string            `json:"topic"`
	Partition    int               `json:"partition"`
	Offset       int64             `json:"offset"`
	Kind         string            `json:"kind,omitempty"` // message, receipt, change, hide, scheduled, notification; absent: cannot be read
	Conversation im.ConversationID `json:"conversation_id,omitempty"`
	Sender       im.UserID         `json:"sender,omitempty"`
	ClientMsgID  im.ClientMsgID    `json:"client_msg_id,omitempty"`
	Reason       string            `json:"reason"`
	Attempts     int               `json:"attempts"`
	State        string            `json:"state"` // open, replaying, replayed, discarded
	ParkedAt     int64             `json:"parked_at"`
	ActedAt      int64             `json:"acted_at,omitempty"` // when the state last changed
	Bytes        int               `json:"bytes"`              // of the record
	Unreadable   string            `json:"unreadable,omitempty"`
	Payload      json.RawMessage   `json:"payload,omitempty"`
	Record       []byte            `json:"record,omitempty"` // with the payload: as it is in the log
}

// DeadLetters is a page, the oldest first.
type DeadLetters struct {
	Items []DeadLetter `json:"items"`
	After string       `json:"after,omitempty"` // asks for the next page; absent: this is the last
}

// ReplayRequest says that a message is to be sent although its sender has said the same
// since.
type ReplayRequest struct {
	Force bool `json:"force,omitempty"`
}

// Resent is the refusal of a replay that would double a message.
type Resent struct {
	*protocol.Error
	Copies []im.StoredCopy `json:"copies"`
}

func letter(l im.DeadLetter) DeadLetter {
	return DeadLetter{
		ID: l.ID.String(), Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Conversation: l.Key.Conversation, Sender: l.Key.Sender,
		ClientMsgID: l.Key.ClientMsgID, Reason: l.Reason, Attempts: l.Attempts, State: l.State.String(), ParkedAt: l.ParkedAt, ActedAt: l.ActedAt,
		Bytes: len(l.Payload),
	}
}

// content is what a task is called, and what it holds.
func content(t *im.Task) (kind string, v any) {
	switch {
	case t.Send != nil:
		return "message", t.Send
	case t.Receipt != nil:
		return "receipt", t.Receipt
	case t.Change != nil:
		return "change", t.Change
	case t.Hide != nil:
		return "hide", t.Hide
	case t.Fire != nil:
		return "scheduled", t.Fire
	case t.Notify != nil:
		return "notification", t.Notify
	}
	return "", nil
}

func (s *Server) handleDead(w http.ResponseWriter, r *http.Request) {
	q, lane, err := deadQuery(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	all, more, err := s.deps.Dead.List(ctx, lane, q)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	answer := DeadLetters{Items: make([]DeadLetter, len(all))}
	for i, l := range all {
		answer.Items[i] = letter(l)
	}
	if more {
		answer.After = all[len(all)-1].ID.String()
	}
	write(w, http.StatusOK, answer)
}

func deadQuery(r *http.Request) (q im.DeadQuery, lane im.Lane, err error) {
	values := r.URL.Query()
	for name := range values {
		if !slices.Contains([]string{"state", "lane", "after", "limit"}, name) {
			return q, "", im.Invalid(name, "not a parameter")
		}
	}
	q.Limit = deadPage
	if v := values.Get("limit"); v != "" {
		if q.Limit, err = strconv.Atoi(v); err != nil || q.Limit < 1 || q.Limit > maxDeadPage {
			return q, "", im.Invalid("limit", "must be 1 to 100")
		}
	}
	if v := values.Get("after"); v != "" {
		if q.After, err = im.ParseDeadID(v); err != nil {
			return q, "", err
		}
	}
	if v := values.Get("state"); v != "" {
		state, err := im.ParseDeadState(v)
		if err != nil {
			return q, "", err
		}
		q.State = &state
	}
	if lane = im.Lane(values.Get("lane")); lane != "" && !slices.Contains(lanes, lane) {
		return q, "", im.Invalid("lane", "must be one of realtime, delay, retry, dead")
	}
	return q, lane, nil
}

func (s *Server) handleDeadLetter(w http.ResponseWriter, r *http.Request) {
	id, err := im.ParseDeadID(r.PathValue("id"))
	if err != nil {
		s.fail(w, r, im.ErrNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	l, task, unreadable, err := s.deps.Dead.Letter(ctx, id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	answer := letter(l)
	answer.Unreadable = unreadable
	kind, v := content(&task)
	answer.Kind = kind
	if kind != "" {
		answer.Conversation = task.Conversation
	}
	if r.URL.Query().Get("payload") == "true" {
		answer.Record = l.Payload
		if v != nil {
			if answer.Payload, err = json.Marshal(v); err != nil { // its content is no JSON: that is why it is here
				answer.Unreadable = err.Error()
			}
		}
		s.deps.Log.Info("dead letter's payload shown", "by", "operator", "id", id)
	}
	write(w, http.StatusOK, answer)
}

// handleReplay takes a body or none.
func (s *Server) handleReplay(w http.ResponseWriter, r *http.Request) {
	var req ReplayRequest
	if r.ContentLength != 0 {
		if err := read(w, r, &req); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	s.act(w, r, func(ctx context.Context, id im.DeadID) error { return s.deps.Dead.Replay(ctx, id, req.Force) })
}

func (s *Server) handleDiscard(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, s.deps.Dead.Discard)
}

func (s *Server) act(w http.ResponseWriter, r *http.Request, do func(context.Context, im.DeadID) error) {
	id, err := im.ParseDeadID(r.PathValue("id"))
	if err != nil {
		s.fail(w, r, im.ErrNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*callTimeout) // a look through the conversation, and the log's answer
	defer cancel()
	err = do(ctx, id)
	var resent *im.ResentError
	switch {
	case errors.As(err, &resent):
		write(w, http.StatusConflict, Resent{Copies: resent.Copies, Error: &protocol.Error{
			Code: "resent_since", Message: fmt.Sprintf("the sender has said the same since, as seq %d; with force it is said again", resent.Copies[0].Seq), // the latest
		}})
	case err != nil:
		s.fail(w, r, err)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
