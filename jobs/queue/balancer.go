package queue

import "github.com/curlew-im/curlew/logic/im"

// FNV-1a, 32 bits: http://www.isthe.com/chongo/tech/comp/fnv/.
const (
	fnvOffset = 2166136261
	fnvPrime  = 16777619
)

// Hash is FNV-1a of the conversation's name, mixed. The partition is Hash % the pinned
// count; strands inside a partition use its upper bits.
//
// Unmixed, names that differ in few digits share their low bits: 100 conversations of
// users i and i+100 fell 0 29 0 5 0 62 0 4 into 8 partitions, mixed 9 13 13 10 9 15 14 17.
func Hash(c im.ConversationID) uint32 {
	h := uint32(fnvOffset)
	for i := range len(c) {
		h = (h ^ uint32(c[i])) * fnvPrime
	}
	return mix(h)
}

// mix lets every bit depend on every other (MurmurHash3's finaliser).
func mix(h uint32) uint32 {
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

// Partition is where a conversation's tasks go, given the pinned count: never the
// live one, which somebody may have raised (RELIABILITY.md, R10).
func Partition(c im.ConversationID, partitions int) int {
	return int(Hash(c) % uint32(partitions))
}
