package api

import (
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/logic/im"
)

// receiptCounts counts for each ?seq= how many have received and read the message.
func (s *Server) receiptCounts(c *gin.Context) (int, any, error) {
	id, err := im.ParseConversationID(c.Param("conversation"))
	if err != nil {
		return 0, nil, err
	}
	given := c.MustGet(keyQuery).(url.Values)["seq"]
	if len(given) == 0 || len(given) > maxPage {
		return 0, nil, im.Invalid("seq", "must be given 1 to 100 times")
	}
	seqs := make([]im.Seq, len(given))
	for i, text := range given {
		n, err := parseNumber("seq", text)
		if err != nil {
			return 0, nil, err
		}
		seqs[i] = im.Seq(n)
	}
	counts, err := s.deps.Chat.ReceiptCounts(c.Request.Context(), caller(c), id, seqs)
	counts.Items = list(counts.Items)
	return http.StatusOK, counts, err
}

// recipients pages through who has read or received a message, or has not.
func (s *Server) recipients(c *gin.Context) (int, any, error) {
	conv, seq, err := place(c)
	if err != nil {
		return 0, nil, err
	}
	state, _, err := query(c, "state")
	if err != nil {
		return 0, nil, err
	}
	after, limit, err := queryAfter(c)
	if err != nil {
		return 0, nil, err
	}
	page, err := s.deps.Chat.Recipients(c.Request.Context(), caller(c), im.Place{Conversation: conv, Seq: seq},
		im.ReceiptState(state), im.UserID(after), limit)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}
