package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// linkFaults are of the network between a role and a store, both processes of the role at
// once.
var linkFaults = []fault{
	{name: "F21", about: "a role and a store lose each other: cut, silent or half-closed", full: 20, hold: 5 * time.Second,
		healed: true, membership: true, linked: true, inject: part},
	{name: "F31", about: "MySQL answers 200 ms late", full: 3, hold: 10 * time.Second, healed: true, linked: true, inject: slowRecord},
}

// part takes one role and one store from each other.
func part(_ context.Context, c *cluster) (func(context.Context) error, error) {
	store := []string{"redis", "mysql"}[rand.IntN(2)]
	role := roles[rand.IntN(len(roles))]
	if store == "mysql" && role == "connector" { // it has none
		role = "jobs"
	}
	k := c.link(role, store)
	how := []func(){k.cut, k.freeze, k.halve}[rand.IntN(3)]
	how()
	return func(context.Context) error { k.heal(); return nil }, nil
}

func slowRecord(_ context.Context, c *cluster) (func(context.Context) error, error) {
	var all []*link
	for _, role := range roles {
		all = append(all, c.link(role, "mysql"))
	}
	for _, k := range all {
		k.slow(200 * time.Millisecond)
	}
	return func(context.Context) error {
		for _, k := range all {
			k.slow(0)
		}
		return nil
	}, nil
}
