// Package corpus reads the chat logs of the Ubuntu IRC corpus, for what plays them.
package corpus

import (
	"bufio"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
)

// Line is one said line of a log that is read as a one-to-one message.
type Line struct {
	From, To string // nicks
	Text     string // whole, the name it begins with included
}

// Read reads every *.log of dir in name order and returns the speakers and the
// one-to-one messages in the log's order: a said line whose text begins with the name
// of a speaker of any file, in its exact case, then ':' or ','. Those to oneself are
// left out.
func Read(dir fs.FS) (speakers []string, messages []Line, err error) {
	names, err := fs.Glob(dir, "*.log")
	if err != nil {
		return nil, nil, fmt.Errorf("list logs: %w", err)
	}
	sort.Strings(names)
	type said struct{ nick, text string }
	var all []said
	known := map[string]bool{}
	for _, name := range names {
		f, err := dir.Open(name)
		if err != nil {
			return nil, nil, fmt.Errorf("open %s: %w", path.Base(name), err)
		}
		sc := bufio.NewScanner(f)
		sc.Buffer(make([]byte, 64<<10), 1<<20)
		for sc.Scan() {
			nick, text, ok := Said(sc.Text())
			if !ok {
				continue
			}
			if !known[nick] {
				known[nick] = true
				speakers = append(speakers, nick)
			}
			all = append(all, said{nick, text})
		}
		f.Close()
		if err := sc.Err(); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", path.Base(name), err)
		}
	}
	for _, s := range all {
		if to, ok := Addressee(s.text); ok && known[to] && to != s.nick {
			messages = append(messages, Line{From: s.nick, To: to, Text: s.text})
		}
	}
	return speakers, messages, nil
}

// Addressee is the name that a text begins with.
func Addressee(text string) (string, bool) {
	end := strings.IndexAny(text, ":,")
	if end <= 0 {
		return "", false
	}
	return text[:end], true
}

// Said takes apart "[03:57] <nick> text"; the text follows exactly one space.
func Said(l string) (nick, text string, ok bool) {
	if len(l) < 8 || l[0] != '[' || l[6] != ']' || !strings.HasPrefix(l[7:], " <") {
		return "", "", false
	}
	rest := l[9:]
	end := strings.IndexByte(rest, '>')
	if end <= 0 || !strings.HasPrefix(rest[end+1:], " ") {
		return "", "", false
	}
	return rest[:end], rest[end+2:], true
}
