package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// childEnv tells a copy of this program that it is a service of a chaos run.
const childEnv = "FLASHSALE_SERVICE"

// process is a program of ours that says on standard output where it listens
// ("X listening on ADDR") and then "ready". It can be killed and started again.
// Not safe for concurrent use.
type process struct {
	name    string
	command func(said map[string]string) *exec.Cmd // gets what was said at the last start
	logFile string

	heard  map[string]string
	cmd    *exec.Cmd // nil when it does not run
	exited chan error
}

// said returns the address that the process gave for what listens.
func (p *process) said(what string) string { return p.heard[what] }

// start starts the process and waits until it is ready.
func (p *process) start(ctx context.Context) error {
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := p.command(p.heard)
	cmd.Stderr = log
	// A group of its own, so that Ctrl-C at the terminal reaches us alone and everything is taken down in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	ready := make(chan map[string]string, 1)
	exited := make(chan error, 1)
	go func() {
		listen(stdout, ready)
		exited <- cmd.Wait()
	}()
	p.cmd, p.exited = cmd, exited
	select {
	case p.heard = <-ready:
		return nil
	case err := <-exited:
		p.cmd = nil
		return fmt.Errorf("%s ended before it was ready: %w; see %s", p.name, err, p.logFile)
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.kill())
	case <-time.After(2 * time.Minute):
		return errors.Join(fmt.Errorf("%s was not ready within two minutes; see %s", p.name, p.logFile), p.kill())
	}
}

// listen reads until "ready", hands over what was said, and reads on so that
// the pipe never fills.
func listen(r io.Reader, ready chan<- map[string]string) {
	said := map[string]string{}
	in := bufio.NewScanner(r)
	for in.Scan() {
		line := strings.TrimSpace(in.Text())
		if what, addr, ok := strings.Cut(line, " listening on "); ok {
			said[what] = addr
		}
		if line == "ready" {
			ready <- said
			break
		}
	}
	_, _ = io.Copy(io.Discard, r)
}

// kill ends the process at once (SIGKILL) and waits until it is gone.
func (p *process) kill() error {
	if p.cmd == nil {
		return nil
	}
	err := p.cmd.Process.Kill()
	<-p.exited
	p.cmd = nil
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return err
}

// stop ends the process by SIGTERM, and by SIGKILL when that takes 30 s.
func (p *process) stop() error {
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(err, p.kill())
	}
	select {
	case err := <-p.exited:
		p.cmd = nil
		if err != nil {
			return fmt.Errorf("%s: %w; see %s", p.name, err, p.logFile)
		}
		return nil
	case <-time.After(30 * time.Second):
		return errors.Join(fmt.Errorf("%s did not end within 30 s", p.name), p.kill())
	}
}

// startMerlin builds the binary, unless one is named, and starts it on free
// ports. It keeps the ports when it is started again.
func startMerlin(ctx context.Context, cfg config) (*process, error) {
	binary := cfg.merlin
	if binary == "" {
		binary = filepath.Join(cfg.data, "merlin")
		build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/merlinmq/merlin/cmd/merlin")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building merlin: %w\n%s", err, out)
		}
	}
	p := &process{name: "merlin server", logFile: filepath.Join(cfg.data, "merlin.log")}
	p.command = func(said map[string]string) *exec.Cmd {
		addr := func(what string) string {
			if a := said[what]; a != "" {
				return a
			}
			return "127.0.0.1:0"
		}
		// Checks come sooner than by default: the demo should not take minutes.
		return exec.Command(binary, "server", "--data", filepath.Join(cfg.data, "merlin.data"), "--namesrv-listen", addr("namesrv"),
			"--broker-listen", addr("broker"), "--http-listen", addr("http"),
			"--set", "transactionTimeOut=3000", "--set", "transactionCheckInterval=2000")
	}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// serviceProcess is a copy of this program that runs one role.
func serviceProcess(cfg config, role string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: role, logFile: filepath.Join(cfg.data, role+".log")}
	p.command = func(said map[string]string) *exec.Cmd {
		listen := said["http"]
		if listen == "" {
			listen = "127.0.0.1:0"
		}
		cmd := exec.Command(self, "service", "--roles", role, "--listen", listen, "--namesrv", cfg.namesrv, "--data", cfg.data, "--run", cfg.run,
			"--buyers", fmt.Sprint(cfg.buyers), "--items", fmt.Sprint(cfg.items), "--rate", fmt.Sprint(cfg.rate),
			"--pay-timeout", cfg.payTimeout.String(), "--forget", fmt.Sprint(cfg.forget))
		cmd.Env = append(os.Environ(), childEnv+"=1", "DATABASE_URL="+cfg.database)
		return cmd
	}
	return p, nil
}
