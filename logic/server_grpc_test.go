package logic

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// The way between both ends is tested from the connector's side (upstream_grpc_test.go
// there); here is what no connector of ours would do.

func TestGRPCServerConfig_NamesTheBadField(t *testing.T) {
	const token = appSecret
	for name, c := range map[string]struct {
		cfg  GRPCServerConfig
		want string
	}{
		"loopback":                {GRPCServerConfig{Listen: "127.0.0.1:0"}, ""},
		"IPv6 loopback":           {GRPCServerConfig{Listen: "[::1]:0"}, ""},
		"localhost":               {GRPCServerConfig{Listen: "localhost:0"}, ""},
		"everywhere with a token": {GRPCServerConfig{Listen: ":9000", Token: token}, ""},
		"everywhere without":      {GRPCServerConfig{Listen: ":9000"}, "logic.grpc.token"},
		"an address without":      {GRPCServerConfig{Listen: "10.0.0.1:9000"}, "logic.grpc.token"},
		"short token":             {GRPCServerConfig{Listen: "127.0.0.1:0", Token: token[1:]}, "logic.grpc.token"},
		"a token of an example":   {GRPCServerConfig{Listen: "127.0.0.1:0", Token: "changeme-" + token}, "logic.grpc.token"},
		"no port":                 {GRPCServerConfig{Listen: "127.0.0.1"}, "logic.grpc.listen"},
		"nothing":                 {GRPCServerConfig{}, "logic.grpc.listen"},
		"negative drain":          {GRPCServerConfig{Listen: "127.0.0.1:0", DrainTimeout: -1}, "logic.grpc.drain_timeout"},
	} {
		switch err := c.cfg.Validate(); {
		case err == nil && c.want != "", err != nil && (c.want == "" || !strings.HasPrefix(err.Error(), c.want+": ")):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// accepting is a handler that accepts everybody and echoes.
type accepting struct{}

func (accepting) Connect(_ context.Context, h protocol.Hello, _ []byte, answer func(protocol.ConnectAnswer)) {
	answer(protocol.ConnectAnswer{Session: &im.Session{ID: h.Session, Identity: annsPhone}})
}

func (accepting) Left(*im.Session)                {}
func (accepting) OnRevoked(func([]im.Revocation)) {}
func (accepting) Handle(_ context.Context, s *im.Session, m []byte, answer func(protocol.Answer)) {
	answer(protocol.Answer{Frame: append([]byte(s.ID+": "), m...)})
}

// nobodysRooms is a directory of no rooms.
type nobodysRooms struct{}

func (nobodysRooms) RoomsOf(context.Context, []im.UserID) (map[im.UserID][]im.Room, error) {
	return nil, nil
}
func (nobodysRooms) RoomMembers(context.Context, im.ConversationID, []im.UserID) (im.Seq, map[im.UserID]im.Seq, error) {
	return 0, nil, nil
}

// dialBridge starts a server and connects to it.
func dialBridge(t *testing.T, token string) *grpc.ClientConn {
	t.Helper()
	s, err := NewGRPCServer(GRPCServerConfig{Listen: "127.0.0.1:0", Token: token, DrainTimeout: 1}, accepting{}, nobodysRooms{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(protocol.BridgeCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// openBridge opens a stream by hand.
func openBridge(t *testing.T) grpc.ClientStream {
	t.Helper()
	stream, err := dialBridge(t, "").NewStream(t.Context(), &grpc.StreamDesc{StreamName: protocol.BridgeStream, ClientStreams: true, ServerStreams: true}, protocol.BridgeMethod)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func exchange(t *testing.T, stream grpc.ClientStream, asks ...protocol.Ask) (tolds []protocol.Told) {
	t.Helper()
	var batch []byte
	want := 0
	for i := range asks {
		batch = protocol.AppendAsk(batch, &asks[i])
		if !asks[i].Gone {
			want++
		}
	}
	if err := stream.SendMsg(&batch); err != nil {
		t.Fatal(err)
	}
	for len(tolds) < want {
		var b []byte
		if err := stream.RecvMsg(&b); err != nil {
			t.Fatal(err)
		}
		got, err := protocol.DecodeTolds(b)
		if err != nil {
			t.Fatal(err)
		}
		tolds = append(tolds, got...)
	}
	return tolds
}

func TestGRPCServer_MessageOfAnUnknownConnectionEndsIt(t *testing.T) {
	stream := openBridge(t)
	if got := exchange(t, stream, protocol.Ask{Request: 1, Conn: 5, Message: []byte("m")}); got[0].Close.Code != protocol.CloseInternal {
		t.Errorf("never introduced: %+v", got)
	}
	got := exchange(t, stream, protocol.Ask{Request: 2, Conn: 6, Hello: &protocol.Hello{Session: "s6"}},
		protocol.Ask{Request: 3, Conn: 6, Message: []byte("m")}) // does not wait for the welcome
	if got[0].Session == nil || got[1].Request != 3 || string(got[1].Frame) != "s6: m" {
		t.Errorf("pipelined behind connect: %+v", got)
	}
	got = exchange(t, stream, protocol.Ask{Conn: 6, Gone: true}, protocol.Ask{Conn: 77, Gone: true}, protocol.Ask{Request: 4, Conn: 6, Message: []byte("m")})
	if got[0].Close.Code != protocol.CloseInternal {
		t.Errorf("after the end: %+v", got)
	}
}

func TestGRPCServer_GarbageEndsTheStream(t *testing.T) {
	stream := openBridge(t)
	garbage := []byte{0xff, 0xff, 0xff}
	if err := stream.SendMsg(&garbage); err != nil {
		t.Fatal(err)
	}
	var b []byte
	if err := stream.RecvMsg(&b); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
}

func TestGRPCServer_QuestionsAboutRoomsNeedTheTokenAndHaveABound(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	conn := dialBridge(t, token)
	ask := func(token string, users int) error {
		b := protocol.AppendRoomsQuestion(nil, &protocol.RoomsQuestion{Users: slices.Repeat([]im.UserID{1}, users)})
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
		return conn.Invoke(ctx, "/"+protocol.BridgeService+"/"+protocol.BridgeRoomsOf, &b, new([]byte))
	}
	for _, c := range []struct {
		token string
		users int
		want  codes.Code
	}{{token, 500, codes.OK}, {token[1:], 1, codes.Unauthenticated}, {token, 501, codes.InvalidArgument}} {
		if err := ask(c.token, c.users); status.Code(err) != c.want {
			t.Errorf("%d users: %v, want %s", c.users, err, c.want)
		}
	}
}
