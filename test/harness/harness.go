// Package harness builds the merlin binary once and runs it for tests: start on free ports, stop, kill, start again on the
// same folder. With MERLIN_ADDR=HOST:PORT tests run against that name server instead (any RocketMQ-compatible one) and nothing is started.
package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is a running merlin, or the server that MERLIN_ADDR names.
type Server struct {
	Namesrv string // HOST:PORT to give to clients
	Broker  string // HOST:PORT, "" with MERLIN_ADDR
	HTTP    string // HOST:PORT, "" with MERLIN_ADDR
	Dir     string // the data folder, "" with MERLIN_ADDR

	args   []string
	cmd    *exec.Cmd
	exited chan error // gets the result of Wait once
	out    *lines
}

var build struct {
	once sync.Once
	path string
	err  error
}

// External returns the name server that MERLIN_ADDR names, or "".
func External() string { return os.Getenv("MERLIN_ADDR") }

// Build compiles ./cmd/merlin once for the test process and returns the binary's path. It skips the test when the command
// does not exist yet. With MERLIN_BIN set that binary is used.
func Build(t testing.TB) string {
	t.Helper()
	build.once.Do(func() {
		if build.path = os.Getenv("MERLIN_BIN"); build.path != "" {
			return
		}
		src := filepath.Join(root(), "cmd", "merlin")
		if _, err := os.Stat(src); err != nil {
			return
		}
		dir, err := os.MkdirTemp("", "merlin-test")
		if err != nil {
			build.err = err
			return
		}
		build.path = filepath.Join(dir, "merlin")
		cmd := exec.Command("go", "build", "-o", build.path, src)
		cmd.Dir = root()
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("go build ./cmd/merlin: %w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	if build.path == "" {
		t.Skip("there is no cmd/merlin to run")
	}
	return build.path
}

// Clean removes the binary that Build made; call it at the end of TestMain.
func Clean() {
	if build.path != "" && os.Getenv("MERLIN_BIN") == "" {
		os.RemoveAll(filepath.Dir(build.path))
	}
}

// Start runs `merlin server` with args on free ports and a new data folder, waits until it is ready and stops it at the
// test's end. With MERLIN_ADDR it returns that server; args are then the caller's wish only.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	if addr := External(); addr != "" {
		return &Server{Namesrv: addr}
	}
	return StartIn(t, t.TempDir(), args...)
}

// StartIn is Start on a data folder that may have content. It always runs our own binary.
func StartIn(t testing.TB, dir string, args ...string) *Server {
	t.Helper()
	Build(t)
	s := &Server{Dir: dir, args: args}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd == nil {
			return
		}
		if err := s.Stop(); err != nil {
			t.Errorf("%v", err)
		}
		if t.Failed() {
			t.Logf("the server's last lines:\n%s", s.Output())
		}
	})
	return s
}

// Restart starts the stopped or killed server again on the same folder, with the same flags and the same ports.
func (s *Server) Restart() error { return s.start() }

// Stop ends the server by SIGTERM and waits; it fails when the exit code is not 0 or it takes more than 30 s.
func (s *Server) Stop() error {
	if s.cmd == nil {
		return nil
	}
	cmd := s.cmd
	s.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("harness: SIGTERM: %w", err)
	}
	select {
	case err := <-s.exited:
		if err != nil {
			return fmt.Errorf("harness: merlin ended with %w\n%s", err, s.Output())
		}
		return nil
	case <-time.After(30 * time.Second):
		err := cmd.Process.Kill()
		<-s.exited
		return errors.Join(fmt.Errorf("harness: merlin did not end within 30 s of SIGTERM\n%s", s.Output()), err)
	}
}

// Kill ends the server by SIGKILL and waits.
func (s *Server) Kill() error {
	if s.cmd == nil {
		return errors.New("harness: the server does not run")
	}
	cmd := s.cmd
	s.cmd = nil
	err := cmd.Process.Kill()
	<-s.exited
	return err
}

// PID returns the process id, 0 when it does not run.
func (s *Server) PID() int {
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Output returns the last lines that the server printed.
func (s *Server) Output() string { return s.out.String() }

func (s *Server) start() error {
	if s.cmd != nil {
		return errors.New("harness: the server runs already")
	}
	listen := func(addr string) string {
		if addr == "" {
			return "127.0.0.1:0"
		}
		return addr
	}
	args := append([]string{"server", "--data", s.Dir, "--namesrv-listen", listen(s.Namesrv), "--broker-listen", listen(s.Broker),
		"--http-listen", listen(s.HTTP)}, s.args...)
	cmd := exec.Command(build.path, args...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	s.out = &lines{}
	cmd.Stderr = s.out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("harness: starting merlin: %w", err)
	}
	ready := make(chan map[string]string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		announced(stdout, s.out, ready)
	}()
	s.exited = make(chan error, 1)
	go func() {
		<-read // Wait closes the pipe, so everything must be read before
		s.exited <- cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	select {
	case said := <-ready:
		s.Namesrv, s.Broker, s.HTTP = said["namesrv"], said["broker"], said["http"]
		s.cmd = cmd
		if s.Namesrv == "" || s.Broker == "" {
			return errors.Join(fmt.Errorf("harness: merlin is ready but did not say where it listens\n%s", s.Output()), s.Kill())
		}
		return nil
	case err := <-s.exited:
		return fmt.Errorf("harness: merlin %s ended before it was ready: %w\n%s", strings.Join(args, " "), err, s.Output())
	case <-ctx.Done():
		err := cmd.Process.Kill()
		<-s.exited
		return errors.Join(fmt.Errorf("harness: merlin was not ready within a minute\n%s", s.Output()), err)
	}
}

// announced reads "X listening on ADDR" lines until "ready", hands the addresses over, and reads on so that the pipe never fills.
func announced(r io.Reader, keep io.Writer, ready chan<- map[string]string) {
	said := map[string]string{}
	in := bufio.NewScanner(r)
	for in.Scan() {
		line := in.Text()
		fmt.Fprintln(keep, line)
		if what, addr, ok := strings.Cut(line, " listening on "); ok {
			words := strings.Fields(what)
			if len(words) > 0 {
				said[words[len(words)-1]] = strings.Fields(addr)[0]
			}
		}
		if strings.TrimSpace(line) == "ready" {
			ready <- said
			break
		}
	}
	for in.Scan() {
		fmt.Fprintln(keep, in.Text())
	}
}

// lines keeps the last 16 KiB of what is written to it.
type lines struct {
	mu  sync.Mutex
	buf []byte // guarded by mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if n := len(l.buf) - 16<<10; n > 0 {
		l.buf = append(l.buf[:0], l.buf[n:]...)
	}
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}

func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}
