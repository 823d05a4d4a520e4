package logic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// tooManyDevices is when a user at the bound may try again.
const tooManyDevices = 30 * time.Second

// Connect verifies the first message of a connection and answers exactly once: a
// session with the reply to write once its route is registered, or the refusal with
// the close code that says whether to come back.
func (s *Service) Connect(ctx context.Context, hello protocol.Hello, message []byte, answer func(protocol.ConnectAnswer)) {
	req, err := protocol.DecodeRequest(message)
	var session *im.Session
	var connected protocol.Connected
	if err == nil {
		session, connected, err = s.connect(ctx, hello, req)
	}
	s.count(protocol.CmdConnect, err)
	if err != nil {
		answer(protocol.ConnectAnswer{Frame: s.reply(req.ID, nil, err), Close: closeOf(err)})
		return
	}
	answer(protocol.ConnectAnswer{Session: session, Frame: s.reply(req.ID, connected, nil)})
}

func (s *Service) connect(ctx context.Context, hello protocol.Hello, req protocol.Request) (*im.Session, protocol.Connected, error) {
	var none protocol.Connected
	if req.Cmd != protocol.CmdConnect {
		return nil, none, fmt.Errorf("%s before connect: %w", req.Cmd, im.ErrUnauthenticated)
	}
	var c protocol.Connect
	if err := protocol.DecodeData(req.Data, &c); err != nil {
		return nil, none, err
	}
	if err := checkDevice(c.Device, c.Platform); err != nil {
		return nil, none, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	who, err := s.deps.Auth.Verify(ctx, c.Token)
	switch {
	case err != nil:
		return nil, none, fmt.Errorf("verify: %w", err)
	case who.Device != c.Device:
		return nil, none, fmt.Errorf("token of another device: %w", im.ErrForbidden)
	}
	if c.Platform != "" {
		who.Platform = c.Platform
	}
	if err := s.roomForDevice(ctx, who); err != nil {
		return nil, none, err
	}
	profile, err := s.senders.Profile(ctx, who.User)
	if err != nil {
		return nil, none, err
	}
	session := &im.Session{Identity: who, ID: hello.Session, Node: hello.Node, IP: hello.IP,
		Since: s.now().UnixMilli(), Policy: s.cfg.DevicePolicy}
	s.seen.note(session, seenNow)
	return session, protocol.Connected{
		SessionID:   hello.Session,
		User:        profile,
		ExpiresAt:   who.ExpiresAt,
		HeartbeatMS: s.cfg.Heartbeat.Milliseconds(),
		ServerTime:  s.now().UnixMilli(),
		Limits:      s.Limits(),
	}, nil
}

// roomForDevice bounds the user's connected devices. The same device again takes its
// own place; while Redis is away nobody counts.
func (s *Service) roomForDevice(ctx context.Context, who im.Identity) error {
	if s.cfg.DevicesPerUser < 0 {
		return nil
	}
	all, err := s.deps.Sessions.Sessions(ctx, []im.UserID{who.User})
	if err != nil {
		return nil
	}
	others := 0
	for _, ref := range all[who.User] {
		if ref.Device != who.Device && !s.replaces(who, ref) {
			others++
		}
	}
	if others >= s.cfg.DevicesPerUser {
		return &im.LimitError{Limit: "devices", RetryAfter: tooManyDevices}
	}
	return nil
}

// replaces says that the policy ends ref when who connects.
func (s *Service) replaces(who im.Identity, ref im.SessionRef) bool {
	switch s.cfg.DevicePolicy {
	case im.DevicesOne:
		return true
	case im.DevicesOnePerPlatform:
		return ref.Platform == who.Platform
	}
	return false
}

// Left notes when an accepted session has ended.
func (s *Service) Left(session *im.Session) { s.seen.note(session, seenNow) }

// OnRevoked has tell called with what open sessions must learn, within 2 s of its
// commit, while Run is running. tell returns at once.
func (s *Service) OnRevoked(tell func([]im.Revocation)) { s.revoked.listen(tell) }

// closeOf is how a connection ends that could not be accepted: as the table of codes
// says, else to come back later where that may help, else as one never authenticated.
func closeOf(err error) protocol.Close {
	code := protocol.CodeOf(err)
	c := protocol.Close{Code: code.Close, Reason: code.Name}
	switch {
	case c.Code != 0:
	case code.Retryable:
		c.Code = protocol.CloseTryLater
	default:
		c.Code = protocol.CloseUnauthenticated
	}
	return c
}

// refresh takes a newer token for the session, of the same user and device.
func (s *Service) refresh(ctx context.Context, session *im.Session, r protocol.Refresh) (im.Identity, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	who, err := s.deps.Auth.Verify(ctx, r.Token)
	switch {
	case err != nil:
		return im.Identity{}, fmt.Errorf("verify: %w", err)
	case who.User != session.User || who.Device != session.Device:
		return im.Identity{}, fmt.Errorf("token of another session: %w", im.ErrForbidden)
	}
	who.Platform = session.Platform
	return who, nil
}

// ping answers what differs from the client's position, and ends a session whose
// token was revoked while the kick got lost ([L7]).
func (s *Service) ping(ctx context.Context, session *im.Session, p protocol.Ping) (protocol.Pong, error) {
	s.seen.note(session, seenEvery)
	ctx, cancel := s.within(ctx)
	defer cancel()
	pong, err := s.digest(ctx, session.User, p.Position)
	if err != nil {
		return protocol.Pong{}, err
	}
	if err := s.deps.Auth.Recheck(ctx, session.Identity, stateFresh); errors.Is(err, im.ErrUnauthenticated) {
		return protocol.Pong{}, fmt.Errorf("recheck: %w", err)
	}
	return pong, nil
}

// standTimeout bounds what a message waits to learn whether its session still stands.
// It seldom waits: the last ping has asked.
const standTimeout = 200 * time.Millisecond

// stands is false where the session's token was revoked. A client that sends no pings
// is not to outlive its token by that, and one that does is to cost no question more:
// so the copy may be as old as a ping that is late ([L7]).
func (s *Service) stands(ctx context.Context, session *im.Session) bool {
	ctx, cancel := withTimeout(ctx, standTimeout)
	defer cancel()
	return !errors.Is(s.deps.Auth.Recheck(ctx, session.Identity, s.cfg.Heartbeat*5/4), im.ErrUnauthenticated)
}

// digest is what differs from a position; without one, only the present position.
func (s *Service) digest(ctx context.Context, u im.UserID, since *im.Position) (protocol.Pong, error) {
	pong := protocol.Pong{ServerTime: s.now().UnixMilli()}
	var changes im.Changes
	var err error
	if since != nil {
		changes, err = s.deps.Index.Changes(ctx, u, *since, maxPage)
	} else {
		var list im.ListPage
		list, err = s.deps.Index.List(ctx, u, 0, 1)
		changes.Position, changes.Degraded = list.Position, list.Degraded
	}
	switch {
	case away(err), err == nil && changes.Degraded:
		pong.Degraded = true
		return pong, nil
	case err != nil:
		return protocol.Pong{}, fmt.Errorf("changes: %w", err)
	}
	pong.Position, pong.StartOver, pong.HasMore = changes.Position, changes.Void, changes.HasMore
	for _, st := range changes.States {
		pong.Conversations = append(pong.Conversations, protocol.Digest{
			ConversationID: st.Conversation, LastSeq: st.Top(), LastChange: st.LastChange, ReadSeq: min(st.Read, st.Top()),
			FloorSeq: st.Floor, SettingsVersion: st.Settings.Version, Deletions: st.Deletions,
		})
	}
	return pong, nil
}

// Kicks ends sessions wherever they are.
type Kicks struct {
	sessions Sessions
	bus      Bus
}

// NewKicks tells the nodes of a user's sessions over bus.
func NewKicks(sessions Sessions, bus Bus) *Kicks { return &Kicks{sessions, bus} }

// Kick closes the sessions of u with 4401, of one device where that is given. Best
// effort: what it does not reach ends at its next ping ([L7]).
func (k *Kicks) Kick(ctx context.Context, u im.UserID, device im.DeviceID) error {
	all, err := k.sessions.Sessions(ctx, []im.UserID{u})
	if err != nil {
		return fmt.Errorf("kick: %w", err)
	}
	frame, err := protocol.EncodePush(protocol.PushFrame{Push: protocol.PushKicked, Data: protocol.Kicked{
		Code: "unauthenticated", Reason: "the token was revoked",
	}})
	if err != nil {
		return err
	}
	batches := make(map[im.NodeID][]byte)
	for _, ref := range all[u] {
		if device != "" && ref.Device != device {
			continue
		}
		batches[ref.Node] = protocol.AppendDelivery(batches[ref.Node], &protocol.Delivery{
			Users: []im.UserID{u}, Only: ref.Session, Frame: frame,
			Close: protocol.Close{Code: protocol.CloseUnauthenticated, Reason: "revoked"},
		})
	}
	if len(batches) == 0 {
		return nil
	}
	if err := k.bus.Publish(ctx, batches); err != nil {
		return fmt.Errorf("kick: %w", err)
	}
	return nil
}
