package logic

import (
	"encoding/hex"
	"encoding/json"
	"mime"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// Bounds on what is said of a file that is elsewhere, or of a place.
const (
	maxURL      = 2048 // bytes
	maxMIME     = 127  // bytes
	maxName     = 255  // characters
	maxPixels   = 100_000
	maxDuration = 7 * 24 * 3600 * 1000 // ms
)

// mimePrefix is what the MIME type of a file must begin with, by message type.
var mimePrefix = map[im.MessageType]string{
	im.TypeImage: "image/", im.TypeAudio: "audio/", im.TypeVideo: "video/", im.TypeFile: "",
}

// readMedia checks what is said of an attachment. It is not fetched: that the file is
// what its size and checksum say is for who opens it.
func readMedia(kind im.MessageType, raw json.RawMessage, maxSize int64) (body, error) {
	var c im.MediaContent
	if err := decodeContent(raw, &c); err != nil {
		return body{}, err
	}
	if err := validURL("content.url", c.URL); err != nil {
		return body{}, err
	}
	media, _, err := mime.ParseMediaType(c.MIME)
	if err != nil || len(c.MIME) > maxMIME || !strings.Contains(media, "/") || !strings.HasPrefix(media, mimePrefix[kind]) {
		return body{}, im.Invalid("content.mime", "not a media type of this kind of message")
	}
	if c.Size < 1 {
		return body{}, im.Invalid("content.size", "must be at least 1 byte")
	}
	if c.Size > maxSize {
		return body{}, im.ErrTooLarge
	}
	sum, err := hex.DecodeString(c.SHA256)
	if err != nil || len(sum) != 32 {
		return body{}, im.Invalid("content.sha256", "must be 64 hex digits")
	}
	c.SHA256 = strings.ToLower(c.SHA256)
	if err := validName(c.Name); err != nil {
		return body{}, err
	}
	numbers := []struct {
		field string
		value int64
		max   int64
	}{{"content.width", int64(c.Width), maxPixels}, {"content.height", int64(c.Height), maxPixels}, {"content.duration_ms", c.DurationMS, maxDuration}}
	if t := c.Thumbnail; t != nil {
		if err := validURL("content.thumbnail.url", t.URL); err != nil {
			return body{}, err
		}
		numbers = append(numbers, numbers[0], numbers[1])
		numbers[3].value, numbers[4].value = int64(t.Width), int64(t.Height)
	}
	for _, n := range numbers {
		if n.value < 0 || n.value > n.max {
			return body{}, im.Invalid(n.field, "out of range")
		}
	}
	return encodeBody(kind, c, c.Name)
}

func readLocation(raw json.RawMessage) (body, error) {
	var c struct { // absent is not the equator
		Latitude  *float64 `json:"latitude"`
		Longitude *float64 `json:"longitude"`
		Name      string   `json:"name"`
	}
	if err := decodeContent(raw, &c); err != nil {
		return body{}, err
	}
	switch {
	case c.Latitude == nil || *c.Latitude < -90 || *c.Latitude > 90:
		return body{}, im.Invalid("content.latitude", "must be within -90 and 90")
	case c.Longitude == nil || *c.Longitude < -180 || *c.Longitude > 180:
		return body{}, im.Invalid("content.longitude", "must be within -180 and 180")
	}
	if err := validName(c.Name); err != nil {
		return body{}, err
	}
	return encodeBody(im.TypeLocation, im.LocationContent{Latitude: *c.Latitude, Longitude: *c.Longitude, Name: c.Name}, c.Name)
}

func decodeContent(raw json.RawMessage, into any) error {
	if err := protocol.DecodeData(raw, into); err != nil {
		return im.Invalid("content", err.Error())
	}
	return nil
}

// encodeBody writes content anew: what the type does not know is left out.
func encodeBody(kind im.MessageType, content any, text string) (body, error) {
	encoded, err := protocol.EncodeJSON(content)
	if err == nil && len(encoded) > im.MaxContentBytes {
		err = im.ErrTooLarge
	}
	return body{kind: kind, content: encoded, text: text}, err
}

// validURL takes an absolute http or https URL without credentials.
func validURL(field, s string) error {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxURL || !utf8.ValidString(s) || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return im.Invalid(field, "must be an absolute http or https URL of at most 2048 bytes, without credentials")
	}
	return nil
}

// validName takes a file's or place's name: one line, no path.
func validName(s string) error {
	if utf8.RuneCountInString(s) > maxName || !utf8.ValidString(s) || strings.IndexFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '/' || r == '\\' || r == '\u2028' || r == '\u2029'
	}) >= 0 {
		return im.Invalid("content.name", "must be one line of at most 255 characters, without / and \\")
	}
	return nil
}

// words is what a content says to who reads it, and the filter.
func words(kind im.MessageType, content json.RawMessage) (string, error) {
	switch kind {
	case im.TypeText, im.TypeSystem:
		return protocol.DecodeText(content)
	case im.TypeCustom:
		return "", nil
	}
	var c struct {
		Name string `json:"name"`
	}
	err := json.Unmarshal(content, &c)
	return c.Name, err
}

// reword is a content with other words.
func reword(kind im.MessageType, content json.RawMessage, text string) (json.RawMessage, error) {
	switch kind {
	case im.TypeText, im.TypeSystem:
		return protocol.EncodeText(text)
	case im.TypeLocation:
		var c im.LocationContent
		if err := json.Unmarshal(content, &c); err != nil {
			return nil, err
		}
		c.Name = text
		return protocol.EncodeJSON(c)
	}
	var c im.MediaContent
	if err := json.Unmarshal(content, &c); err != nil {
		return nil, err
	}
	c.Name = text
	return protocol.EncodeJSON(c)
}
