package storage

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

const (
	offlineKeep    = 1000               // newest undelivered messages indexed per source
	uncountedKeep  = 1000               // newest uncounted seqs per conversation; below them, MySQL
	uncountedTTL   = 7 * 24 * time.Hour // then MySQL is asked once more
	hintTTL        = 2 * time.Minute    // a device retries within seconds; later the log and the table answer
	projectBatch   = 256                // script calls in one round trip
	raiseConvs     = 200                // conversations in one script call: Lua unpacks a few thousand values at most
	projectTimeout = 5 * time.Second    // all round trips of one projection
)

// Projector raises the projection in Redis.
type Projector struct{ redis *Redis }

// NewProjector makes a Projector.
func NewProjector(r *Redis) *Projector { return &Projector{redis: r} }

// userRaise is one user's part of a projection, conversations folded.
type userRaise struct {
	convs  []im.ConversationID
	raises map[im.ConversationID]*im.UserRaise
}

// Project raises everything in p with one script call per user, pipelined. All of
// it is a max, so order does not matter and a repeat changes nothing. im.ErrCache
// where any of it may be missing: repeat it, or note a doubt.
func (p *Projector) Project(ctx context.Context, pr im.Projection) error {
	ctx, cancel := context.WithTimeout(ctx, projectTimeout)
	defer cancel()
	cmds := make([]command, 0, len(pr.Users)+len(pr.Ends)+len(pr.Hints)+1)
	// Uncounted seqs go first: a reader who sees the last seq sees what to leave out.
	cmds = appendUncounted(ctx, cmds, pr.Uncounted)
	if p.redis.cluster != nil && len(cmds) > 0 { // seldom: no message of a user is uncounted for all
		if err := p.send(ctx, cmds, len(pr.Users)); err != nil {
			return err
		}
		cmds = cmds[:0]
	}
	cmds = appendEnds(ctx, cmds, pr.Ends)
	cmds = appendRaises(ctx, cmds, pr.Users)
	cmds = appendHints(ctx, cmds, pr.Hints)
	if err := p.send(ctx, cmds, len(pr.Users)); err != nil {
		return err
	}
	p.redis.gen.noteWrite()
	return nil
}

func (p *Projector) send(ctx context.Context, cmds []command, users int) error {
	for part := range slices.Chunk(cmds, projectBatch) {
		opCtx, done := p.redis.op(ctx, "project")
		err := p.redis.exec(opCtx, part...)
		done()
		if err != nil {
			return fmt.Errorf("project %d users: %w", users, cacheError(err))
		}
	}
	return nil
}

func appendRaises(ctx context.Context, cmds []command, all []im.UserRaise) []command {
	users := make(map[im.UserID]*userRaise, len(all))
	order := make([]im.UserID, 0, len(all))
	for i := range all {
		in := &all[i]
		if in.ClearOffline > in.State.Delivered {
			in.State.Delivered = in.ClearOffline
		}
		u := users[in.User]
		if u == nil {
			u = &userRaise{raises: make(map[im.ConversationID]*im.UserRaise, 1)}
			users[in.User] = u
			order = append(order, in.User)
		}
		c := in.State.Conversation
		have := u.raises[c]
		if have == nil {
			u.convs = append(u.convs, c)
			u.raises[c] = in
			continue
		}
		// A copy: the caller's entries are not ours to grow.
		u.raises[c] = &im.UserRaise{
			User:    in.User,
			State:   mergeStates(have.State, in.State),
			Offline: append(have.Offline[:len(have.Offline):len(have.Offline)], in.Offline...),
		}
	}
	for _, id := range order {
		u := users[id]
		for len(u.convs) > 0 {
			n := min(len(u.convs), raiseConvs)
			step := make([]im.UserRaise, n)
			for i, c := range u.convs[:n] {
				step[i] = *u.raises[c]
			}
			cmds = append(cmds, raise(ctx, id, step, sealing{}))
			u.convs = u.convs[n:]
		}
	}
	return cmds
}

