package api

import (
	"crypto/rand"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
)

// demo makes an account for whoever asks, so that the page can be tried without
// thinking of a name. Its password is random and told to nobody.
func (s *Server) demo(c *gin.Context) (int, any, error) {
	var req protocol.Demo
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	name := strings.ToLower(rand.Text()[:6])
	tokens, err := s.deps.Accounts.Register(c.Request.Context(), protocol.Register{
		Handle:   "demo-" + name,
		Password: rand.Text(),
		Nickname: "Demo " + name,
		Device:   req.Device,
		Platform: req.Platform,
	}, c.ClientIP())
	return http.StatusCreated, tokens, err
}
