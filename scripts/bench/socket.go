package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
)

// socket is one client connection of the generator: what it costs is part of every
// measurement on this machine, so it reads what it needs of a frame and no more.
type socket struct {
	nc net.Conn
	r  *bufio.Reader

	mu  sync.Mutex // guards out
	out []byte
}

// readBuffer is of one connection, bytes: a few pushes.
const readBuffer = 4 << 10

// dial opens a connection and its WebSocket. url is ws://host:port/path.
func dial(ctx context.Context, url string) (*socket, error) {
	host, path, ok := strings.Cut(strings.TrimPrefix(url, "ws://"), "/")
	if !ok {
		return nil, fmt.Errorf("%s is no ws://host:port/path", url)
	}
	nc, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	s := &socket{nc: nc, r: bufio.NewReaderSize(nc, readBuffer)}
	_ = nc.SetDeadline(time.Now().Add(15 * time.Second))
	_, err = fmt.Fprintf(nc, "GET /%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", path, host, protocol.Subprotocol)
	if err == nil {
		err = s.upgraded()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	_ = nc.SetDeadline(time.Time{})
	return s, nil
}

// upgraded reads the answer to the handshake.
func (s *socket) upgraded() error {
	for first := true; ; first = false {
		line, err := s.r.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case first && !strings.Contains(string(line), " 101 "):
			return fmt.Errorf("handshake answered %q", strings.TrimSpace(string(line)))
		case len(line) <= 2:
			return nil
		}
	}
}

// put appends a text frame to what waits to be written; flush writes it. A client's
// frames are masked: with a mask of zeros that changes nothing, and is one.
func (s *socket) put(payload []byte) {
	s.mu.Lock()
	s.out = appendFrame(s.out, payload)
	s.mu.Unlock()
}

func appendFrame(b, payload []byte) []byte {
	b = append(b, 0x80|byte(ws.OpText))
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

func (s *socket) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.nc.Write(s.out)
	s.out = s.out[:0]
	return err
}

var errClosed = errors.New("closed by the server")

// next reads one message of the server. What it returns is valid until the next call.
func (s *socket) next(buf []byte) ([]byte, error) {
	for {
		head, err := s.r.Peek(2)
		if err != nil {
			return buf, err
		}
		op, size := ws.OpCode(head[0]&0xf), int(head[1]&0x7f)
		skip := 2
		switch size {
		case 126:
			if head, err = s.r.Peek(4); err != nil {
				return buf, err
			}
			size, skip = int(binary.BigEndian.Uint16(head[2:])), 4
		case 127:
			if head, err = s.r.Peek(10); err != nil {
				return buf, err
			}
			size, skip = int(binary.BigEndian.Uint64(head[2:])), 10
		}
		_, _ = s.r.Discard(skip) // was peeked
		if cap(buf) < size {
			buf = make([]byte, size)
		}
		buf = buf[:size]
		if _, err := io.ReadFull(s.r, buf); err != nil {
			return buf, err
		}
		switch op {
		case ws.OpText:
			return buf, nil
		case ws.OpClose:
			return buf, fmt.Errorf("%w: %q", errClosed, buf)
		}
	}
}

func (s *socket) close() { s.nc.Close() }
