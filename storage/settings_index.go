package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/curlew-im/curlew/logic/im"
)

// openFor is how long a change of settings may be under way before readers take it for
// cut short and ask MySQL: more than every deadline on its way, and than clocks differ.
const openFor = 10 * time.Second

// settingsFields is how many numbers the settings hash keeps for a conversation, the
// version first.
const settingsFields = 6

// fieldOpen holds the changes that are under way (lua/settings_open.lua).
const fieldOpen = "~open"

// settingsRecord is what Settings asks of MySQL; *DB has it.
type settingsRecord interface {
	ChangeSettings(ctx context.Context, u im.UserID, c im.ConversationID, ch im.SettingsChange, doubtful bool) (im.SettingsRow, error)
	DeleteConversation(ctx context.Context, u im.UserID, c im.ConversationID, upTo im.Seq, doubtful bool) (im.SettingsRow, error)
	Drafts(ctx context.Context, u im.UserID, convs []im.ConversationID) (map[im.ConversationID]im.Draft, error)
}

// Settings is what users have set for their conversations: in MySQL, and all but the
// drafts' texts in the projection. No log repeats a change that was cut short between
// the two, so Redis is told before: it holds a note that the change is under way until
// the projection takes it away, and a note that is left over makes readers ask MySQL.
// Where Redis cannot be told, a doubt is noted with the change [S17].
type Settings struct {
	redis  *Redis
	record settingsRecord
}

// NewSettings makes Settings over Redis and the record (*DB).
func NewSettings(r *Redis, rec settingsRecord) *Settings { return &Settings{r, rec} }

// ChangeSettings changes what u has set for c and counts its version up. Returns
// im.ErrNotFound where u was never in c, im.ErrConflict where the settings are at
// another version than was expected, im.FullError where im.MaxPinned are pinned.
func (s *Settings) ChangeSettings(ctx context.Context, u im.UserID, c im.ConversationID, ch im.SettingsChange) (im.SettingsRow, error) {
	return s.settle(ctx, u, func(doubtful bool) (im.SettingsRow, error) {
		return s.record.ChangeSettings(ctx, u, c, ch, doubtful)
	})
}

// DeleteConversation deletes c for u up to a seq, at most the last. Returns
// im.ErrNotFound where u was never in c.
func (s *Settings) DeleteConversation(ctx context.Context, u im.UserID, c im.ConversationID, upTo im.Seq) (im.SettingsRow, error) {
	return s.settle(ctx, u, func(doubtful bool) (im.SettingsRow, error) {
		return s.record.DeleteConversation(ctx, u, c, upTo, doubtful)
	})
}

// Drafts returns u's drafts in conversations; one without is left out.
func (s *Settings) Drafts(ctx context.Context, u im.UserID, convs []im.ConversationID) (map[im.ConversationID]im.Draft, error) {
	return s.record.Drafts(ctx, u, convs)
}

func (s *Settings) settle(ctx context.Context, u im.UserID, write func(doubtful bool) (im.SettingsRow, error)) (im.SettingsRow, error) {
	note := rand.Text()[:12]
	now := time.Now()
	opCtx, done := s.redis.op(ctx, "settings_open")
	told := s.redis.exec(opCtx, eval(opCtx, openScript, []string{settingsKey(u)}, note, milli(now), milli(now.Add(openFor))))
	done()
	row, err := write(told != nil)
	var commit *commitError
	if told != nil || errors.As(err, &commit) {
		return row, err // what may have been committed is found by its note
	}
	ctx = context.WithoutCancel(ctx) // each step has its own deadline
	var settings []im.ConversationState
	if row.Changed {
		floor := []im.UserRaise{{User: u, State: im.ConversationState{Conversation: row.Conversation, Floor: row.Floor}}}
		if row.Floor > 0 && s.project(ctx, func(ctx context.Context) *redis.Cmd { return raise(ctx, u, floor, sealing{}) }) != nil {
			return row, err // the note stays: what it stands for is not all there
		}
		settings = append(settings, im.ConversationState{Conversation: row.Conversation, Settings: row.Settings})
	}
	_ = s.project(ctx, func(ctx context.Context) *redis.Cmd { return mergeSettings(ctx, u, settings, settling{note: note}) })
	return row, err
}

