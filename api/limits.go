package api

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// maxPage is the longest page; who asks for more gets this many.
const maxPage = 100

// limits tells clients what to keep to.
func (s *Server) limits(c *gin.Context) (int, any, error) {
	return http.StatusOK, protocol.HTTPLimits{
		Limits:           s.deps.Chat.Limits(),
		MaxBodyBytes:     s.cfg.MaxBodyBytes,
		MaxContentBytes:  im.MaxContentBytes,
		MaxServerUsers:   protocol.MaxServerUsers,
		RequestTimeoutMS: s.cfg.RequestTimeout.Milliseconds(),
	}, nil
}

// query is one parameter; given twice it is refused, since it names an ID or a seq.
func query(c *gin.Context, name string) (value string, given bool, err error) {
	all := c.MustGet(keyQuery).(url.Values)[name]
	switch len(all) {
	case 0:
		return "", false, nil
	case 1:
		return all[0], true, nil
	}
	return "", false, im.Invalid(name, "given more than once")
}

// queryNumber is a whole number from 0 to 2^53-1; nil where it is not given.
func queryNumber(c *gin.Context, name string) (*uint64, error) {
	s, given, err := query(c, name)
	if err != nil || !given {
		return nil, err
	}
	n, err := parseNumber(name, s)
	if err != nil {
		return nil, err
	}
	return &n, nil
}

func parseNumber(name, s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > im.MaxID {
		return 0, im.Invalid(name, "not a whole number from 0 to 2^53-1")
	}
	return n, nil
}

func querySeq(c *gin.Context, name string) (*im.Seq, error) {
	n, err := queryNumber(c, name)
	if err != nil || n == nil {
		return nil, err
	}
	seq := im.Seq(*n)
	return &seq, nil
}

// queryLimit is the page length: 0 where it is not given (logic's default), at most
// maxPage.
func queryLimit(c *gin.Context) (int, error) {
	n, err := queryNumber(c, "limit")
	if err != nil || n == nil {
		return 0, err
	}
	if *n == 0 {
		return 0, im.Invalid("limit", "must be 1 to 100")
	}
	return int(min(*n, maxPage)), nil
}

// waitStored reads ?wait=stored.
func waitStored(c *gin.Context) (bool, error) {
	wait, given, err := query(c, "wait")
	if err != nil || !given {
		return false, err
	}
	if wait != "stored" {
		return false, im.Invalid("wait", "can only be stored")
	}
	return true, nil
}
