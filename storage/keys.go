package storage

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/curlew-im/curlew/logic/im"
)

// Every key of Redis is built here, and TestKeys_TableIsTrue holds this table to
// what the code writes. Braces keep the keys of one user, and those of one
// conversation, in one slot of a cluster; no script touches two. No key carries
// a generation in its name: a writer that has not yet noticed a new one would
// write where nobody reads.
//
// A "sealed" sorted set has one member more, "~<generation>" with score -1, which
// says in which generation it was completed: so an empty list is told from a lost
// one. In the hash it is the field ~seal.
//
//	key                        type    member → score, or value                        bound               TTL     written by
//	im:gen                     hash    token, lives of the servers it was set under    2 fields            none¹   generation.go
//	im:doubt                   string  who is acting on rows of doubt                  1                   900 ms  generation.go
//	im:{u<uid>}:state          hash    conversation → packed numbers; ~seal, ~ver, ~void conversations       none²   project.go, rebuild.go
//	im:{u<uid>}:convs          zset    conversation → last message ID; sealed          conversations       none²   project.go, rebuild.go
//	im:{u<uid>}:vers           zset    conversation → user version; sealed             conversations       none²   project.go, rebuild.go
//	im:{u<uid>}:settings       hash    conversation → packed settings; ~seal, ~open    conversations       none²   settings_index.go
//	im:{u<uid>}:offline        zset    source → newest undelivered message ID; sealed  conversations       none²   project.go, rebuild.go
//	im:{u<uid>}:offline:<conv> zset    undelivered message ID → seq; sealed            newest 1,000 (+64)  none³   project.go, rebuild.go
//	im:{u<uid>}:merged         zset    channel merged at read → 0; sealed              channels            none²   project.go, rebuild.go
//	im:{u<uid>}:sessions       hash    device → session, node, platform, since, expiry 10 + ~seen          90 s    sessions.go
//	im:{u<uid>}:watchers       zset    node → until when it watches, Unix ms           live nodes          90 s    presence.go
//	im:{u<uid>}:profile        string  profile as JSON, or empty: do not fill          1 KiB (logic)       1 h     profiles.go
//	im:{<conv>}:uncounted      zset    uncounted seq[:user] → seq; sealed              newest 1,000 (+64)  7 d     project.go, rebuild.go
//	im:{<conv>}:end            string  packed end, when it last rose, seal             200 B               7 d     ends.go
//	im:{<conv>}:sent:<hash>    string  seq, message ID, time, content hash             100 B               2 min   project.go
//	im:{<bucket>}:limit        string  when the bucket is full again, µs               16 B                to full limits.go
//	im:nodes                   zset    live node → end of its lease, Unix ms           live nodes          none⁴   sessions.go
//	im:{<conv>}:nodes          zset    node → when it entered the room, µs             nodes               none⁵   rooms.go
//	im:node:{<node>}:rooms     zset    conversation → when the node entered, µs        rooms of the node   none⁵   rooms.go
//	im:rooms                   zset    node with such a list → when it last entered    nodes               none⁵   rooms.go
//	im:pools                   hash    process/lane → report of a worker pool, JSON    processes × 4       60 s    pools.go
//	im:node:{<node>}           channel push batches; sharded on a cluster              -                   -       bus.go
//
// ¹ it is what everything else is trusted by; losing it voids all seals.
// ² it is the user's home screen; one entry a conversation.
// ³ cleared by the device's ack, deleted when empty.
// ⁴ the expired are swept at each renewal.
// ⁵ the node takes out what it leaves, its peers all of it once it is dead.
const (
	keyGeneration = "im:gen"
	keyDoubt      = "im:doubt"
	keyNodes      = "im:nodes"
	keyRooms      = "im:rooms"
	keyPools      = "im:pools"
)

func userKey(u im.UserID, part string) string { return "im:{u" + u.String() + "}:" + part }

func stateKey(u im.UserID) string    { return userKey(u, "state") }
func convsKey(u im.UserID) string    { return userKey(u, "convs") }
func versKey(u im.UserID) string     { return userKey(u, "vers") }
func settingsKey(u im.UserID) string { return userKey(u, "settings") }
func offlineKey(u im.UserID) string  { return userKey(u, "offline") }
func mergedKey(u im.UserID) string   { return userKey(u, "merged") }
func sessionsKey(u im.UserID) string { return userKey(u, "sessions") }
func watchersKey(u im.UserID) string { return userKey(u, "watchers") }
func profileKey(u im.UserID) string  { return userKey(u, "profile") }

func offlineListKey(u im.UserID, c im.ConversationID) string {
	return userKey(u, "offline:") + string(c)
}

func uncountedKey(c im.ConversationID) string { return "im:{" + string(c) + "}:uncounted" }

func endKey(c im.ConversationID) string { return "im:{" + string(c) + "}:end" }

// sentKey hashes the client message ID's place in: it is the client's choice, and
// a fixed length keeps the key small.
func sentKey(k im.SendKey) string {
	var buf [128]byte
	b := append(buf[:0], k.Sender.String()...)
	b = append(b, ':')
	b = append(b, k.ClientMsgID...)
	sum := sha256.Sum256(b)
	return "im:{" + string(k.Conversation) + "}:sent:" + hex.EncodeToString(sum[:12])
}

// limitKey takes a bucket's name as it is where it is plain, else its hash: names
// hold addresses and handles, which must not bring braces of their own.
func limitKey(bucket string) string {
	for i := range len(bucket) {
		c := bucket[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			c == ':' || c == '.' || c == '-' || c == '_') || len(bucket) > 100 {
			sum := sha256.Sum256([]byte(bucket))
			bucket = hex.EncodeToString(sum[:16])
			break
		}
	}
	return "im:{" + bucket + "}:limit"
}

func roomKey(c im.ConversationID) string { return "im:{" + string(c) + "}:nodes" }

func nodeRoomsKey(n im.NodeID) string { return "im:node:{" + string(n) + "}:rooms" }

func nodeChannel(n im.NodeID) string { return "im:node:{" + string(n) + "}" }
