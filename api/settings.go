package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func (s *Server) changeSettings(c *gin.Context) (int, any, error) {
	id, err := im.ParseConversationID(c.Param("conversation"))
	if err != nil {
		return 0, nil, err
	}
	var req protocol.ChangeSettings
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	settings, err := s.deps.Chat.ChangeSettings(c.Request.Context(), caller(c), id, req)
	return http.StatusOK, settings, err
}

// deleteConversation takes the seq from the query: bodies of DELETE get lost on the way
// (RFC 9110, 9.3.5).
func (s *Server) deleteConversation(c *gin.Context) (int, any, error) {
	id, err := im.ParseConversationID(c.Param("conversation"))
	if err != nil {
		return 0, nil, err
	}
	upTo, err := querySeq(c, "up_to_seq")
	if err != nil {
		return 0, nil, err
	}
	if upTo == nil {
		return 0, nil, im.Invalid("up_to_seq", "missing")
	}
	settings, err := s.deps.Chat.DeleteConversation(c.Request.Context(), caller(c), protocol.DeleteConversation{ConversationID: id, UpToSeq: *upTo})
	return http.StatusOK, settings, err
}
