package main

import "testing"

// The engine of F5 is the present one with a few lines more: where what they follow has
// changed, it is to be said before a run.
func TestPoints_FitTheEngine(t *testing.T) {
	root, err := projectRoot()
	if err != nil {
		t.Fatal(err)
	}
	files, err := withPoints(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(pointEdits)+1 {
		t.Errorf("%d files", len(files))
	}
}
