package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func (s *Server) me(c *gin.Context) (int, any, error) {
	me, err := s.deps.Accounts.Me(c.Request.Context(), caller(c))
	return http.StatusOK, me, err
}

func (s *Server) updateMe(c *gin.Context) (int, any, error) {
	var req protocol.UpdateProfile
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	me, err := s.deps.Accounts.UpdateProfile(c.Request.Context(), caller(c), req)
	return http.StatusOK, me, err
}

func (s *Server) user(c *gin.Context) (int, any, error) {
	u, err := im.ParseUserID(c.Param("user"))
	if err != nil {
		return 0, nil, err
	}
	profile, err := s.deps.Accounts.Profile(c.Request.Context(), caller(c), u)
	return http.StatusOK, profile, err
}

// findUser finds by the whole handle only: a search by prefix would list everybody.
func (s *Server) findUser(c *gin.Context) (int, any, error) {
	handle, given, err := query(c, "handle")
	if err != nil {
		return 0, nil, err
	}
	if !given || handle == "" {
		return 0, nil, im.Invalid("handle", "missing")
	}
	profile, err := s.deps.Accounts.FindByHandle(c.Request.Context(), caller(c), handle)
	return http.StatusOK, profile, err
}
