package connector

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// One message up and its answer down, client and server in one process.
func BenchmarkEcho(bm *testing.B) {
	for _, k := range []kind{byDefault, goroutines} {
		bm.Run(string(k), func(bm *testing.B) {
			c := start(bm, k, unlimited()).connected(1, "d")
			m := masked(ws.OpText, true, repeat("x", 100))
			bm.ReportAllocs()
			start, rounds := cpu(), 0
			for bm.Loop() {
				c.write(m)
				if _, err := c.frame(); err != nil {
					bm.Fatal(err)
				}
				rounds++
			}
			bm.ReportMetric(float64(cpu()-start)/1e3/float64(rounds), "cpu-µs/op")
		})
	}
}

// Many connections with messages in flight.
func BenchmarkEcho_Parallel(bm *testing.B) {
	for _, k := range []kind{byDefault, goroutines} {
		bm.Run(string(k), func(bm *testing.B) {
			b := start(bm, k, unlimited())
			var user atomic.Int64
			bm.SetParallelism(50)
			bm.ReportAllocs()
			start := cpu()
			bm.RunParallel(func(pb *testing.PB) {
				c := b.connected(int(user.Add(1)), "d")
				const inFlight = 4
				m := bytes.Repeat(masked(ws.OpText, true, repeat("x", 100)), inFlight)
				for n := 0; pb.Next(); n++ {
					if n%inFlight == 0 {
						c.write(m)
					}
					if _, err := c.frame(); err != nil {
						bm.Error(err)
						return
					}
				}
			})
			bm.ReportMetric(float64(cpu()-start)/1e3/float64(bm.N), "cpu-µs/op")
		})
	}
}

// One frame to many connections, until all have read it.
func BenchmarkPush(bm *testing.B) {
	for _, k := range []kind{byDefault, goroutines} {
		for _, n := range []int{1, 100, 1000} {
			bm.Run(fmt.Sprintf("%s/%d", k, n), func(bm *testing.B) {
				b := start(bm, k, unlimited())
				d := protocol.Delivery{Frame: repeat("x", 100)}
				var read sync.WaitGroup
				size := len(textFrame(d.Frame))
				for i := range n {
					c := b.connected(i, "d")
					d.Users = append(d.Users, im.UserID(i))
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

// The parser alone.
func BenchmarkAssembler(bm *testing.B) {
	a := &assembler{maxMessage: 64 << 10, maxFragments: 64}
	m := masked(ws.OpText, true, repeat("x", 100))
	b := make([]byte, len(m))
	bm.ReportAllocs()
	for bm.Loop() {
		copy(b, m)
		if _, why := a.feed(nil, b, discard{}); why != open {
			bm.Fatal(why)
		}
	}
}

type discard struct{}

func (discard) message([]byte, bool) protocol.Close      { return open }
func (discard) control(ws.OpCode, []byte) protocol.Close { return open }

func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// TestIdleFootprint measures, with its clients in another process; it judges only that
// a session costs less than 2 KB. CURLEW_IDLE_ROOMS puts each user into some rooms.
func TestIdleFootprint(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("CURLEW_IDLE_CONNECTIONS"))
	if err != nil {
		t.Skip("set CURLEW_IDLE_CONNECTIONS (below the limit of descriptors) to measure an idle session")
	}
	if addr := os.Getenv("CURLEW_IDLE_SERVER"); addr != "" {
		idleClients(t, addr, n)
		return
	}
	b := start(t, byDefault, unlimited())
	b.routes = nowhere{}                                     // the real ones are in Redis
	rooms, _ := strconv.Atoi(os.Getenv("CURLEW_IDLE_ROOMS")) // of each user, of 50 members here
	b.directory = neighbours(rooms)
	before := resident(t)
	clients := exec.Command(os.Args[0], "-test.run=TestIdleFootprint")
	clients.Env = append(os.Environ(), "CURLEW_IDLE_SERVER="+b.addr)
	hold, err := clients.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := clients.Start(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "all are connected", func() bool { return int(value(t, b.metrics.sessions)) == n })
	t.Logf("connected in %s", time.Since(began))
	per := float64(resident(t)-before) / float64(n)
	start := cpu()
	time.Sleep(5 * time.Second)
	t.Logf("%d idle sessions: %.0f bytes each, %d goroutines, %.2f %% of a core", n, per, runtime.NumGoroutine(), 100*float64(cpu()-start)/float64(5*time.Second))
	if per > 2048 {
		t.Errorf("%.0f bytes each", per)
	}
	hold.Close()
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
}

// idleClients connects n sessions and holds them until stdin ends.
func idleClients(t *testing.T, addr string, n int) {
	for i := range n {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		m := join2([]byte(request+"\r\n"), masked(ws.OpText, true, fmt.Appendf(nil, "connect %d device-%012d", i, i)))
		if _, err := nc.Write(m); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// neighbours is a directory in which 50 users at a time share that many rooms.
type neighbours int

func (n neighbours) RoomsOf(_ context.Context, users []im.UserID) (map[im.UserID][]im.Room, error) {
	all := make(map[im.UserID][]im.Room)
	for _, u := range users {
		for i := range int(n) {
			c := im.ChannelConversation(uint64(u)/50*uint64(n) + uint64(i) + 1)
			all[u] = append(all[u], im.Room{Conversation: c, Version: 1, First: 1})
		}
	}
	return all, nil
}

func (neighbours) RoomMembers(context.Context, im.ConversationID, []im.UserID) (im.Seq, map[im.UserID]im.Seq, error) {
	return 1, nil, nil
}

type nowhere struct{}

func (nowhere) Register(context.Context, []im.SessionRef, int) (im.RouteChange, error) {
	return im.RouteChange{}, nil
}
func (nowhere) Renew(context.Context, im.NodeID, []im.SessionRef) (im.RouteChange, error) {
	return im.RouteChange{}, nil
}
func (nowhere) Remove(context.Context, []im.SessionRef) (map[im.NodeID][]im.UserID, error) {
	return nil, nil
}
func (nowhere) Presence(context.Context, []im.UserID) (map[im.UserID]im.Presence, error) {
	return nil, nil
}
func (nowhere) LiveNodes(context.Context) (map[im.NodeID]bool, error) { return nil, nil }
func (nowhere) MoveRooms(context.Context, im.NodeID, []im.ConversationID, []im.ConversationID) error {
	return nil
}
func (nowhere) SweepRooms(context.Context) (int, error)               { return 0, nil }
func (nowhere) Watch(context.Context, im.NodeID, []im.UserID) error   { return nil }
func (nowhere) Unwatch(context.Context, im.NodeID, []im.UserID) error { return nil }

// resident is this process's memory, without what the collector would give back.
func resident(t *testing.T) int {
	runtime.GC()
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	pages, _ := strconv.Atoi(strings.Fields(string(data))[1])
	return pages * os.Getpagesize()
}
