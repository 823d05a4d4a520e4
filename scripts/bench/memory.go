package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/curlew-im/curlew/logic/im"
)

// unitCosts are what one of each thing takes in the stores, bytes: what Redis has more after
// many of them, and what the tables' files and Kafka's logs hold. Keys are what one key of
// each kind takes by Redis's own account.
type unitCosts struct {
	Redis map[string]float64   `json:"redis_bytes"`
	MySQL map[string]float64   `json:"mysql_bytes_a_row"`
	Kafka map[string]float64   `json:"kafka_bytes_a_record"`
	Keys  map[string]keyWeight `json:"redis_keys"`
}

// keyWeight is of one kind of key.
type keyWeight struct {
	Keys    int     `json:"keys"`
	Bytes   float64 `json:"bytes"` // of one
	Expires bool    `json:"expires"`
}

// How many of each thing are made: enough that what else Redis does does not show.
const (
	memoryUsers    = 4000
	memoryUnread   = 20     // messages to each user that no device has acknowledged
	memoryMembers  = 100    // of each channel
	memoryMessages = 500000 // rows of messages
)

// memory makes users, sessions, conversations, unread messages and channels, one kind
// after the other, and looks at what the stores hold after each.
func (b *bench) memory(ctx context.Context) (Result, error) {
	u := unitCosts{Redis: make(map[string]float64), MySQL: make(map[string]float64), Kafka: make(map[string]float64)}
	start := b.costsNow(ctx)
	all, err := b.people(ctx, "memory", memoryUsers)
	if err != nil {
		return Result{}, err
	}
	at := b.engine.stores.redisUsed(ctx)
	took := func(what string, units int) {
		now := b.engine.stores.redisUsed(ctx)
		u.Redis[what] = float64(now-at) / float64(units)
		at = now
	}
	r, err := b.enter(ctx, all, nil)
	if err != nil {
		return Result{}, err
	}
	defer r.leave()
	peer := pairUp(r, all)
	took("connected user: session, profile, empty list", len(all))
	round := func(n int) error {
		want := r.received.Load() + int64(n*len(all))
		for range n {
			for _, t := range r.talkers {
				t.say(time.Now())
				_ = t.flush() // its reader sees the end
			}
			r.settle(ctx, want-int64((n-1)*len(all)))
			want += int64(len(all))
		}
		return r.problem()
	}
	if err := round(1); err != nil {
		return Result{}, err
	}
	b.engine.stores.expireHints(ctx)
	took("conversation in a user's list, with its first unread message and half of the conversation's own keys", len(all))
	if err := round(memoryUnread); err != nil {
		return Result{}, err
	}
	b.engine.stores.expireHints(ctx)
	took("further unread message", memoryUnread*len(all))
	faults := r.faults(func(t *talker) []*talker { return []*talker{peer[t]} })
	channels := len(all) / memoryMembers
	for i := range channels {
		conv, err := b.channel(ctx, all[i*memoryMembers:(i+1)*memoryMembers])
		if err != nil {
			return Result{}, err
		}
		if i == 0 {
			if err := b.engine.stores.fill(ctx, conv, all[0].user, memoryMessages); err != nil {
				return Result{}, err
			}
		}
	}
	took("channel in a member's list", channels*memoryMembers)
	if u.Keys, err = b.engine.stores.redisKeys(ctx); err != nil {
		return Result{}, err
	}
	if u.MySQL, err = b.engine.stores.rowSizes(ctx); err != nil {
		return Result{}, err
	}
	if u.Kafka["realtime"], err = b.engine.stores.logSize("realtime", (memoryUnread+1)*len(all)); err != nil {
		return Result{}, err
	}
	res := b.result("memory", "user", start, b.costsNow(ctx), int64(len(all)), hdrhistogram.New(1, 2, 1))
	res.Setting = fmt.Sprintf("%d users, %d unread each, channels of %d, %d messages of %d bytes", len(all), memoryUnread+1, memoryMembers, memoryMessages, textBytes)
	res.Faults, res.Weights = faults, &u
	return res, nil
}

