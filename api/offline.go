package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func (s *Server) offlineSources(c *gin.Context) (int, any, error) {
	sources, err := s.deps.Chat.OfflineSources(c.Request.Context(), caller(c))
	sources.Items = list(sources.Items)
	return http.StatusOK, sources, err
}

// offlinePull clears nothing: a lost answer would lose messages. offlineAck clears.
func (s *Server) offlinePull(c *gin.Context) (int, any, error) {
	id, err := im.ParseConversationID(c.Param("conversation"))
	if err != nil {
		return 0, nil, err
	}
	req := protocol.OfflinePull{ConversationID: id}
	if req.Limit, err = queryLimit(c); err != nil {
		return 0, nil, err
	}
	after, err := querySeq(c, "after_seq")
	if err != nil {
		return 0, nil, err
	}
	if after != nil {
		req.AfterSeq = *after
	}
	page, err := s.deps.Chat.OfflinePull(c.Request.Context(), caller(c), req)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

func (s *Server) offlineAck(c *gin.Context) (int, any, error) {
	id, err := im.ParseConversationID(c.Param("conversation"))
	if err != nil {
		return 0, nil, err
	}
	var req protocol.OfflineAck
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	if req.Seq == 0 {
		return 0, nil, im.Invalid("seq", "must be above 0")
	}
	moved, err := s.deps.Chat.Receipts(c.Request.Context(), caller(c), id, protocol.Receipts{DeliveredSeq: req.Seq})
	return http.StatusOK, moved, err
}
