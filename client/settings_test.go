package client

import (
	"sync/atomic"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// [C2] What its user has deleted is no hole: there is nothing to wait for in it.
func TestPull_WhatWasDeletedIsNoHole(t *testing.T) {
	shown := make(chan im.Message, 8)
	socket := serveFake(t, func(l link, r protocol.Request) (any, error) {
		switch r.Cmd {
		case protocol.CmdPing:
			return protocol.Pong{Position: at(9), Conversations: []protocol.Digest{{ConversationID: talk, LastSeq: 8}}}, nil
		case protocol.CmdHistory:
			switch *dataOf[protocol.History](t, r).AfterSeq {
			case 3: // 4 to 6 are gone
				l.push(t, protocol.PushMessage, message(8, peer, ""))
				return protocol.Page{FirstSeq: 7}, nil
			case 6:
				return protocol.Page{Items: []im.Message{message(7, peer, ""), message(8, peer, "")}, FirstSeq: 7}, nil
			}
		}
		return nil, nil
	})
	start(t, Options{Socket: socket, Have: map[im.ConversationID]im.Seq{talk: 3}, OnMessage: func(m im.Message) { shown <- m }})
	for _, seq := range []im.Seq{7, 8} {
		if m := soon(t, "what is left", shown); m.Seq != seq {
			t.Errorf("shown %d, want %d", m.Seq, seq)
		}
	}
}

// What a push did not bring shows in the heartbeat, and is asked for once; what is older
// than what is known is not told.
func TestSettings_MissedOnesComeWithTheHeartbeat(t *testing.T) {
	told := make(chan protocol.ConversationSettings, 8)
	var syncs, pings atomic.Int32
	beaten := make(chan int32, 1024)
	socket := serveFake(t, func(l link, r protocol.Request) (any, error) {
		switch r.Cmd {
		case protocol.CmdConnect:
			for _, version := range []uint64{4, 3, 4, 5} {
				l.push(t, protocol.PushSettings, protocol.ConversationSettings{ConversationID: talk, Settings: protocol.Settings{Version: version}})
			}
		case protocol.CmdSync:
			if syncs.Add(1) == 1 {
				return protocol.Synced{Full: true, Position: at(1)}, nil
			}
			if p := dataOf[protocol.Sync](t, r).Position; p == nil || p.Version != 1 {
				t.Errorf("synced from %v", p)
			}
			return protocol.Synced{Position: at(2), Conversations: []protocol.Conversation{
				{ConversationID: talk, FloorSeq: 2, Settings: &protocol.Settings{Version: 6}}}}, nil
		case protocol.CmdPing:
			n := pings.Add(1)
			beaten <- n
			return protocol.Pong{Position: at(2), Conversations: []protocol.Digest{{ConversationID: talk, SettingsVersion: 6, FloorSeq: 2}}}, nil
		}
		return nil, nil
	})
	start(t, Options{Socket: socket, OnSettings: func(s protocol.ConversationSettings) { told <- s }})
	for _, version := range []uint64{4, 5} {
		if s := soon(t, "settings", told); s.Settings.Version != version {
			t.Errorf("told of version %d, want %d", s.Settings.Version, version)
		}
	}
	for soon(t, "heartbeats", beaten) < 3 {
	}
	if n := syncs.Load(); n != 2 {
		t.Errorf("synced %d times", n)
	}
}
