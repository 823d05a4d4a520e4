package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// listScheduled pages through what the caller has scheduled, by deliver_at.
func (s *Server) listScheduled(c *gin.Context) (int, any, error) {
	var ask protocol.AskScheduled
	state, given, err := query(c, "state")
	if err == nil && given {
		ask.State, err = im.ParseScheduleState(state)
	}
	if err != nil {
		return 0, nil, err
	}
	conv, given, err := query(c, "conversation_id")
	if err == nil && given {
		ask.ConversationID, err = im.ParseConversationID(conv)
	}
	if err != nil {
		return 0, nil, err
	}
	if ask.After, _, err = query(c, "after"); err != nil {
		return 0, nil, err
	}
	if ask.Limit, err = queryLimit(c); err != nil {
		return 0, nil, err
	}
	page, err := s.deps.Chat.ScheduledList(c.Request.Context(), caller(c), ask)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

func (s *Server) scheduled(c *gin.Context) (int, any, error) {
	id, err := im.ParseScheduleID(c.Param("schedule"))
	if err != nil {
		return 0, nil, err
	}
	row, err := s.deps.Chat.ScheduledOne(c.Request.Context(), caller(c), id)
	return http.StatusOK, row, err
}

func (s *Server) changeScheduled(c *gin.Context) (int, any, error) {
	id, err := im.ParseScheduleID(c.Param("schedule"))
	if err != nil {
		return 0, nil, err
	}
	var req protocol.ChangeScheduled
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	row, err := s.deps.Chat.ChangeScheduled(c.Request.Context(), caller(c), id, req)
	return http.StatusOK, row, err
}

func (s *Server) cancelScheduled(c *gin.Context) (int, any, error) {
	id, err := im.ParseScheduleID(c.Param("schedule"))
	if err != nil {
		return 0, nil, err
	}
	row, err := s.deps.Chat.CancelScheduled(c.Request.Context(), caller(c), id)
	return http.StatusOK, row, err
}

// sendScheduled makes it due: 202, since it is sent when its turn has come.
func (s *Server) sendScheduled(c *gin.Context) (int, any, error) {
	id, err := im.ParseScheduleID(c.Param("schedule"))
	if err != nil {
		return 0, nil, err
	}
	row, err := s.deps.Chat.SendScheduled(c.Request.Context(), caller(c), id)
	return http.StatusAccepted, row, err
}

func (s *Server) serverScheduled(c *gin.Context) (int, any, error) {
	id, err := im.ParseScheduleID(c.Param("schedule"))
	if err != nil {
		return 0, nil, err
	}
	row, err := s.deps.Chat.ServerScheduledOne(c.Request.Context(), id)
	return http.StatusOK, row, err
}

func (s *Server) serverCancelScheduled(c *gin.Context) (int, any, error) {
	id, err := im.ParseScheduleID(c.Param("schedule"))
	if err != nil {
		return 0, nil, err
	}
	row, err := s.deps.Chat.ServerCancelScheduled(c.Request.Context(), id)
	return http.StatusOK, row, err
}
