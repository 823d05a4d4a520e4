// Command picture draws what scripts/bench measured, as SVG files: a picture for each
// curve of -growth, and one of Curlew beside its peers.
//
//	go run ./scripts/bench/picture -json FILE -out DIR
//
// FILE holds the lines that scripts/bench -json has appended; where several have the same
// curve or scenario, the last one counts. The pictures are plain text with a style sheet
// that follows a reader's dark or light page, which the plotting libraries for Go do not
// write; so none is used.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	in := flag.String("json", "", "file of lines as scripts/bench -json appends them")
	out := flag.String("out", ".", "folder of the pictures")
	flag.Parse()
	names, err := run(*in, *out)
	for _, name := range names {
		fmt.Println(name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

// run writes the pictures and returns their names.
func run(in, out string) (names []string, err error) {
	f, err := os.Open(in)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", in, err)
	}
	pictures := make(map[string]string)
	for name, c := range m.curves {
		if len(c.Points) > 1 {
			pictures["growth-"+name] = drawCurve(c)
		}
	}
	if ours := besidePeers(m.results); len(ours) > 0 {
		pictures["peers"] = drawPeers(ours)
	}
	if len(pictures) == 0 {
		return nil, fmt.Errorf("%s has no curve of two points, and no scenario that peers were measured in", in)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	for name, svg := range pictures {
		name = filepath.Join(out, name+".svg")
		if err := os.WriteFile(name, []byte(svg), 0o644); err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}
