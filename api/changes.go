package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// place reads which message the path names.
func place(c *gin.Context) (im.ConversationID, im.Seq, error) {
	id, err := im.ParseConversationID(c.Param("conversation"))
	if err != nil {
		return "", 0, err
	}
	n, err := parseNumber("seq", c.Param("seq"))
	return id, im.Seq(n), err
}

// change recalls, edits or reacts; it answers as send does.
func (s *Server) change(c *gin.Context) (int, any, error) {
	wait, err := waitStored(c)
	if err != nil {
		return 0, nil, err
	}
	conv, seq, err := place(c)
	if err != nil {
		return 0, nil, err
	}
	var req protocol.Change
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	req.ConversationID, req.Seq = conv, seq
	answer, err := s.deps.Chat.ChangeAndWait(c.Request.Context(), caller(c), req, wait)
	return storedStatus(answer.State, wait), answer, err
}

func (s *Server) edits(c *gin.Context) (int, any, error) {
	conv, seq, err := place(c)
	if err != nil {
		return 0, nil, err
	}
	edits, err := s.deps.Chat.Edits(c.Request.Context(), caller(c), conv, seq)
	edits.Items = list(edits.Items)
	return http.StatusOK, edits, err
}

// reactors pages through who reacted in one way; after is the last page's next.
func (s *Server) reactors(c *gin.Context) (int, any, error) {
	conv, seq, err := place(c)
	if err != nil {
		return 0, nil, err
	}
	reaction, _, err := query(c, "reaction")
	if err != nil {
		return 0, nil, err
	}
	after, limit, err := queryAfter(c)
	if err != nil {
		return 0, nil, err
	}
	page, err := s.deps.Chat.Reactors(c.Request.Context(), caller(c), conv, seq, reaction, after, limit)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

// deleteMessages deletes messages for the caller alone.
func (s *Server) deleteMessages(c *gin.Context) (int, any, error) {
	id, err := im.ParseConversationID(c.Param("conversation"))
	if err != nil {
		return 0, nil, err
	}
	var req protocol.DeleteMessages
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	req.ConversationID = id
	return http.StatusAccepted, req, s.deps.Chat.DeleteMessagesNow(c.Request.Context(), caller(c), req)
}

// deletions pages through what the caller has deleted, by number.
func (s *Server) deletions(c *gin.Context) (int, any, error) {
	id, err := im.ParseConversationID(c.Param("conversation"))
	if err != nil {
		return 0, nil, err
	}
	after, limit, err := queryAfter(c)
	if err != nil {
		return 0, nil, err
	}
	page, err := s.deps.Chat.Deletions(c.Request.Context(), caller(c), id, after, limit)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

// queryAfter is where a page begins, 0 where it is not said, and its length.
func queryAfter(c *gin.Context) (after uint64, limit int, err error) {
	n, err := queryNumber(c, "after")
	if err != nil {
		return 0, 0, err
	}
	if n != nil {
		after = *n
	}
	limit, err = queryLimit(c)
	return after, limit, err
}
