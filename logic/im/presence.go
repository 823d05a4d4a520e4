package im

import (
	"strconv"
	"strings"
)

// MaxPresenceAsked bounds the users of one question about presence, MaxWatched those
// that one connection is told about: beyond it the one asked for longest ago goes.
const (
	MaxPresenceAsked = 200
	MaxWatched       = 1000
)

// Presence is what a user's sessions say at one moment. It is read from them each
// time and never counted, so that nothing can go wrong for longer than a session's
// lease.
type Presence struct {
	User      UserID
	Online    bool
	Platforms []string // of the connected devices, sorted, each once
	SeenAt    int64    // when offline since, Unix milliseconds; 0: not known, or online
	Nodes     []NodeID // that hold the sessions
}

// State tells two presences apart as watchers see them; offline is "".
func (p *Presence) State() string {
	if !p.Online {
		return ""
	}
	return "+" + strings.Join(p.Platforms, ",")
}

// RouteChange is what entering, renewing or removing sessions has led to.
type RouteChange struct {
	// Replaced are other sessions that must end: a newer one has taken their place.
	Replaced []SessionRef
	// Refused are those of the given sessions that have no place. When they were to be
	// entered the user has too many; when they were renewed a newer one has theirs.
	Refused []SessionRef
	// Watchers are the nodes to tell that the presence of users may have changed.
	Watchers map[NodeID][]UserID
	// Lapsed says, of a renewal, that the node had no lease since the last one: it may
	// have been taken out of its rooms, and enters all of them anew.
	Lapsed bool
}

// DevicePolicy says which devices of a user may be connected at the same time.
type DevicePolicy string

const (
	DevicesAll            DevicePolicy = "all"
	DevicesOnePerPlatform DevicePolicy = "one_per_platform" // devices that name none count as one platform
	DevicesOne            DevicePolicy = "one"
)

// Validate accepts the three there are.
func (p DevicePolicy) Validate() error {
	switch p {
	case DevicesAll, DevicesOnePerPlatform, DevicesOne:
		return nil
	}
	return Invalid("device_policy", strconv.Quote(string(p))+" is none of all, one_per_platform, one")
}

// Revocation is what open sessions must learn though every push of it is lost.
type Revocation struct {
	ID   uint64
	User UserID
	// Device's sessions below DeviceVersion end; where it is empty, all of the user's
	// below TokenVersion.
	Device        DeviceID
	TokenVersion  uint32
	DeviceVersion uint32
	// Hidden, where set, is whom the user sees no longer; no session ends.
	Hidden UserID
}

// Ends says whether r ends a session of r.User.
func (r *Revocation) Ends(who *Identity) bool {
	switch {
	case r.Hidden != 0:
		return false
	case r.Device == "":
		return who.TokenVersion < r.TokenVersion
	}
	return who.Device == r.Device && who.DeviceVersion < r.DeviceVersion
}

// DeviceSeen is when a device was last connected.
type DeviceSeen struct {
	User   UserID
	Device DeviceID
	At     int64 // Unix milliseconds
}
