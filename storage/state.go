package storage

import (
	"fmt"
	"strconv"

	"github.com/curlew-im/curlew/logic/im"
)

// How many numbers the state hash keeps for a conversation; their order is packState's,
// and lua/raise.lua knows them.
const (
	packedDirect  = 13
	packedChannel = 15 // also when the user last joined, and whether it is merged at read
	packedBefore  = 11 // what was written before changes: the rest is zero
)

// The hash's own fields; no conversation begins with a tilde.
const (
	fieldSeal    = "~seal"
	fieldVersion = "~ver"
	fieldVoid    = "~void" // set by lua/drop.lua until the next seal
)

// packState is a state as the hash keeps it: decimal numbers.
func packState(s im.ConversationState) string {
	var buf [224]byte
	all := [packedChannel]uint64{
		uint64(s.LastSeq), uint64(s.LastID), s.LastChange, uint64(s.Read), uint64(s.Delivered),
		uint64(s.Join), uint64(s.Leave), uint64(s.Floor),
		uint64(s.PeerRead), uint64(s.PeerDelivered), uint64(s.LastUncounted),
		uint64(s.LastMention), s.Deletions,
		uint64(s.Joined), 0,
	}
	if s.Merged {
		all[packedChannel-1] = 1
	}
	n := packedDirect
	if isChannel(s.Conversation) {
		n = packedChannel
	}
	return string(appendNumbers(buf[:0], all[:n]))
}

// appendNumbers writes what unpackNumbers reads.
func appendNumbers(b []byte, all []uint64) []byte {
	for i, v := range all {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendUint(b, v, 10)
	}
	return b
}

// isChannel is what lua/raise.lua goes by.
func isChannel(c im.ConversationID) bool { return len(c) > 0 && c[0] == 'c' }

func unpackState(c im.ConversationID, packed string) (im.ConversationState, error) {
	var n [packedChannel]uint64
	count, ok := unpackNumbers(n[:], packed)
	if !ok || count != packedDirect && count != packedChannel && count != packedBefore {
		return im.ConversationState{}, fmt.Errorf("state of %s: %q is not %d numbers", c, packed, packedChannel)
	}
	return im.ConversationState{
		Conversation: c,
		LastSeq:      im.Seq(n[0]), LastID: im.MessageID(n[1]), LastChange: n[2],
		Read: im.Seq(n[3]), Delivered: im.Seq(n[4]),
		Join: im.Seq(n[5]), Leave: im.Seq(n[6]), Floor: im.Seq(n[7]),
		PeerRead: im.Seq(n[8]), PeerDelivered: im.Seq(n[9]), LastUncounted: im.Seq(n[10]),
		LastMention: im.Seq(n[11]), Deletions: n[12],
		Joined: im.Seq(n[13]), Merged: n[14] != 0,
	}, nil
}

// unpackNumbers reads decimal numbers with one space between, as many as there are, at
// most len(to).
func unpackNumbers(to []uint64, packed string) (count int, ok bool) {
	digits := 0
	for i := range len(packed) {
		switch ch := packed[i]; {
		case ch >= '0' && ch <= '9':
			to[count] = to[count]*10 + uint64(ch-'0')
			digits++
		case ch == ' ' && digits > 0 && count < len(to)-1:
			count++
			digits = 0
		default:
			return 0, false
		}
	}
	return count + 1, digits > 0
}

// mergeStates is the max of both in every field.
func mergeStates(a, b im.ConversationState) im.ConversationState {
	return im.ConversationState{
		Conversation: a.Conversation,
		LastSeq:      max(a.LastSeq, b.LastSeq), LastID: max(a.LastID, b.LastID), LastChange: max(a.LastChange, b.LastChange),
		Read: max(a.Read, b.Read), Delivered: max(a.Delivered, b.Delivered),
		Join: max(a.Join, b.Join), Leave: max(a.Leave, b.Leave), Floor: max(a.Floor, b.Floor),
		PeerRead: max(a.PeerRead, b.PeerRead), PeerDelivered: max(a.PeerDelivered, b.PeerDelivered),
		LastUncounted: max(a.LastUncounted, b.LastUncounted),
		LastMention:   max(a.LastMention, b.LastMention), Deletions: max(a.Deletions, b.Deletions),
		Joined: max(a.Joined, b.Joined), Merged: a.Merged || b.Merged,
	}
}
