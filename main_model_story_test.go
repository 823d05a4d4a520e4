package main

import (
	"testing"
	"time"

	"github.com/curlew-im/curlew/scripts/devtest"
)

// What searches have found is played again, made small.
func TestModel_StoriesThatSearchesFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]drama{
		"a reaction to what one deleted before the device began": {2, []step{
			{"say", 0, 0, 0}, {"ack", 0, 0, 3}, {"delete", 0, 0, 0}, {"connect", 0, 0, 0}, {"react", 1, 0, 0},
		}},
		"and to what one deletes while the device is away": {2, []step{
			{"say", 0, 0, 0}, {"connect", 0, 0, 0}, {"drop", 0, 0, 0}, {"delete", 0, 0, 0}, {"react", 1, 0, 0}, {"connect", 0, 0, 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := devtest.Start(t)
			md := &mode{stack: s, e: startEngine(t, s, lenient)}
			if why := md.play(c, 10*time.Second); why != "" {
				t.Error(why)
			}
		})
	}
}
