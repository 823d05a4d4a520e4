package main

import (
	"cmp"
	"maps"
	"slices"
)

// series is one line of a panel.
type series struct {
	name   string
	values []float64
	strong bool
}

// The layout of a curve's picture: two panels, each with the names of its lines at their
// right, px.
const (
	panelWidth, panelHeight = 320, 230
	marginLeft, marginTop   = 52, 56
	namesWidth              = 150
	curveHeight             = marginTop + panelHeight + 56
	curveWidth              = 2 * (marginLeft + panelWidth + namesWidth)
)

// drawCurve shows the CPU time of a unit by process, and what it asks of the stores.
func drawCurve(c curve) string {
	unit := c.Points[0].Result.Unit
	title := "Costs of a " + unit + " against " + c.Axis
	cv := newCanvas(curveWidth, curveHeight, title)
	cv.text(8, 20, "start", "title", title)
	var xs []float64
	server := series{name: "all of the server", strong: true}
	cpu := make(map[string]*series)
	counts := []series{{name: "Redis commands"}, {name: "SQL statements"}, {name: "publishes"}, {name: "kB of Redis"}, {name: "kB of MySQL"}, {name: "kB of Kafka"}}
	for _, p := range c.Points {
		xs = append(xs, p.X)
		r := p.Result.Costs
		server.values = append(server.values, r.Server)
		for role, v := range r.CPU {
			if role == "generator" || role == "api" { // the one is no server, the other idle here
				continue
			}
			if cpu[role] == nil {
				cpu[role] = &series{name: role}
			}
			cpu[role].values = append(cpu[role].values, v)
		}
		for i, v := range []float64{r.Commands, r.Statements, r.Publishes, r.Bytes["redis"] / 1000, r.Bytes["mysql"] / 1000, r.Bytes["kafka"] / 1000} {
			counts[i].values = append(counts[i].values, v)
		}
	}
	lines := []series{server}
	for _, role := range slices.Sorted(maps.Keys(cpu)) {
		lines = append(lines, *cpu[role])
	}
	cv.panel(0, "CPU of a "+unit+", µs", c.Axis, xs, lines)
	cv.panel(marginLeft+panelWidth+namesWidth, "asked of the stores, each "+unit, c.Axis, xs, counts)
	return cv.end()
}

// panel draws lines over xs. left is where it begins.
func (c *canvas) panel(left float64, title, axis string, xs []float64, lines []series) {
	var all []float64
	for _, l := range lines {
		all = append(all, l.values...)
	}
	x0, y0 := left+marginLeft, float64(marginTop+panelHeight)
	y := scaleOf(all, y0, marginTop)
	x := scale{xs[0], xs[len(xs)-1], x0 + 8, x0 + panelWidth - 8, xs[len(xs)-1]/xs[0] >= decades}
	c.text(x0, marginTop-12, "start", "faint", title)
	for _, v := range y.ticks() {
		c.grid(x0, y.at(v), x0+panelWidth, y.at(v))
		c.text(x0-6, y.at(v)+4, "end", "faint", short(v))
	}
	for _, v := range xs {
		c.text(x.at(v), y0+18, "middle", "faint", short(v))
	}
	c.text(x0+panelWidth/2, y0+38, "middle", "faint", axis)
	names := make([]name, 0, len(lines))
	for i, l := range lines {
		var px, py []float64
		for j, v := range l.values {
			px, py = append(px, x.at(xs[j])), append(py, y.at(v))
		}
		width := 1.6
		if l.strong {
			width = 3
		}
		colour := colours[i%len(colours)]
		c.line(px, py, colour, width)
		names = append(names, name{l.name + " " + short(l.values[len(l.values)-1]), colour, py[len(py)-1]})
	}
	for _, n := range spread(names, y0) {
		c.label(x0+panelWidth+8, n.y+4, n.colour, n.text)
	}
}

// name is what stands at the end of a line.
type name struct {
	text, colour string
	y            float64
}

// spread moves names apart so that they can be read, none below bottom.
func spread(names []name, bottom float64) []name {
	const apart = 15
	slices.SortFunc(names, func(a, b name) int { return cmp.Compare(a.y, b.y) })
	for i := 1; i < len(names); i++ {
		names[i].y = max(names[i].y, names[i-1].y+apart)
	}
	for i := len(names) - 1; i >= 0; i-- {
		names[i].y = min(names[i].y, bottom-float64(len(names)-1-i)*apart)
	}
	return names
}
