package main

import "math"

// peer is what was measured of the others on one box of two cores with one load
// generator, the clients and stores on it too, and durable settings; NaN is what was not.
type peer struct {
	title  string
	more   bool       // is better
	others [4]float64 // Tinode 0.25, ejabberd 23, WuKongIM 2.2, Centrifugo 6.9
	goal   float64    // of Curlew
	of     string     // scenario of scripts/bench
	ours   func(result) float64
}

var peerNames = [4]string{"Tinode 0.25", "ejabberd 23", "WuKongIM 2.2", "Centrifugo 6.9"}

// peerNote says what the names alone would hide.
const peerNote = "One box of two cores for server, stores and clients. Stores: Tinode and ejabberd MariaDB; WuKongIM its own, 2–5 % of messages out of order; " +
	"Centrifugo Redis alone, no database; Curlew Kafka, MariaDB and Redis. The peers were measured earlier, by a generator for their protocols."

var unmeasured = math.NaN()

func rateOf(r result) float64   { return r.Rate }
func cpuOf(r result) float64    { return r.Costs.Server }
func medianOf(r result) float64 { return r.Delay.P50 }
func tailOf(r result) float64   { return r.Delay.P99 }

var peers = []peer{
	{"one to one, delivered a second", true, [4]float64{2215, 2290, 8370, 20400}, 15000, "pairs", rateOf},
	{"one to one, server CPU µs a message", false, [4]float64{830, 700, 135, 69}, 85, "pairs", cpuOf},
	{"1,000 messages a second, p50 ms", false, [4]float64{2.3, 1.2, 0.8, 0.4}, 3, "rate 1000", medianOf},
	{"1,000 messages a second, p99 ms", false, [4]float64{7.0, 4.4, 16, 0.8}, 8, "rate 1000", tailOf},
	{"2,000 messages a second, p50 ms", false, [4]float64{73, 36, 1.4, 0.4}, 3, "rate 2000", medianOf},
	{"2,000 messages a second, p99 ms", false, [4]float64{612, 241, 61, 1.9}, 9, "rate 2000", tailOf},
	{"group of 100, deliveries a second", true, [4]float64{31500, 19300, 43900, 140000}, 200000, "group 100", rateOf},
	{"group of 100, server CPU µs a delivery", false, [4]float64{35, 84, 25, 7.3}, 6, "group 100", cpuOf},
	{"group of 1,000, deliveries a second", true, [4]float64{51400, 12000, 23700, 69500}, 100000, "group 1000", rateOf},
	{"group of 1,000, server CPU µs a delivery", false, [4]float64{25, 111, 45, 12}, 10, "group 1000", cpuOf},
	{"connects with authentication a second", true, [4]float64{1350, 660, unmeasured, unmeasured}, 4000, "connect", rateOf},
	{"a connect, server CPU µs", false, [4]float64{1200, 2350, unmeasured, unmeasured}, 250, "connect", cpuOf},
	{"an idle connection, server KB", false, [4]float64{52.5, 90.9, 5.1, 45.8}, 1, "idle", idleOf},
}

// idleOf is what the connectors grow by.
func idleOf(r result) float64 { return r.Extra["connector RSS, KB a connection"] }

// beside is a row of the comparison with ours in it.
type beside struct {
	peer
	value float64
}

// besidePeers is what was measured of ours that peers were measured in as well.
func besidePeers(results map[string]result) (all []beside) {
	for _, p := range peers {
		if r, ok := results[p.of]; ok {
			all = append(all, beside{p, p.ours(r)})
		}
	}
	return all
}

const (
	barHeight, barsLeft   = 18, 112
	barsWidth, valueWidth = 250, 60
	peerWidth             = barsLeft + barsWidth + valueWidth + 20
	peerHeight            = 30 + 5*barHeight + 28
)

// drawPeers shows a small chart for each row, two side by side.
func drawPeers(all []beside) string {
	rows := (len(all) + 1) / 2
	height := float64(40 + rows*peerHeight + 48)
	c := newCanvas(2*peerWidth, height, "Curlew beside its peers")
	c.text(8, 22, "start", "title", "Curlew beside its peers; the dashed mark is the goal")
	for i, b := range all {
		c.bars(float64(i%2*peerWidth), float64(40+i/2*peerHeight), b)
	}
	for i, part := range wrap(peerNote, 130) {
		c.text(8, height-30+float64(i)*15, "start", "faint", part)
	}
	return c.end()
}

// bars draws one chart. Ours is the last.
func (c *canvas) bars(left, top float64, b beside) {
	values := []float64{b.goal, b.value}
	for _, v := range b.others {
		if !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	x := scaleOf(values, left+barsLeft, left+barsLeft+barsWidth)
	better := "less is better"
	if b.more {
		better = "more is better"
	}
	if x.log {
		better += ", logarithmic"
	}
	c.text(left+8, top+14, "start", "title", b.title)
	c.text(left+peerWidth-20, top+14, "end", "faint", better)
	for _, v := range x.ticks() {
		c.grid(x.at(v), top+22, x.at(v), top+26+5*barHeight)
		c.text(x.at(v), top+40+5*barHeight, "middle", "faint", short(v))
	}
	for i := range 5 {
		y := top + 24 + float64(i*barHeight)
		name, class, colour, v := "Curlew", "ours", colours[0], b.value
		if i < len(b.others) {
			name, class, colour, v = peerNames[i], "", "#8b9aa8", b.others[i]
		}
		c.text(left+barsLeft-8, y+13, "end", class, name)
		if math.IsNaN(v) {
			c.text(left+barsLeft+6, y+13, "start", "faint", "not measured")
			continue
		}
		c.bar(x.from, y+2, max(x.at(v)-x.from, 1), barHeight-4, colour)
		after, goal := max(x.at(v), x.from), x.at(b.goal)
		if class == "ours" {
			c.mark(goal, y, y+barHeight)
			if goal > after && goal < after+valueWidth {
				after = goal
			}
		}
		c.text(after+5, y+13, "start", class, short(v))
	}
}
