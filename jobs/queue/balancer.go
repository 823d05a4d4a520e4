package queue

import "github.com/curlew-im/curlew/logic/im"

// FNV-1a, 32 bits: http://www.isthe.com/chongo/tech/comp/fnv/.
const (
	fnvOffset = 2166136261
	fnvPrime  = 16777619
)

// Hash is FNV-1a of the conversation's name. The partition is Hash % the pinned
// count; strands inside a partition use its upper bits.
func Hash(c im.ConversationID) uint32 {
	h := uint32(fnvOffset)
	for i := range len(c) {
		h = (h ^ uint32(c[i])) * fnvPrime
	}
	return h
}

// Partition is where a conversation's tasks go, given the pinned count: never the
// live one, which somebody may have raised (RELIABILITY.md, R10).
func Partition(c im.ConversationID, partitions int) int {
	return int(Hash(c) % uint32(partitions))
}
