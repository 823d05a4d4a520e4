package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/curlew-im/curlew/scripts/devtest/services"
)

// process is one process of the engine, at addresses that it keeps over its lives.
type process struct {
	name, role string
	listen     string // of what the role serves; empty for jobs
	admin      string
	c          *cluster
	log        *os.File

	mu     sync.Mutex // guards what follows
	cmd    *exec.Cmd
	wanted bool // it is to run: if it ends, it has failed
	gone   chan struct{}
}

// start begins a life. It does not wait until the process serves.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wanted {
		return nil
	}
	args := []string{"--roles", p.role, "--set", "admin.listen=" + p.admin}
	switch p.role {
	case "connector", "api":
		args = append(args, "--set", p.role+".listen="+p.listen)
	case "logic":
		args = append(args, "--set", "logic.grpc.listen="+p.listen)
	}
	cmd := p.c.command(p.role, args...)
	cmd.Env = append(append(cmd.Env, p.c.clocks.environment(p)...), p.c.points.environment(p)...)
	cmd.Stderr = p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us: we end it
	if f := p.c.packets; f != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(os.Geteuid()), Gid: f.gids[p.role]}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	p.cmd, p.wanted, p.gone = cmd, true, gone
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		failed := p.wanted && p.cmd == cmd
		if failed {
			p.wanted = false
		}
		p.mu.Unlock()
		close(gone)
		if failed {
			p.c.died(p, err)
		}
	}()
	return nil
}

// signal sends one signal; end says that the process is to end by it.
func (p *process) signal(s syscall.Signal, end bool) {
	p.mu.Lock()
	cmd, gone := p.cmd, p.gone
	if end {
		p.wanted = false
	}
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(s) // gone already: as wished
	if end {
		<-gone
	}
}

// ends says that the process is to end by itself, and returns what is closed then.
func (p *process) ends() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = false
	return p.gone
}

func (p *process) kill()   { p.signal(syscall.SIGKILL, true) }
func (p *process) pause()  { p.signal(syscall.SIGSTOP, false) }
func (p *process) resume() { p.signal(syscall.SIGCONT, false) }

// terminate asks a process to end and waits for it.
func (p *process) terminate() { p.signal(syscall.SIGTERM, true) }

// ready waits until the process says that it serves.
func (p *process) ready(ctx context.Context) error {
	for {
		if services.Answers(ctx, "http://"+p.admin+"/ready") {
			return nil
		}
		p.mu.Lock()
		wanted := p.wanted
		p.mu.Unlock()
		if !wanted {
			return fmt.Errorf("%s has ended: see %s", p.name, p.log.Name())
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("%s is not ready: %w: see %s", p.name, err, p.log.Name())
		}
	}
}

// pause waits, less if ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
