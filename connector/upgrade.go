package connector

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
)

const (
	// Path is where the socket is.
	Path = "/v1/ws"
	// A handshake is bounded before anything of it is parsed: ws.Upgrader bounds
	// neither a line nor their number.
	maxHandshakeBytes = 8 << 10
	maxHandshakeLines = 65 // the request and 64 headers
)

var headerEnd = []byte("\r\n\r\n")

// shake takes bytes of the handshake. It returns those that came glued behind it,
// which are frames already [P1].
func (c *conn) shake(data []byte) (rest []byte) {
	if c.part != nil {
		c.part.request = append(c.part.request, data...)
		data = c.part.request
	}
	end := bytes.Index(data, headerEnd)
	size := len(data)
	if end >= 0 {
		size = end + len(headerEnd)
	}
	if size > maxHandshakeBytes || end >= 0 && bytes.Count(data[:size], headerEnd[:2])-1 > maxHandshakeLines {
		c.part = nil
		c.refuse(http.StatusRequestHeaderFieldsTooLarge, httpAnswer(http.StatusRequestHeaderFieldsTooLarge))
		return nil
	}
	if end < 0 {
		if c.part == nil {
			c.part = &fragment{request: bytes.Clone(data)}
		}
		return nil
	}
	c.part = nil
	c.partSince.Store(0)
	c.shook()
	answer, status := c.upgrade(data[:size])
	if status != http.StatusSwitchingProtocols {
		c.refuse(status, answer)
		return nil
	}
	c.s.metrics.handshakes.WithLabelValues("101").Inc()
	c.shaken = true
	c.out.Lock()
	c.upgraded = true
	c.since = c.s.wheel.now()
	c.out.Unlock()
	c.s.wheel.book(c, c.s.wheel.now()+c.s.ticks(c.s.cfg.AuthTimeout))
	c.write(answer, reply)
	return data[size:]
}

// shook says that the handshake is over, however it went.
func (c *conn) shook() {
	if c.arrived {
		c.arrived = false
		c.s.admission.shook(c.ip)
	}
}

// refuse ends a connection that was not upgraded with an HTTP answer.
func (c *conn) refuse(status int, answer []byte) {
	c.s.metrics.handshakes.WithLabelValues(strconv.Itoa(status)).Inc()
	c.out.Lock()
	wake := c.endWith(answer)
	c.out.Unlock()
	if wake {
		c.wire.wake(c)
	}
}