func (u *unitCosts) print(w io.Writer) {
	for _, part := range []struct {
		store string
		units map[string]float64
	}{{"Redis, bytes", u.Redis}, {"MySQL, bytes a row with its keys", u.MySQL}, {"Kafka, bytes a record", u.Kafka}} {
		for _, name := range byName(part.units) {
			fmt.Fprintf(w, "  %s: %s %.0f\n", part.store, name, part.units[name])
		}
	}
	for _, kind := range byName(u.Keys) {
		k := u.Keys[kind]
		fmt.Fprintf(w, "  key %s: %d of %.0f bytes, expires %v\n", kind, k.Keys, k.Bytes, k.Expires)
	}
}

// redisUsed is what Redis has allocated, bytes.
func (s *stores) redisUsed(ctx context.Context) int64 {
	for line := range strings.Lines(s.redis.Info(ctx, "memory").Val()) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}

// expireHints ends what lives two minutes: it is a matter of the rate, not of how many there
// are of anything.
func (s *stores) expireHints(ctx context.Context) {
	for it := s.redis.Scan(ctx, 0, "im:*:sent:*", 1000).Iterator(); it.Next(ctx); {
		s.redis.Unlink(ctx, it.Val())
	}
}

var (
	keyUser = regexp.MustCompile(`\{u\d+\}`)
	keyConv = regexp.MustCompile(`[cd]\d+(-\d+)?`)
	keyHash = regexp.MustCompile(`(:sent:|:node:)\S+$`)
	keyCups = regexp.MustCompile(`\{[^{}]*\}:limit`)
)

// redisKeys weighs the keys of each kind.
func (s *stores) redisKeys(ctx context.Context) (map[string]keyWeight, error) {
	kinds := make(map[string]keyWeight)
	it := s.redis.Scan(ctx, 0, "im:*", 1000).Iterator()
	for it.Next(ctx) {
		kind := keyCups.ReplaceAllString(keyHash.ReplaceAllString(it.Val(), "$1…"), "{bucket}:limit")
		kind = keyConv.ReplaceAllString(keyUser.ReplaceAllString(kind, "{user}"), "conv")
		k := kinds[kind]
		bytes := float64(s.redis.MemoryUsage(ctx, it.Val()).Val())
		k.Bytes = (k.Bytes*float64(k.Keys) + bytes) / float64(k.Keys+1)
		k.Keys++
		k.Expires = k.Expires || s.redis.PTTL(ctx, it.Val()).Val() > 0
		kinds[kind] = k
	}
	return kinds, it.Err()
}

// rowSizes is what a row takes in each table with enough of them, with all its keys.
func (s *stores) rowSizes(ctx context.Context) (map[string]float64, error) {
	rows, err := s.admin.QueryContext(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = ?", s.database)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			return nil, err
		}
		tables = append(tables, table)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	sizes := make(map[string]float64)
	for _, table := range tables {
		var n, bytes float64
		name := s.database + "." + table
		if err := s.admin.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+name).Scan(&n); err != nil {
			return nil, err
		}
		if n < 1000 {
			continue
		}
		if _, err := s.admin.ExecContext(ctx, "ANALYZE TABLE "+name); err != nil { // or its size is an old guess
			return nil, err
		}
		if err := s.admin.QueryRowContext(ctx, "SELECT data_length + index_length FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
			s.database, table).Scan(&bytes); err != nil {
			return nil, err
		}
		sizes[table] = bytes / n
	}
	return sizes, nil
}

// logSize is what a record of a topic takes on the broker's disk.
func (s *stores) logSize(lane im.Lane, records int) (float64, error) {
	var bytes int64
	dirs, err := filepath.Glob(filepath.Join(s.services.Data, "kafka", "data", s.database+"."+string(lane)+"-*"))
	for _, dir := range dirs {
		err = errors.Join(err, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".log" {
				return err
			}
			info, err := d.Info()
			if err == nil {
				bytes += info.Size()
			}
			return err
		}))
	}
	return float64(bytes) / float64(records), err
}
