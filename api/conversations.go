package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// listConversations pages by recency, through all or through what a filter lets through;
// before is the last page's next.
func (s *Server) listConversations(c *gin.Context) (int, any, error) {
	limit, err := queryLimit(c)
	if err != nil {
		return 0, nil, err
	}
	before, err := queryNumber(c, "before")
	if err != nil {
		return 0, nil, err
	}
	var from im.MessageID
	if before != nil {
		from = im.MessageID(*before)
	}
	filter, given, err := query(c, "filter")
	if err != nil {
		return 0, nil, err
	}
	only := im.ListFilter(filter)
	if err := only.Validate(); err != nil || given && only == im.ListAll {
		return 0, nil, im.Invalid("filter", "must be pinned or unread")
	}
	page, err := s.deps.Chat.Conversations(c.Request.Context(), caller(c), only, from, limit)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

func (s *Server) conversation(c *gin.Context) (int, any, error) {
	id, err := im.ParseConversationID(c.Param("conversation"))
	if err != nil {
		return 0, nil, err
	}
	conv, err := s.deps.Chat.Conversation(c.Request.Context(), caller(c), id)
	return http.StatusOK, conv, err
}

// history is one page, ascending by seq, from before, after or around a seq; from
// the end where none is given. With after_change it is what was changed since.
func (s *Server) history(c *gin.Context) (int, any, error) {
	id, err := im.ParseConversationID(c.Param("conversation"))
	if err != nil {
		return 0, nil, err
	}
	req := protocol.History{ConversationID: id}
	if req.Limit, err = queryLimit(c); err != nil {
		return 0, nil, err
	}
	given := 0
	for _, p := range []struct {
		name string
		into **im.Seq
	}{{"before_seq", &req.BeforeSeq}, {"after_seq", &req.AfterSeq}, {"around", &req.Around}} {
		if *p.into, err = querySeq(c, p.name); err != nil {
			return 0, nil, err
		}
		if *p.into != nil {
			given++
		}
	}
	if req.AfterChange, err = queryNumber(c, "after_change"); err != nil {
		return 0, nil, err
	}
	if req.AfterChange != nil {
		given++
	}
	if given > 1 {
		return 0, nil, im.Invalid("before_seq", "at most one of before_seq, after_seq, around and after_change")
	}
	page, err := s.deps.Chat.History(c.Request.Context(), caller(c), req)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

// receipts moves the caller's cursors forward and answers where they then are.
func (s *Server) receipts(c *gin.Context) (int, any, error) {
	id, err := im.ParseConversationID(c.Param("conversation"))
	if err != nil {
		return 0, nil, err
	}
	var req protocol.Receipts
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	if req.DeliveredSeq == 0 && req.ReadSeq == 0 {
		return 0, nil, im.Invalid("read_seq", "one of delivered_seq and read_seq must be above 0")
	}
	moved, err := s.deps.Chat.Receipts(c.Request.Context(), caller(c), id, req)
	return http.StatusOK, moved, err
}
