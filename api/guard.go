package api

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Keys of gin's per-request values.
const (
	keyRequestID = "request_id"
	keyQuery     = "query"
	keyIdentity  = "identity"
)

// guard comes before every route: it names the request, sets the headers that every
// answer has, and refuses second spellings of a path ([A5]) and tokens in the query
// ([A4]).
func (s *Server) guard(c *gin.Context) {
	id := rand.Text() // ours alone: what a client sends as request ID would only confuse logs
	c.Set(keyRequestID, id)
	h := c.Writer.Header()
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if !plainPath(c.Request) {
		s.abort(c, im.ErrNotFound)
		return
	}
	query, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		s.abort(c, im.Invalid("query", "malformed"))
		return
	}
	if protocol.CarriesToken(c.Request.URL.RawQuery) {
		s.abort(c, im.Invalid("query", "a token belongs in the Authorization header, since queries are logged"))
		return
	}
	c.Set(keyQuery, query)
	c.Next()
}

// plainPath is false where the path needs or has escapes, dot segments, or doubled or
// trailing slashes, since no route does: a proxy in front and the router below must
// never read two different paths.
func plainPath(r *http.Request) bool {
	p := r.URL.EscapedPath()
	return strings.HasPrefix(p, "/") && !strings.Contains(p, "%") && path.Clean(p) == p
}

// cors answers pages of the configured other origins, and says nothing to the rest:
// the browser then keeps the answer from them.
func (s *Server) cors(c *gin.Context) {
	if len(s.cfg.AllowedOrigins) == 0 {
		c.Next()
		return
	}
	h := c.Writer.Header()
	h.Add("Vary", "Origin")
	origin := c.GetHeader("Origin")
	if origin == "" || !slices.Contains(s.cfg.AllowedOrigins, origin) {
		c.Next()
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Retry-After, X-Request-Id")
	if c.Request.Method == http.MethodOptions && c.GetHeader("Access-Control-Request-Method") != "" {
		h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		h.Set("Access-Control-Max-Age", "600")
		c.AbortWithStatus(http.StatusNoContent)
		return
	}
	c.Next()
}

func requestID(c *gin.Context) string { return c.GetString(keyRequestID) }
