package api

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// keyCaller holds the im.Identity of a user, or the key's name of a server.
const keyCaller = "caller"

// maxCredentials bounds an Authorization header before anything looks into it.
const maxCredentials = 4 << 10

// authenticate lets in who has a good access token.
func (s *Server) authenticate(c *gin.Context) {
	token, ok := credentials(c.Request.Header, "Bearer")
	if !ok {
		s.abort(c, im.ErrUnauthenticated)
		return
	}
	who, err := s.deps.Accounts.Verify(c.Request.Context(), token)
	if err != nil {
		s.abort(c, err)
		return
	}
	c.Set(keyCaller, who)
	c.Next()
}

// authenticateServer lets in a backend's key: "ServerKey <id>:<secret>".
func (s *Server) authenticateServer(c *gin.Context) {
	key, ok := credentials(c.Request.Header, "ServerKey")
	id, secret, found := strings.Cut(key, ":")
	if !ok || !found {
		s.abort(c, im.ErrUnauthenticated)
		return
	}
	if err := s.deps.Accounts.VerifyServerKey(id, secret); err != nil {
		s.abort(c, err)
		return
	}
	c.Set(keyCaller, id)
	c.Next()
}

// credentials takes what follows scheme in the one Authorization header ([A4]).
func credentials(h http.Header, scheme string) (string, bool) {
	all := h.Values("Authorization")
	if len(all) != 1 || len(all[0]) > maxCredentials {
		return "", false
	}
	given, value, found := strings.Cut(all[0], " ")
	if !found || !strings.EqualFold(given, scheme) || value == "" || strings.ContainsAny(value, " \t,") {
		return "", false
	}
	return value, true
}

func caller(c *gin.Context) im.Identity { return c.MustGet(keyCaller).(im.Identity) }

func (s *Server) register(c *gin.Context) (int, any, error) {
	var req protocol.Register
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	tokens, err := s.deps.Accounts.Register(c.Request.Context(), req, c.ClientIP())
	return http.StatusCreated, tokens, err
}

func (s *Server) login(c *gin.Context) (int, any, error) {
	var req protocol.Login
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	tokens, err := s.deps.Accounts.Login(c.Request.Context(), req, c.ClientIP())
	return http.StatusOK, tokens, err
}

func (s *Server) refresh(c *gin.Context) (int, any, error) {
	var req protocol.RefreshTokens
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	tokens, err := s.deps.Accounts.Refresh(c.Request.Context(), req.RefreshToken)
	return http.StatusOK, tokens, err
}

func (s *Server) logout(c *gin.Context) (int, any, error) {
	return http.StatusNoContent, nil, s.deps.Accounts.Logout(c.Request.Context(), caller(c))
}

func (s *Server) changePassword(c *gin.Context) (int, any, error) {
	var req protocol.ChangePassword
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, s.deps.Accounts.ChangePassword(c.Request.Context(), caller(c), req)
}
