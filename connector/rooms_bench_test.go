package connector

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// One frame to all members of a room, until all have read it; beside it the same to
// the same users by name.
func BenchmarkRoom(bm *testing.B) {
	for _, k := range []kind{byDefault, goroutines} {
		const n = 1000
		b := start(bm, k, unlimited())
		users := make([]im.UserID, n)
		for i := range users {
			users[i] = im.UserID(i + 1)
		}
		b.dir.joins("c1", 1, users...)
		var read sync.WaitGroup
		size := len(textFrame(repeat("x", 100)))
		for i := range n {
			c := b.connected(i+1, "d")
			go func() { // ends with the connection
				buf := make([]byte, 64<<10)
				got := 0
				for {
					_ = c.nc.SetReadDeadline(time.Time{})
					m, err := c.nc.Read(buf)
					if err != nil {
						return
					}
					for got += m; got >= size; got -= size {
						read.Done()
					}
				}
			}()
		}
		b.publish() // subscribed
		for _, way := range []string{"room", "users"} {
			bm.Run(fmt.Sprintf("%s/%s", k, way), func(bm *testing.B) {
				d := protocol.Delivery{Frame: repeat("x", 100)}
				if way == "room" {
					d.Room, d.About, d.Version = "c1", 2, 1
				} else {
					d.Users = users
				}
				batch := protocol.AppendDelivery(nil, &d)
				start := cpu()
				rounds := 0
				bm.ReportAllocs()
				for bm.Loop() {
					read.Add(n)
					b.pusher.batch(batch)
					read.Wait()
					rounds++
				}
				bm.ReportMetric(float64(cpu()-start)/1e3/float64(rounds*n), "cpu-µs/frame")
			})
		}
	}
}

// The fan-out alone: finding the members' connections and filling their outboxes.
func BenchmarkRoom_Fill(bm *testing.B) {
	const n = 1000
	for _, way := range []string{"room", "users"} {
		bm.Run(way, func(bm *testing.B) {
			s := &Server{cfg: unlimited().withDefaults(), sessions: newRegistry(), wheel: newWheel()}
			s.metrics, _ = newMetrics(prometheus.NewRegistry())
			s.rooms = newRooms(s)
			p := &pusher{s: s, fence: newFence(fenceSize), heard: make(chan struct{})}
			d := protocol.Delivery{Frame: repeat("x", 100), Room: "c1", About: 2, Version: 1}
			var conns []*conn
			rm := s.rooms.open("c1", 1)
			rm.in = true
			for i := range im.UserID(n) {
				c := &conn{s: s, wire: nowire{}}
				c.session.Store(&im.Session{Identity: im.Identity{User: i + 1, Device: "d"}})
				s.sessions.add(c, -1)
				s.rooms.seat(rm, i+1, 1)
				conns = append(conns, c)
				d.Users = append(d.Users, i+1)
			}
			if way == "room" {
				d.Users = nil
			} else {
				d.Room = ""
			}
			batch := protocol.AppendDelivery(nil, &d)
			bm.ReportAllocs()
			for bm.Loop() {
				p.batch(batch)
				for _, c := range conns { // as if they were written
					c.out.Lock()
					c.box.advance(c.box.bytes)
					c.box.release()
					c.box, c.writing = nil, false
					c.out.Unlock()
				}
			}
			bm.ReportMetric(float64(bm.Elapsed().Nanoseconds())/float64(bm.N*n), "ns/member")
		})
	}
}

type nowire struct{}

func (nowire) wake(*conn)       {}
func (nowire) reconsider(*conn) {}
func (nowire) finish(*conn)     {}
func (nowire) cut(*conn)        {}

// BenchmarkRoom_Join is what one notice costs a room of 10,000.
func BenchmarkRoom_Join(bm *testing.B) {
	s := &Server{cfg: unlimited().withDefaults(), sessions: newRegistry(), wheel: newWheel()}
	s.metrics, _ = newMetrics(prometheus.NewRegistry())
	rs := newRooms(s)
	rm := rs.open("c1", 1)
	for u := range im.UserID(10_000) {
		rs.seat(rm, 2*u+2, 1)
	}
	bm.ReportAllocs()
	for bm.Loop() {
		rs.seat(rm, 7, 1)
		rs.unseat(rm, 7)
	}
}
