package storage

import (
	"context"

	"github.com/curlew-im/curlew/logic/im"
)

// Accounts is the DB's users together with the copies of their profiles: what changes
// a profile drops its copies. Where Redis is away the change stands all the same and
// other processes see it when their copy ends (Profiles.Forget).
type Accounts struct {
	*DB
	profiles *Profiles
}

// NewAccounts makes Accounts over the record and its copies.
func NewAccounts(db *DB, p *Profiles) *Accounts { return &Accounts{db, p} }

// UpdateProfile changes what is not nil and drops cached copies.
func (a *Accounts) UpdateProfile(ctx context.Context, u im.UserID, nickname, avatar *string) (im.Profile, error) {
	p, err := a.DB.UpdateProfile(ctx, u, nickname, avatar)
	if err == nil {
		_ = a.profiles.Forget(ctx, u)
	}
	return p, err
}

// UpsertExternal creates or updates users known by external ID and drops cached copies.
func (a *Accounts) UpsertExternal(ctx context.Context, users []im.ExternalUser) ([]im.Profile, error) {
	made, err := a.DB.UpsertExternal(ctx, users)
	if err == nil {
		ids := make([]im.UserID, len(made))
		for i, p := range made {
			ids[i] = p.ID
		}
		_ = a.profiles.Forget(ctx, ids...)
	}
	return made, err
}
