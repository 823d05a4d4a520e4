package main

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// colours tell lines and bars apart on a dark page and on a light one alike.
var colours = []string{"#d1495b", "#2e86c1", "#c78a00", "#2a9d6f", "#8e6fc1", "#d0698f", "#5f8a8b", "#9a7b4f"}

// canvas is a picture that is being written. Lengths are px.
type canvas struct {
	b strings.Builder
}

func newCanvas(width, height float64, title string) *canvas {
	c := &canvas{}
	fmt.Fprintf(&c.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" font-family="system-ui,sans-serif" font-size="12">
<title>%s</title>
<style>
text { fill: #333 } .faint { fill: #6a6a6a } .grid { stroke: #888; stroke-opacity: .25 } .title { font-weight: 600 } .ours { font-weight: 700 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .faint { fill: #a0a0a0 } }
</style>
`, width, height, width, height, html.EscapeString(title))
	return c
}

func (c *canvas) text(x, y float64, anchor, class, s string) {
	fmt.Fprintf(&c.b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">%s</text>\n", x, y, anchor, class, html.EscapeString(s))
}

// label is a text in a colour of its own.
func (c *canvas) label(x, y float64, colour, s string) {
	fmt.Fprintf(&c.b, "<text x=\"%.1f\" y=\"%.1f\" style=\"fill:%s\">%s</text>\n", x, y, colour, html.EscapeString(s))
}

func (c *canvas) grid(x1, y1, x2, y2 float64) {
	fmt.Fprintf(&c.b, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"grid\"/>\n", x1, y1, x2, y2)
}

func (c *canvas) line(xs, ys []float64, colour string, width float64) {
	var at []string
	for i := range xs {
		at = append(at, fmt.Sprintf("%.1f,%.1f", xs[i], ys[i]))
	}
	fmt.Fprintf(&c.b, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%g\"/>\n", strings.Join(at, " "), colour, width)
	for i := range xs {
		fmt.Fprintf(&c.b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" fill=\"%s\"/>\n", xs[i], ys[i], width+1, colour)
	}
}

func (c *canvas) bar(x, y, width, height float64, colour string) {
	fmt.Fprintf(&c.b, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", x, y, width, height, colour)
}

func (c *canvas) end() string { return c.b.String() + "</svg>\n" }

// scale maps values onto a stretch of px. Logarithmic where decades are spanned.
type scale struct {
	low, high float64 // values
	from, to  float64 // px
	log       bool
}

// decades is the ratio from which on a scale is logarithmic.
const decades = 30

func (s scale) at(v float64) float64 {
	low, high := s.low, s.high
	if s.log {
		v, low, high = math.Log(max(v, s.low)), math.Log(low), math.Log(high)
	}
	if high == low {
		return s.from
	}
	return s.from + (v-low)/(high-low)*(s.to-s.from)
}

// scaleOf has room for values, from a round number to a round number: from 0, or where
// they span decades from a power of ten.
func scaleOf(values []float64, from, to float64) scale {
	low, high := math.Inf(1), 0.0
	for _, v := range values {
		if v > 0 {
			low, high = min(low, v), max(high, v)
		}
	}
	if high == 0 {
		return scale{0, 1, from, to, false}
	}
	if high/low >= decades {
		return scale{math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high))), from, to, true}
	}
	return scale{0, math.Ceil(high/step(high)) * step(high), from, to, false}
}

// step is between the lines of a grid up to high: 1, 2 or 5 of a power of ten, four to
// eight of them.
func step(high float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(high)))
	for _, s := range []float64{0.2, 0.5, 1, 2} {
		if high/(s*p) <= 6 {
			return s * p
		}
	}
	return 5 * p
}

// ticks are the values at which a scale has a line.
func (s scale) ticks() (all []float64) {
	if s.log {
		for v := s.low; v <= s.high*1.01; v *= 10 {
			all = append(all, v)
		}
		return all
	}
	for i := 0.0; i*step(s.high) <= s.high*1.001; i++ {
		all = append(all, i*step(s.high))
	}
	return all
}

// short writes a number with three digits at most: 0.25, 85, 1.2k, 10M.
func short(v float64) string {
	unit := ""
	switch {
	case v >= 1e6:
		v, unit = v/1e6, "M"
	case v >= 1e4:
		v, unit = v/1e3, "k"
	case v >= 1000:
		return strconv.FormatFloat(math.Round(v/10)*10, 'f', -1, 64)
	}
	digits := 2
	switch {
	case v >= 100:
		digits = 0
	case v >= 10:
		digits = 1
	case v < 0.1:
		digits = 3
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s + unit
}

// mark is a dashed upright line.
func (c *canvas) mark(x, top, bottom float64) {
	fmt.Fprintf(&c.b, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#888\" stroke-width=\"2\" stroke-dasharray=\"3 2\"/>\n", x, top, x, bottom)
}

// wrap breaks a text into lines of at most width letters.
func wrap(s string, width int) (lines []string) {
	var line string
	for word := range strings.FieldsSeq(s) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}
