package main

import (
	"runtime"
	"testing"
	"time"

	"github.com/curlew-im/curlew/scripts/devtest"
)

// What a crowd left behind is not kept: neither garbage nor free pages.
func TestMemory_QuietProcessGivesBack(t *testing.T) {
	rubbish := make([][]byte, 64)
	for i := range rubbish {
		rubbish[i] = make([]byte, 1<<20)
	}
	was := heapNow()
	if was.objects < 64<<20 || was.waste() < was.free {
		t.Fatalf("%+v", was)
	}
	runtime.KeepAlive(rubbish)
	go giveBack(t.Context(), time.Millisecond)
	devtest.Eventually(t, "the rubbish is gone, and its pages", func() bool { return heapNow().objects < was.objects-60<<20 && heapNow().waste() < 16<<20 })
}
