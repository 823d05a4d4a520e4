package storage

import (
	"fmt"
	"strconv"

	"github.com/curlew-im/curlew/logic/im"
)

// packedFields is how many numbers the state hash keeps for a conversation; their
// order is packState's, and lua/raise.lua knows the first, second and fifth.
const packedFields = 13

// packedBefore is how many there were before changes: what is missing of them is zero.
const packedBefore = 11

// The hash's own fields; no conversation begins with a tilde.
const (
	fieldSeal    = "~seal"
	fieldVersion = "~ver"
)

// packState is a state as the hash keeps it: thirteen decimal numbers.
func packState(s im.ConversationState) string {
	var buf [192]byte
	b := buf[:0]
	for i, n := range [packedFields]uint64{
		uint64(s.LastSeq), uint64(s.LastID), s.LastChange, uint64(s.Read), uint64(s.Delivered),
		uint64(s.Join), uint64(s.Leave), uint64(s.Floor),
		uint64(s.PeerRead), uint64(s.PeerDelivered), uint64(s.LastUncounted),
		uint64(s.LastMention), s.Deletions,
	} {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendUint(b, n, 10)
	}
	return string(b)
}

func unpackState(c im.ConversationID, packed string) (im.ConversationState, error) {
	var n [packedFields]uint64
	field := 0
	digits := 0
	for i := range len(packed) {
		switch ch := packed[i]; {
		case ch >= '0' && ch <= '9':
			n[field] = n[field]*10 + uint64(ch-'0')
			digits++
		case ch == ' ' && digits > 0 && field < packedFields-1:
			field++
			digits = 0
		default:
			return im.ConversationState{}, fmt.Errorf("state of %s: %q is not %d numbers", c, packed, packedFields)
		}
	}
	if field != packedFields-1 && field != packedBefore-1 || digits == 0 {
		return im.ConversationState{}, fmt.Errorf("state of %s: %q is not %d numbers", c, packed, packedFields)
	}
	return im.ConversationState{
		Conversation: c,
		LastSeq:      im.Seq(n[0]), LastID: im.MessageID(n[1]), LastChange: n[2],
		Read: im.Seq(n[3]), Delivered: im.Seq(n[4]),
		Join: im.Seq(n[5]), Leave: im.Seq(n[6]), Floor: im.Seq(n[7]),
		PeerRead: im.Seq(n[8]), PeerDelivered: im.Seq(n[9]), LastUncounted: im.Seq(n[10]),
		LastMention: im.Seq(n[11]), Deletions: n[12],
	}, nil
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
	}
}
