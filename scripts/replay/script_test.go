package main

import (
	"os"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/curlew-im/curlew/scripts/replay/corpus"
)

// What the excerpt comes to is consistent: nobody speaks, leaves or is renamed who is
// not there, and nobody comes twice.
func TestReadScript_WhoActsIsThere(t *testing.T) {
	s, err := readScript(os.DirFS("testdata"), 0)
	if err != nil {
		t.Fatal(err)
	}
	_, direct, err := corpus.Read(os.DirFS("testdata"))
	if err != nil || len(direct) != s.messages || s.messages == 0 {
		t.Errorf("%d messages, %d directly (%v)", s.messages, len(direct), err)
	}
	count := map[stepKind]int{}
	for _, c := range s.channels {
		in := map[string]bool{}
		for _, who := range c.home {
			in[who] = true
		}
		for i, st := range c.steps {
			count[st.kind]++
			for _, who := range st.who {
				if s.nicks[who] == "" || in[who] != (st.kind != stepAdd) {
					t.Errorf("%s, step %d: %+v, there %v", c.name, i, st, in[who])
				}
				in[who] = st.kind != stepRemove && st.kind != stepLeave
			}
		}
	}
	for kind := stepSay; kind <= stepRename; kind++ {
		if count[kind] == 0 {
			t.Errorf("the excerpt has no step of kind %d", kind)
		}
	}
}

func TestReadScript_FollowsWhoIsRenamed(t *testing.T) {
	s, err := readScript(fstest.MapFS{"x.log": {Data: []byte(`=== ann  has joined #ubuntu
[03:57] <ann> bob: hello
[03:57] <bob> ann: hello
=== ann is now known as eve
[03:58] <eve> bob: it is me
=== ann  has joined #ubuntu
[03:59] <ann> eve: who are you?
=== bob  has joined #ubuntu
=== bob  has left #ubuntu ["bye"]
`)}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.people, []string{"x/1", "bob", "x/2"}) || s.nicks["x/1"] != "ann" || s.nicks["x/2"] != "ann" {
		t.Errorf("people %v, %v", s.people, s.nicks)
	}
	c := s.channels[0]
	want := []step{
		{stepAdd, []string{"x/1"}, ""}, {stepSay, []string{"x/1"}, "bob: hello"}, {stepSay, []string{"bob"}, "ann: hello"},
		{stepRename, []string{"x/1"}, "eve"}, {stepSay, []string{"x/1"}, "bob: it is me"},
		{stepAdd, []string{"x/2"}, ""}, {stepSay, []string{"x/2"}, "eve: who are you?"},
		{stepRemove, []string{"bob"}, ""}, {stepAdd, []string{"bob"}, ""}, {stepLeave, []string{"bob"}, ""},
	}
	if !slices.Equal(c.home, []string{"bob"}) || !slices.EqualFunc(c.steps, want, func(a, b step) bool {
		return a.kind == b.kind && a.text == b.text && slices.Equal(a.who, b.who)
	}) {
		t.Errorf("home %v, steps %+v", c.home, c.steps)
	}
}
