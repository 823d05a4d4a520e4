package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/curlew-im/curlew/configs"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

const words = "mask: heck\nreject: forbidden\n"

// inputEngine is an engine with a word list, and three people on it.
func inputEngine(t *testing.T) (e *engine, ada, bob, eve *person) {
	t.Helper()
	list := filepath.Join(t.TempDir(), "words.txt")
	if err := os.WriteFile(list, []byte(words), 0o600); err != nil {
		t.Fatal(err)
	}
	e = startEngine(t, devtest.Start(t), func(c *configs.Config) { c.Logic.WordsFile = list })
	p := enrol(t, e.http, e.socket, "ada", "bob", "eve")
	return e, p[0], p[1], p[2]
}

// onlyGood fails the test unless the conversation holds what was sent between the bad
// ones, and no more.
func onlyGood(t *testing.T, reader *person, conv im.ConversationID, good []string) {
	t.Helper()
	devtest.Eventually(t, "what was good is stored", func() bool { return len(reader.history(conv)) >= len(good) })
	var got []string
	for _, m := range reader.history(conv) {
		got = append(got, textOf(m))
	}
	equal(t, "the history", got, good)
}