// sealing says what a raise completes; zero for writers.
type sealing struct {
	generation im.Generation
	last       bool   // the step after which all is there
	offline    bool   // with the offline lists
	void       string // what voided returned before MySQL was read
}

// raise makes the script call for some of one user's conversations.
func raise(ctx context.Context, u im.UserID, convs []im.UserRaise, s sealing) *redis.Cmd {
	prefix := "im:{u" + u.String() + "}:"
	keys := []string{prefix + "state", prefix + "convs", prefix + "vers", prefix + "offline", prefix + "merged"}
	completes, whole := "", ""
	if s.last {
		completes = "l"
	}
	if s.offline {
		whole = "a"
		if s.last {
			completes = "a"
		}
	}
	args := make([]string, 5, 5+3*len(convs))
	args[0], args[1], args[2], args[3], args[4] = string(s.generation), completes, whole, strconv.Itoa(offlineKeep), s.void
	for i := range convs {
		c := &convs[i]
		args = append(args, string(c.State.Conversation), packState(c.State), packEntries(c.Offline))
	}
	return eval(ctx, raiseScript, keys, args...)
}

func packEntries(entries []im.OfflineEntry) string {
	if len(entries) == 0 {
		return ""
	}
	b := make([]byte, 0, 24*len(entries))
	for _, e := range entries {
		b = strconv.AppendUint(b, uint64(e.ID), 10)
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(e.Seq), 10)
		b = append(b, ' ')
	}
	return string(b)
}

func appendUncounted(ctx context.Context, cmds []command, rows []im.UncountedSeq) []command {
	if len(rows) == 0 {
		return cmds
	}
	convs := make(map[im.ConversationID][]im.UncountedSeq, 1)
	for _, u := range rows {
		convs[u.Conversation] = append(convs[u.Conversation], u)
	}
	for c, rows := range convs {
		cmds = append(cmds, addUncounted(ctx, c, rows, ""))
	}
	return cmds
}

func addUncounted(ctx context.Context, c im.ConversationID, rows []im.UncountedSeq, seal im.Generation) *redis.Cmd {
	args := make([]string, 3, 3+2*len(rows))
	args[0], args[1], args[2] = string(seal), strconv.Itoa(uncountedKeep), strconv.FormatInt(uncountedTTL.Milliseconds(), 10)
	for _, row := range rows {
		seq := strconv.FormatUint(uint64(row.Seq), 10)
		member := seq
		if row.User != im.SystemUser {
			member += ":" + row.User.String()
		}
		args = append(args, seq, member)
	}
	return eval(ctx, uncountedScript, []string{uncountedKey(c)}, args...)
}

func appendHints(ctx context.Context, cmds []command, hints []im.Hint) []command {
	for i := range hints {
		h := &hints[i]
		cmds = append(cmds, redis.NewStatusCmd(ctx, "set", sentKey(h.Key), packHint(h.Ref), "px", hintTTL.Milliseconds()))
	}
	return cmds
}

func packHint(r im.StoredRef) string {
	b := make([]byte, 0, 96)
	b = strconv.AppendUint(b, uint64(r.Seq), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(r.ID), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.StoredAt, 10)
	b = append(b, ' ')
	b = hex.AppendEncode(b, r.Hash[:])
	if r.Parked {
		b = append(b, " parked"...)
	}
	return string(b)
}

func unpackHint(s string) (im.StoredRef, bool) {
	var r im.StoredRef
	f := strings.Split(s, " ")
	if len(f) == 5 && f[4] == "parked" {
		r.Parked = true
		f = f[:4]
	}
	if len(f) != 4 {
		return r, false
	}
	seq, err1 := strconv.ParseUint(f[0], 10, 64)
	id, err2 := strconv.ParseUint(f[1], 10, 64)
	at, err3 := strconv.ParseInt(f[2], 10, 64)
	n, err4 := hex.Decode(r.Hash[:], []byte(f[3]))
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || n != len(r.Hash) {
		return r, false
	}
	r.Seq, r.ID, r.StoredAt = im.Seq(seq), im.MessageID(id), at
	return r, true
}
