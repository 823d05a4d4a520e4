package api

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/logic/im"
)

// presence is who of ?users=7,12 is online now. To be told of changes takes a socket.
func (s *Server) presence(c *gin.Context) (int, any, error) {
	given, _, err := query(c, "users")
	if err != nil {
		return 0, nil, err
	}
	var users []im.UserID
	for text := range strings.SplitSeq(given, ",") {
		u, err := im.ParseUserID(text)
		if err != nil || len(users) == im.MaxPresenceAsked {
			return 0, nil, im.Invalid("users", "must be 1 to 200 user IDs, separated by commas")
		}
		users = append(users, u)
	}
	page, err := s.deps.Chat.Presence(c.Request.Context(), caller(c), users)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}
