package api

import (
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// openBodyBytes bounds the body of a request without a token: a password of 128
// characters, escaped, fits several times.
const openBodyBytes = 8 << 10

// body reads and decodes the request's body: one JSON value of bounded size and
// depth, plainly encoded.
func (s *Server) body(c *gin.Context, into any) error {
	raw, err := s.readBody(c)
	if err != nil {
		return err
	}
	if err := protocol.CheckJSON(raw); err != nil {
		return err
	}
	return protocol.DecodeData(raw, into)
}

func (s *Server) readBody(c *gin.Context) ([]byte, error) {
	r := c.Request
	if err := jsonOnly(r.Header); err != nil {
		return nil, err
	}
	limit := s.cfg.MaxBodyBytes
	if _, known := c.Get(keyCaller); !known {
		limit = min(limit, openBodyBytes)
	}
	if r.ContentLength > limit {
		if r.Header.Get("Expect") != "" {
			return nil, im.ErrTooLarge // it is not on its way
		}
		limit = 0
	}
	w := c.MustGet(keyWork).(*work)
	w.pause()
	raw, err := io.ReadAll(http.MaxBytesReader(plain(c.Writer), r.Body, limit))
	var tooLarge *http.MaxBytesError
	var slow net.Error
	switch {
	case errors.As(err, &tooLarge):
		return nil, im.ErrTooLarge
	case errors.As(err, &slow) && slow.Timeout():
		return nil, im.ErrTimeout
	case err != nil:
		return nil, im.Invalid("body", "incomplete")
	case len(raw) == 0:
		return nil, im.Invalid("body", "missing")
	}
	return raw, w.resume()
}

// plain is the HTTP server's own writer. It must be told of a body that is too large, or it
// closes the connection while that comes, and the reset takes the answer along.
func plain(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

// jsonOnly refuses what is not declared as JSON, also so that a form of a foreign
// page cannot be sent here without a preflight; and every content coding, since
// nothing is inflated.
func jsonOnly(h http.Header) error {
	types := h.Values("Content-Type")
	if len(types) != 1 {
		return protocol.ErrMediaType
	}
	media, params, err := mime.ParseMediaType(types[0])
	if err != nil || media != "application/json" {
		return protocol.ErrMediaType
	}
	if charset, given := params["charset"]; given && !strings.EqualFold(charset, "utf-8") {
		return protocol.ErrMediaType
	}
	for _, coding := range h.Values("Content-Encoding") {
		if !strings.EqualFold(coding, "identity") {
			return protocol.ErrMediaType
		}
	}
	return nil
}
