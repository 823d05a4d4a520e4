package api

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// upsertUsers creates or updates a backend's own users, all or none.
func (s *Server) upsertUsers(c *gin.Context) (int, any, error) {
	var req protocol.ServerUsers
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	if n := len(req.Users); n < 1 || n > protocol.MaxServerUsers {
		return 0, nil, im.Invalid("users", fmt.Sprintf("must be 1 to %d", protocol.MaxServerUsers))
	}
	profiles, err := s.deps.Accounts.UpsertUsers(c.Request.Context(), req.Users)
	return http.StatusOK, protocol.ServerProfiles{Users: list(profiles)}, err
}

// issueTokens logs a backend's user in on a device, without a password.
func (s *Server) issueTokens(c *gin.Context) (int, any, error) {
	var req protocol.IssueTokens
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	tokens, err := s.deps.Accounts.IssueTokens(c.Request.Context(), req)
	return http.StatusCreated, tokens, err
}

// serverSend sends as the system, or on behalf of a user.
func (s *Server) serverSend(c *gin.Context) (int, any, error) {
	wait, err := waitStored(c)
	if err != nil {
		return 0, nil, err
	}
	var req protocol.ServerSend
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	sent, err := s.deps.Chat.ServerSend(c.Request.Context(), req, wait)
	return storedStatus(sent.State, wait), sent, err
}
