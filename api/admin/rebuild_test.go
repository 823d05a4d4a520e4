package admin

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

type rebuilds struct {
	users []im.UserID
	walk  im.RebuildProgress
	err   error
}

func newRebuilds() *rebuilds { return &rebuilds{} }

func (r *rebuilds) HandleID(_ context.Context, handle string) (im.UserID, error) {
	if handle != "ada" {
		return 0, im.ErrNotFound
	}
	return 7, nil
}

func (r *rebuilds) RebuildUser(_ context.Context, u im.UserID) error {
	if r.err == nil {
		r.users = append(r.users, u)
	}
	return r.err
}

func (r *rebuilds) RebuildAll(context.Context) (im.RebuildProgress, error) {
	if r.walk.Running() {
		return im.RebuildProgress{}, im.ErrConflict
	}
	r.walk = im.RebuildProgress{StartedAt: 1_700_000_000_000, Last: 90}
	return r.walk, nil
}

func (r *rebuilds) Progress() im.RebuildProgress { return r.walk }

func TestRebuild_OfOneUserByIDOrHandle(t *testing.T) {
	s, g := newServer(t, Config{})
	r := s.deps.Rebuilds.(*rebuilds)
	for _, body := range []string{`{"user":"12"}`, `{"user":"ada"}`, `{"user":"@ada"}`} {
		if w := ask(t, s, "POST", "/v1/admin/rebuild", body); w.Code != 200 {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	if fmt.Sprint(r.users) != "[12 7 7]" || g.set != 0 {
		t.Errorf("rebuilt %v, generations %d", r.users, g.set)
	}
	if w := ask(t, s, "POST", "/v1/admin/rebuild", `{"user":"nobody"}`); w.Code != 404 {
		t.Errorf("unknown: %d %s", w.Code, w.Body)
	}
	r.err = fmt.Errorf("dial 10.0.0.5: %w", im.ErrStore)
	if w := ask(t, s, "POST", "/v1/admin/rebuild", `{"user":"12"}`); w.Code != 503 || strings.Contains(w.Body.String(), "10.0") {
		t.Errorf("store away: %d %s", w.Code, w.Body)
	}
}

func TestRebuild_OfAllIsLazyUnlessEager(t *testing.T) {
	s, g := newServer(t, Config{})
	r := s.deps.Rebuilds.(*rebuilds)
	if w := ask(t, s, "POST", "/v1/admin/rebuild", `{"all":true}`); w.Code != 202 || g.set != 1 || r.walk.StartedAt != 0 {
		t.Fatalf("lazy: %d %s, %d generations", w.Code, w.Body, g.set)
	}
	if w := ask(t, s, "POST", "/v1/admin/rebuild", `{"all":true,"eager":true}`); w.Code != 202 || g.set != 2 || !strings.Contains(w.Body.String(), `"running":true`) {
		t.Fatalf("eager: %d %s", w.Code, w.Body)
	}
	r.walk.Users, r.walk.At = 40, 44
	if w := ask(t, s, "GET", "/v1/admin/rebuild", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"users":40`) {
		t.Errorf("progress: %d %s", w.Code, w.Body)
	}
	// A second walk would void what the first has done.
	if w := ask(t, s, "POST", "/v1/admin/rebuild", `{"all":true,"eager":true}`); w.Code != 409 || g.set != 2 {
		t.Errorf("while one walks: %d %s, %d generations", w.Code, w.Body, g.set)
	}
	g.err = im.ErrCache
	if w := ask(t, s, "POST", "/v1/admin/rebuild", `{"all":true}`); w.Code != 503 {
		t.Errorf("Redis away: %d %s", w.Code, w.Body)
	}
}

func TestRebuild_RefusesWhatItDoesNotUnderstand(t *testing.T) {
	s, g := newServer(t, Config{})
	for _, body := range []string{
		``, `{}`, `[]`, `nonsense`, `{"all":true,"user":"7"}`, `{"user":"7","eager":true}`, `{"all":"yes"}`,
		`{"all":true,"everything":true}`, `{"all":true}{"all":true}`,
	} {
		if w := ask(t, s, "POST", "/v1/admin/rebuild", body); w.Code != 400 {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	}
	if w := ask(t, s, "POST", "/v1/admin/rebuild", `{"user":"`+strings.Repeat("a", 70<<10)+`"}`); w.Code != 413 {
		t.Errorf("too large: %d", w.Code)
	}
	if r := s.deps.Rebuilds.(*rebuilds); len(r.users) != 0 || g.set != 0 {
		t.Errorf("something was done: %v, %d generations", r.users, g.set)
	}
}
