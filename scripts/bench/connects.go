package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/curlew-im/curlew/logic/im"
)

// profileSpan is how long a herd is profiled: it is in about then.
const profileSpan = 2 * time.Second

// herd opens connections with authentication, as many at once as inFlight, and closes
// them: what a connector that comes back must take.
func (b *bench) herd(ctx context.Context, n, inFlight int) (Result, error) {
	all, err := b.people(ctx, "herd", n)
	if err != nil {
		return Result{}, err
	}
	h := hdrhistogram.New(1, longestDelay, 3)
	var mu sync.Mutex
	open := make([]*socket, n)
	defer func() {
		for _, s := range open {
			if s != nil {
				s.close()
			}
		}
	}()
	var refused atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	profiled := b.profile(ctx, "connect", profileSpan)
	from := b.costsNow(ctx)
	for i, p := range all {
		g.Go(func() error {
			start := time.Now()
			s, err := connect(gctx, b.engine.socket(i), p)
			if err != nil {
				refused.Add(1)
				return nil
			}
			open[i] = s
			mu.Lock()
			defer mu.Unlock()
			return h.RecordValue(min(time.Since(start).Microseconds(), longestDelay))
		})
	}
	if err := g.Wait(); err != nil {
		return Result{}, err
	}
	to := b.costsNow(ctx)
	if err := profiled(); err != nil {
		return Result{}, err
	}
	res := b.result("connect", "connection", from, to, int64(n)-refused.Load(), h)
	res.Setting = fmt.Sprintf("%d connections with authentication, %d at once", n, inFlight)
	res.Faults.Refused = refused.Load()
	return res, nil
}

// idle holds connections on which nothing happens, each connector's in a generator of
// its own, since a process has 20,000 descriptors at most. It says what they weigh, and
// what they cost while nothing happens.
func (b *bench) idle(ctx context.Context, each, connectors int) (Result, error) {
	all, err := b.people(ctx, fmt.Sprint("idle", connectors), each*connectors)
	if err != nil {
		return Result{}, err
	}
	before := b.costsNow(ctx)
	var holders []*holder
	defer func() {
		for _, h := range holders {
			h.release()
		}
	}()
	for i := range connectors {
		h, err := hold(ctx, b.engine.socket(i), all[i*each:(i+1)*each])
		if err != nil {
			return Result{}, err
		}
		holders = append(holders, h)
	}
	from := b.costsNow(ctx)
	pause(ctx, b.span)
	to := b.costsNow(ctx)
	n := int64(each * connectors)
	res := b.result("idle", "connection", from, to, n, hdrhistogram.New(1, 2, 1))
	res.Setting = fmt.Sprintf("%d connections over %d connectors, heartbeats only", n, connectors)
	res.Rate = 0
	grown := func(role string, to costs) float64 {
		return float64(to.use[role].rss-before.use[role].rss) / 1024 / float64(n)
	}
	res.Extra = map[string]float64{
		"connector RSS, KB a connection":                     grown("connector", to),
		"redis RSS, KB a connection":                         grown("redis", to),
		"server CPU, % of a core for a thousand connections": res.Costs.ServerCPU / 1e4 / res.Seconds * 1000,
	}
	return res, nil
}

// holder is another process that holds connections.
type holder struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

// held is what a holder is told, as JSON on its standard input.
type held struct {
	Socket string
	People []heldPerson
}

type heldPerson struct {
	Device, Token string
}

// hold starts a holder and returns when all its connections are open.
func hold(ctx context.Context, socket string, all []person) (*holder, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "hold")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &holder{cmd: cmd, in: in}
	told := held{Socket: socket}
	for _, p := range all {
		told.People = append(told.People, heldPerson{string(p.device), p.token})
	}
	if err := json.NewEncoder(in).Encode(told); err != nil {
		h.release()
		return nil, err
	}
	if said, err := bufio.NewReader(out).ReadString('\n'); err != nil || said != "open\n" {
		h.release()
		return nil, fmt.Errorf("the holder of connections to %s ended: %q, %v", socket, said, err)
	}
	return h, nil
}

func (h *holder) release() {
	h.in.Close()
	_ = h.cmd.Wait() // it ends with its input
}

// holdHere is the other process: it opens connections, says so, and keeps them alive
// until its input ends.
func holdHere(ctx context.Context, in io.Reader, out io.Writer) error {
	r := json.NewDecoder(in)
	var told held
	if err := r.Decode(&told); err != nil {
		return err
	}
	open := make([]*socket, len(told.People))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * asked)
	for i, p := range told.People {
		g.Go(func() (err error) {
			open[i], err = connect(gctx, told.Socket, person{device: im.DeviceID(p.Device), token: p.Token})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, r.Buffered())
		_, _ = io.Copy(io.Discard, in)
	}()
	if _, err := io.WriteString(out, "open\n"); err != nil {
		return err
	}
	beat(open, ended)
	return nil
}

// beatEvery is between two pings of a connection: the interval that the server asks for.
const beatEvery = 25 * time.Second

// pingID is of requests that are no messages: those begin at 2.
const pingID = 1

var pingFrame = []byte(`{"id":"1","cmd":"ping","data":{}}`)

// beat pings each connection in its turn, so that the server hears of one every moment,
// and reads what it has answered to the last.
func beat(open []*socket, ended <-chan struct{}) {
	tick := time.NewTicker(max(beatEvery/time.Duration(len(open)+1), 100*time.Microsecond))
	defer tick.Stop()
	var buf []byte
	for i := 0; ; i++ {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		s := open[i%len(open)]
		s.put(pingFrame)
		if s.flush() != nil {
			continue
		}
		_ = s.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
		buf, _ = s.next(buf)
	}
}