// upgrade judges a whole request and composes the answer.
func (c *conn) upgrade(request []byte) (answer []byte, status int) {
	var (
		hosts, origins  []string
		forwarded       string
		offered, chosen bool
	)
	rw := &memory{in: bytes.NewReader(request)}
	status = http.StatusSwitchingProtocols
	reject := func(code int, reason, header string) error {
		status = code
		return ws.RejectConnectionError(ws.RejectionStatus(code), ws.RejectionReason(reason),
			ws.RejectionHeader(ws.HandshakeHeaderString("Connection: close\r\n"+header)))
	}
	u := ws.Upgrader{
		ReadBufferSize: maxHandshakeBytes,
		OnRequest: func(uri []byte) error {
			target, err := url.ParseRequestURI(string(uri))
			switch {
			case err != nil:
				return reject(http.StatusBadRequest, "malformed target", "")
			case target.Path != Path:
				return reject(http.StatusNotFound, "not found", "")
			case protocol.CarriesToken(target.RawQuery):
				return reject(http.StatusBadRequest, "a token belongs into the first message, never into the URL", "")
			}
			return nil
		},
		OnHost: func(h []byte) error { hosts = append(hosts, string(h)); return nil },
		Protocol: func(p []byte) bool {
			offered = true
			chosen = chosen || string(p) == protocol.Subprotocol
			return chosen
		},
		OnHeader: func(key, value []byte) error {
			switch string(key) {
			case "Origin":
				origins = append(origins, string(value))
			case "X-Forwarded-For":
				forwarded += "," + string(value)
			case "Content-Length", "Transfer-Encoding":
				if string(value) != "0" {
					return reject(http.StatusBadRequest, "a handshake has no body", "")
				}
			}
			return nil
		},
	}
	u.OnBeforeUpgrade = func() (ws.HandshakeHeader, error) {
		if offered && !chosen {
			return nil, reject(http.StatusBadRequest, "subprotocol: "+protocol.Subprotocol, "")
		}
		if len(hosts) > 1 {
			return nil, reject(http.StatusBadRequest, "Host given more than once", "")
		}
		if !c.s.originAllowed(origins, hosts) {
			return nil, reject(http.StatusForbidden, "origin not allowed", "")
		}
		c.ip = c.s.clientIP(c.ip, forwarded)
		if c.s.draining.Load() {
			return nil, reject(http.StatusServiceUnavailable, "restarting", retryAfter(time.Second))
		}
		ok, wait := c.s.admission.admit(c.ip, time.Now())
		if !ok {
			return nil, reject(http.StatusServiceUnavailable, "too many connections", retryAfter(wait))
		}
		c.admitted = true
		return nil, nil
	}
	_, err := u.Upgrade(rw)
	if err == nil {
		return rw.out.Bytes(), status
	}
	if rejected, ok := err.(*ws.ConnectionRejectedError); ok {
		status = rejected.StatusCode()
	}
	if status == http.StatusSwitchingProtocols || status == 0 {
		status = http.StatusBadRequest
	}
	if rw.out.Len() == 0 {
		return httpAnswer(status), status
	}
	return rw.out.Bytes(), status
}

// memory lets ws upgrade a request that is in memory, whole.
type memory struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (m *memory) Read(p []byte) (int, error)  { return m.in.Read(p) }
func (m *memory) Write(p []byte) (int, error) { return m.out.Write(p) }

// originAllowed says whether a page may connect: one of the socket's own host, or
// of the list. Who sends no Origin is no page; who sends two is none that we know, since
// a proxy in front may have judged the other.
func (s *Server) originAllowed(origins, hosts []string) bool {
	if len(origins) == 0 {
		return true
	}
	if len(origins) > 1 {
		return false
	}
	if slices.Contains(s.cfg.AllowedOrigins, origins[0]) {
		return true
	}
	u, err := url.Parse(origins[0])
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return false // also "null"
	}
	own := &url.URL{Host: hosts[0]}
	return strings.EqualFold(u.Hostname(), own.Hostname())
}

// clientIP is the address that limits count: the peer's, or what a trusted proxy
// says of it. Of the list that proxies append to, the last address that is none of
// theirs counts; what is left of it anybody may have written.
func (s *Server) clientIP(peer, forwarded string) string {
	if !s.trusted(peer) {
		return peer
	}
	ip := peer
	hops := strings.Split(forwarded, ",")
	for _, hop := range slices.Backward(hops) {
		a, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		if ip = a.Unmap().String(); !s.trusted(ip) {
			break
		}
	}
	return ip
}

func (s *Server) trusted(ip string) bool {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return false
	}
	a = a.Unmap()
	return slices.ContainsFunc(s.proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// hostOf is the address of a peer without its port.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return ""
	}
	return host
}

func retryAfter(d time.Duration) string {
	return "Retry-After: " + strconv.Itoa(int(math.Ceil(max(d.Seconds(), 1)))) + "\r\n"
}

// httpAnswer is a refusal that ws has not composed for us.
func httpAnswer(status int) []byte {
	extra := ""
	if status == http.StatusServiceUnavailable {
		extra = retryAfter(time.Second)
	}
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nConnection: close\r\n%sContent-Length: 0\r\n\r\n", status, http.StatusText(status), extra)
}

// refusal is how a connection ends that is not upgraded yet.
func refusal(code protocol.CloseCode) []byte {
	if code == protocol.CloseRestart {
		return httpAnswer(http.StatusServiceUnavailable)
	}
	return httpAnswer(http.StatusRequestTimeout)
}
