package logic

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func TestAuth_VerifyWhileTheStoreIsAway(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	tk := register(t, a, "ann", "phone")
	verified(t, a, tk.AccessToken)
	r.setDown(im.ErrStore)
	r.advance(59 * time.Second)
	verified(t, a, tk.AccessToken)
	r.advance(2 * time.Second)
	_, err := a.Verify(t.Context(), tk.AccessToken)
	mustBe(t, "copy too old", err, im.ErrStore)
	_, err = a.Login(t.Context(), protocol.Login{Handle: "ann", Password: secret, Device: "phone"}, "192.0.2.1")
	mustBe(t, "login", err, im.ErrStore)
	r.setDown(nil)
	r.advance(breakerPause)
	verified(t, a, tk.AccessToken)
}

// A database that hangs costs one question a second, and not each request its time.
func TestAuth_VerifyWhileTheStoreHangs(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	b := newTestAuth(t, r, func(c *AuthConfig, _ *AuthDeps) { c.KeysFile, c.GenerateKeys = a.cfg.KeysFile, false })
	tk := register(t, a, "ann", "phone")
	verified(t, b, tk.AccessToken)
	change := protocol.ChangePassword{OldPassword: secret, NewPassword: secret + "2"}
	if err := a.ChangePassword(t.Context(), verified(t, a, tk.AccessToken), change); err != nil {
		t.Fatal(err)
	}
	back, err := a.Login(t.Context(), protocol.Login{Handle: "ann", Password: secret + "2", Device: "phone"}, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	r.advance(stateFresh + time.Millisecond)
	r.setDown(context.DeadlineExceeded)
	asked := r.asked
	for range 10 {
		verified(t, a, back.AccessToken)
	}
	if r.asked != asked+1 {
		t.Errorf("asked %d times", r.asked-asked)
	}
	_, err = b.Verify(t.Context(), back.AccessToken) // b's copy is older than the token
	mustBe(t, "a token that this process cannot know", err, im.ErrStore)
}

func TestAuth_BannedAndDeletedUsersTokensEnd(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	ann, bob := register(t, a, "ann", "phone"), register(t, a, "bob", "phone")
	r.accounts["ann"].Active = false
	delete(r.accounts, "bob")
	r.advance(stateFresh + time.Millisecond)
	_, err := a.Verify(t.Context(), ann.AccessToken)
	mustBe(t, "banned", err, im.ErrUnauthenticated)
	_, err = a.Verify(t.Context(), bob.AccessToken)
	mustBe(t, "deleted", err, im.ErrUnauthenticated)
}

func TestAuth_OneQuestionForManyVerifications(t *testing.T) {
	r := newRegistry()
	a := newTestAuth(t, r)
	tk := register(t, a, "ann", "phone")
	r.advance(stateFresh + time.Millisecond)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { verified(t, a, tk.AccessToken) })
	}
	wg.Wait()
	if r.asked < 1 || r.asked > 5 {
		t.Errorf("the store was asked %d times", r.asked)
	}
}
