package main

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/curlew-im/curlew/scripts/replay/corpus"
)

// What the logs leave out of who is there: quits, and in the later years joins. Who is
// heard without having joined joins before it; about half are taken out lingers lines
// after they were last heard of.
const (
	lingers  = 100
	fromHome = 50 // who is heard within the first events without joining was there before
)

// stepKind is what happens in a channel, one after another.
type stepKind int

const (
	stepSay stepKind = iota
	stepAdd
	stepRemove // by the owner
	stepLeave  // by themselves
	stepRename
)

// step is one event of a channel.
type step struct {
	kind stepKind
	who  []string // keys of people; one, but for stepAdd
	text string   // said, or the new name
}

// channelScript is what one file comes to: a channel of its own.
type channelScript struct {
	name  string   // the file's, without its ending
	home  []string // members from the beginning
	steps []step
}

// groupScript is what the logs come to as one group.
type groupScript struct {
	channels []channelScript
	people   []string          // keys, in the order of their appearance
	nicks    map[string]string // by key: the name they appear with
	messages int
}

// readScript reads every *.log of dir; what is said in it are the messages of corpus.Read,
// of each file at most perFile (0: all). People are the same in all files by their nick,
// but who takes part in a renaming is somebody of that file alone: a name is then theirs
// for a while only.
func readScript(dir fs.FS, perFile int) (*groupScript, error) {
	names, err := fs.Glob(dir, "*.log")
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	slices.Sort(names)
	speakers, _, err := corpus.Read(dir)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, nick := range speakers {
		known[nick] = true
	}
	s := &groupScript{nicks: map[string]string{}}
	for _, name := range names {
		events, err := readEvents(dir, name, known, perFile)
		if err != nil {
			return nil, err
		}
		ch := channelScript{name: strings.TrimSuffix(path.Base(name), ".log")}
		s.identify(ch.name, events)
		ch.play(events)
		for _, st := range ch.steps {
			if st.kind == stepSay {
				s.messages++
			}
		}
		s.channels = append(s.channels, ch)
	}
	return s, nil
}

// event is one line of a log.
type event struct {
	kind stepKind // stepSay, stepAdd: joined, stepLeave, stepRename
	who  string   // nick, then key
	text string   // said, or the new nick
}

func readEvents(dir fs.FS, name string, known map[string]bool, perFile int) (events []event, err error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path.Base(name), err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 64<<10), 1<<20)
	for said := 0; sc.Scan(); {
		e, ok := parseEvent(sc.Text())
		if !ok {
			continue
		}
		if e.kind == stepSay {
			if to, ok := corpus.Addressee(e.text); !ok || !known[to] || to == e.who {
				continue
			}
			if said++; perFile > 0 && said > perFile {
				break
			}
		}
		events = append(events, e)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path.Base(name), err)
	}
	return events, nil
}

// parseEvent reads what was said, joins, leaves and renames; everything else is no event.
func parseEvent(l string) (event, bool) {
	if nick, text, ok := corpus.Said(l); ok {
		return event{stepSay, nick, text}, true
	}
	f := strings.Fields(l)
	if len(f) < 4 || f[0] != "===" {
		return event{}, false
	}
	switch rest := strings.Join(f[2:], " "); {
	case strings.HasPrefix(rest, "has joined"):
		return event{stepAdd, f[1], ""}, true
	case strings.HasPrefix(rest, "has left"):
		return event{stepLeave, f[1], ""}, true
	case strings.HasPrefix(rest, "is now known as ") && len(f) == 7:
		return event{stepRename, f[1], f[6]}, true
	}
	return event{}, false
}

// identify turns the nicks of one file's events into keys of people.
func (s *groupScript) identify(file string, events []event) {
	renamed := map[string]bool{}
	for _, e := range events {
		if e.kind == stepRename {
			renamed[e.who], renamed[e.text] = true, true
		}
	}
	holder := map[string]string{} // nick → key, of those who are renamed
	count := 0
	for i := range events {
		e := &events[i]
		nick, key := e.who, e.who
		if renamed[nick] {
			if holder[nick] == "" {
				count++
				holder[nick] = fmt.Sprintf("%s/%d", file, count)
			}
			key = holder[nick]
		}
		e.who = key
		if e.kind == stepRename {
			delete(holder, nick)
			holder[e.text] = key
		}
		if _, known := s.nicks[key]; !known {
			s.nicks[key] = nick
			s.people = append(s.people, key)
		}
	}
}

// play works out who is a member when.
func (c *channelScript) play(events []event) {
	last, first := map[string]int{}, map[string]int{}
	for i, e := range events {
		if _, seen := first[e.who]; !seen {
			first[e.who] = i
			if e.kind != stepAdd && i < fromHome {
				c.home = append(c.home, e.who)
			}
		}
		last[e.who] = i
	}
	goes := map[int]string{}
	for who, i := range last {
		if even(who) {
			goes[i+lingers] = who
		}
	}
	in := map[string]bool{}
	for _, who := range c.home {
		in[who] = true
	}
	for i, e := range events {
		if who := goes[i]; who != "" && in[who] {
			c.steps = append(c.steps, step{kind: stepRemove, who: []string{who}})
			delete(in, who)
		}
		switch {
		case e.kind == stepAdd && in[e.who]: // came back, and nobody has logged that they went
			if first[e.who] == i {
				continue
			}
			c.steps = append(c.steps, step{kind: stepRemove, who: []string{e.who}})
			c.add(e.who)
		case e.kind == stepLeave && !in[e.who]:
			continue
		case !in[e.who]:
			c.add(e.who)
			in[e.who] = true
		}
		switch e.kind {
		case stepLeave:
			c.steps = append(c.steps, step{kind: stepLeave, who: []string{e.who}})
			delete(in, e.who)
		case stepSay, stepRename:
			c.steps = append(c.steps, step{kind: e.kind, who: []string{e.who}, text: e.text})
		}
	}
}

// add lets somebody in, together with those who came right before.
func (c *channelScript) add(who string) {
	if n := len(c.steps); n > 0 && c.steps[n-1].kind == stepAdd && len(c.steps[n-1].who) < 20 {
		c.steps[n-1].who = append(c.steps[n-1].who, who)
		return
	}
	c.steps = append(c.steps, step{kind: stepAdd, who: []string{who}})
}

func even(key string) bool {
	h := fnv.New32a()
	h.Write([]byte(key))
	return h.Sum32()%2 == 0
}