// project runs one step of a projection. Where it fails the change's note stays, so
// nothing more is to be done about it.
func (s *Settings) project(ctx context.Context, step func(context.Context) *redis.Cmd) error {
	ctx, done := s.redis.op(ctx, "settings")
	defer done()
	err := s.redis.exec(ctx, step(ctx))
	s.redis.gen.noteWrite()
	return err
}

// settling says what a merge of settings ends: a writer's note, or a rebuild.
type settling struct {
	note       string
	generation im.Generation // to seal with, in the last step
	began      time.Time     // the rebuild
	void       string        // as of sealing
}

// mergeSettings makes the script call for some of one user's conversations.
func mergeSettings(ctx context.Context, u im.UserID, convs []im.ConversationState, e settling) *redis.Cmd {
	args := make([]string, 4, 4+2*len(convs))
	args[0], args[1], args[2], args[3] = string(e.generation), e.note, "0", "-"
	if !e.began.IsZero() {
		args[2], args[3] = milli(e.began), e.void
	}
	for _, c := range convs {
		args = append(args, string(c.Conversation), packSettings(c.Settings))
	}
	return eval(ctx, settingsScript, []string{stateKey(u), settingsKey(u), versKey(u)}, args...)
}

// rebuildSettings completes a user's settings and seals them.
func (x *Index) rebuildSettings(ctx context.Context, u im.UserID, gen im.Generation, began time.Time, void string, states []im.ConversationState) error {
	var set []im.ConversationState
	for _, s := range states {
		if s.Settings.Version > 0 {
			set = append(set, s)
		}
	}
	for last := false; !last; {
		step := set[:min(len(set), raiseConvs)]
		set = set[len(step):]
		e := settling{began: began, void: void}
		if last = len(set) == 0; last {
			e.generation = gen
		}
		opCtx, done := x.redis.op(ctx, "rebuild_settings")
		cmd := mergeSettings(opCtx, u, step, e)
		err := x.redis.exec(opCtx, cmd)
		done()
		switch {
		case dropped(cmd):
			return errDropped
		case err != nil:
			return fmt.Errorf("rebuild settings of user %s: %w", u, cacheError(err))
		}
	}
	return nil
}

// trustSettings says whether settings with that seal and those open changes are
// complete under gen: errUntrusted, or errOverdue where they are but for a change that
// was cut short.
func trustSettings(gen im.Generation, seal, open string) error {
	switch {
	case seal != string(gen):
		return errUntrusted
	case overdue(open, time.Now()):
		return errOverdue
	}
	return nil
}

// overdue says that a change was begun and has not been projected in time.
func overdue(open string, now time.Time) bool {
	for open != "" {
		var due string
		_, open, _ = strings.Cut(open, " ")
		due, open, _ = strings.Cut(open, " ")
		if parseNumber(due) <= uint64(now.UnixMilli()) {
			return true
		}
	}
	return false
}

// addSettings puts the settings hash into the states it belongs to, and says what
// trustSettings does.
func addSettings(hash []string, gen im.Generation, all map[im.ConversationID]im.ConversationState) error {
	var seal, open string
	for ; len(hash) >= 2; hash = hash[2:] {
		switch hash[0] {
		case fieldSeal:
			seal = hash[1]
			continue
		case fieldOpen:
			open = hash[1]
			continue
		}
		// One that the list does not have yet is of a conversation just begun.
		if state, ok := all[im.ConversationID(hash[0])]; ok {
			var err error
			if state.Settings, err = unpackSettings(hash[1]); err != nil {
				return err
			}
			all[state.Conversation] = state
		}
	}
	return trustSettings(gen, seal, open)
}

func packSettings(s im.Settings) string {
	all := [settingsFields]uint64{s.Version, uint64(s.PinnedAt), uint64(s.MutedUntil), uint64(s.Marked), uint64(s.Hidden), uint64(s.DraftAt)}
	return string(appendNumbers(make([]byte, 0, 96), all[:]))
}

// unpackSettings returns errUntrusted for what packSettings did not make; "" is none.
func unpackSettings(packed string) (s im.Settings, err error) {
	if packed == "" {
		return s, nil
	}
	var n [settingsFields]uint64
	if count, ok := unpackNumbers(n[:], packed); !ok || count != len(n) {
		return s, fmt.Errorf("%w: settings %q", errUntrusted, packed)
	}
	return im.Settings{Version: n[0], PinnedAt: int64(n[1]), MutedUntil: int64(n[2]), Marked: im.Seq(n[3]), Hidden: im.Seq(n[4]), DraftAt: int64(n[5])}, nil
}

func milli(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
