package main

import (
	"os"
	"testing"
)

// A tooth whose text is no longer in the sources bites nothing: it is to be set anew.
func TestTeeth_Apply(t *testing.T) {
	root, err := projectRoot()
	if err != nil {
		t.Fatal(err)
	}
	all, err := readTeeth()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		if _, err := x.seed(root); err != nil {
			t.Error(err)
		}
		for _, name := range x.faults {
			if _, err := named(name); err != nil {
				t.Errorf("%s: %v", x.name, err)
			}
		}
	}
}

// Each seeded bug is found. It takes minutes, and real stores.
func TestTeeth_Bite(t *testing.T) {
	if os.Getenv("CURLEW_FAULTS_TEETH") == "" {
		t.Skip("CURLEW_FAULTS_TEETH is not set")
	}
	f := flags{teeth: true, quick: true}
	if failed, err := f.main(t.Context()); failed || err != nil {
		t.Errorf("not every seeded bug was found: %v", err)
	}
}
