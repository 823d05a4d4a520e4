package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
)

// setPush says how the caller's device is reached while it is not connected.
func (s *Server) setPush(c *gin.Context) (int, any, error) {
	var req protocol.SetPush
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, s.deps.Accounts.SetPush(c.Request.Context(), caller(c), req)
}

func (s *Server) clearPush(c *gin.Context) (int, any, error) {
	return http.StatusNoContent, nil, s.deps.Accounts.ClearPush(c.Request.Context(), caller(c))
}
