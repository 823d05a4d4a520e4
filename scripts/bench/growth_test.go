package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestThreads_AmongPeopleAreAllDifferent(t *testing.T) {
	for _, people := range []int{3, 4, 7, 10} {
		all := make([]person, people)
		for i := range all {
			all[i].user = im.UserID(i + 1)
		}
		seen, each := make(map[im.ConversationID]bool), make(map[im.UserID]int)
		for _, th := range threadsAmong(all, mostThreads(people)) {
			if th.ends[0] == th.ends[1] || seen[th.id()] {
				t.Errorf("%d people: %s comes up twice, or is with oneself", people, th.id())
			}
			seen[th.id()] = true
			each[th.ends[0]]++
			each[th.ends[1]]++
		}
		for u, n := range each {
			if n != each[1] {
				t.Errorf("%d people: user %d has %d conversations, user 1 has %d", people, u, n, each[1])
			}
		}
	}
}

func TestGrowth_WhatIsAskedForIsRead(t *testing.T) {
	if all, err := growingOf("all"); err != nil || len(all) != len(everything) {
		t.Errorf("all: %d, %v", len(all), err)
	}
	some, err := growingOf("rows:10000:20000,partitions")
	if err != nil || len(some) != 2 || !slices.Equal(some[0].at, []int{10000, 20000}) || len(some[1].at) != 6 {
		t.Errorf("%+v, %v", some, err)
	}
	for _, wrong := range []string{"", "row", "rows:", "rows:x", "rows:0", "rows:-1"} {
		if _, err := growingOf(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestCurve_IsATableOfItsPoints(t *testing.T) {
	point := func(x int, cpu float64) Point {
		return Point{x, Result{Unit: "message", Costs: Costs{
			ServerCPU: cpu, CPU: map[string]float64{"jobs": cpu / 2, "redis": cpu / 4}, Bytes: map[string]float64{"redis": 1234},
		}}}
	}
	var b strings.Builder
	Curve{Name: "rows", Axis: "rows", Points: []Point{point(10, 80), point(1000, 100)}}.print(&b)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines:\n%s", len(lines), b.String())
	}
	if f := strings.Fields(lines[1]); !slices.Equal(f[:4], []string{"rows", "server", "jobs", "redis"}) {
		t.Errorf("head: %v", f)
	}
	if f := strings.Fields(lines[3]); !slices.Equal(f[:4], []string{"1000", "100.0", "50.0", "25.0"}) {
		t.Errorf("row: %v", f)
	}
}
