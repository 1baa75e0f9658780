//go:build linux

package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// story is a demo in progress.
type story struct {
	c   Config
	dir string
	saw map[string]any // of the step that runs

	good, bad, dim, bold, reset string

	mu       sync.Mutex
	running  []*process
	cleanups []func()
	forks    chan func()

	place
}

func newStory(c Config, dir string) *story {
	s := &story{c: c, dir: dir, saw: map[string]any{}, forks: make(chan func())}
	// Children die with us. Their death signal comes when the thread that forked
	// them ends, not the process (prctl(2)), so one thread forks and stays.
	go func() {
		runtime.LockOSThread()
		for fork := range s.forks {
			fork()
		}
	}()
	if c.Colour {
		s.good, s.bad, s.dim, s.bold, s.reset = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m"
	}
	return s
}

// say prints a line for a person.
func (s *story) say(format string, args ...any) {
	if !s.c.JSON {
		fmt.Fprintf(s.c.Out, format+"\n", args...)
	}
}

func (s *story) path(elements ...string) string {
	return filepath.Join(append([]string{s.dir}, elements...)...)
}

func (s *story) write(name, content string) error {
	path := s.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o600)
}

func (s *story) read(name string) (string, error) {
	b, err := os.ReadFile(s.path(name))
	return strings.TrimSpace(string(b)), err
}

// answer is what a vitrine command said.
type answer struct {
	exit   int
	stdout []byte
	stderr string
}

// into reads the answer's JSON.
func (a *answer) into(v any) error {
	if err := json.Unmarshal(a.stdout, v); err != nil {
		return fmt.Errorf("the command did not print JSON (exit status %d): %s", a.exit, tail(a.stderr))
	}
	return nil
}

func tail(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 600 {
		s = "…" + s[len(s)-600:]
	}
	return s
}

// show prints a command as a person would type it, in the demo's folder.
func (s *story) show(args []string) {
	words := []string{"vitrine"}
	for _, a := range args {
		if a == "--json" {
			continue
		}
		if strings.ContainsAny(a, " \n\"'") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	line := strings.Join(words, " ")
	if i := strings.IndexByte(line, '\n'); i >= 0 {
		line = line[:i] + "…'"
	}
	s.say("   %s$ %s%s", s.dim, line, s.reset)
}

// vitrine runs a command to its end, and prints it.
func (s *story) vitrine(ctx context.Context, args ...string) (*answer, error) {
	s.show(args)
	return s.quietly(ctx, args...)
}

// quietly runs a command without printing it.
func (s *story) quietly(ctx context.Context, args ...string) (*answer, error) {
	cmd := exec.CommandContext(ctx, s.c.Vitrine, args...)
	cmd.Dir = s.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	s.overheard(args, stderr.String())
	a := &answer{stdout: stdout.Bytes(), stderr: stderr.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		a.exit = exit.ExitCode()
		return a, ctx.Err()
	}
	return a, err
}

// must runs a command that has to answer yes.
func (s *story) must(ctx context.Context, args ...string) (*answer, error) {
	a, err := s.vitrine(ctx, args...)
	if err != nil {
		return nil, err
	}
	if a.exit != 0 {
		return nil, fmt.Errorf("vitrine %s ended with status %d: %s", args[0], a.exit, tail(a.stderr+string(a.stdout)))
	}
	return a, nil
}

func (s *story) overheard(args []string, text string) {
	if s.c.Log != nil && text != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprintf(s.c.Log, "--- vitrine %s\n%s", strings.Join(args, " "), text)
	}
}

// live runs a command that has to answer yes, and shows what it prints at the
// moment it prints it.
func (s *story) live(ctx context.Context, args ...string) error {
	s.show(args)
	cmd := exec.CommandContext(ctx, s.c.Vitrine, args...)
	cmd.Dir = s.dir
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &indenter{w: s.c.Out, fresh: true}, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("vitrine %s: %w: %s", args[0], err, tail(stderr.String()))
	}
	return nil
}

// indenter puts what passes through it below the command that it belongs to.
type indenter struct {
	w     io.Writer
	fresh bool // at the beginning of a line
}

func (i *indenter) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if i.fresh {
			if _, err := io.WriteString(i.w, "   "); err != nil {
				return 0, err
			}
		}
		if _, err := i.w.Write(line); err != nil {
			return 0, err
		}
		i.fresh = bytes.HasSuffix(line, []byte("\n"))
	}
	return len(b), nil
}

// process is a server that the demo started.
type process struct {
	name  string
	args  []string
	cmd   *exec.Cmd
	lines chan string // of stdout, after the first JSON value
	hello map[string]string
	ended chan struct{}
}

// start starts a server and reads the first JSON object that it prints: where
// it serves. Servers without one (announces false) are only started.
func (s *story) start(ctx context.Context, name string, announces bool, args ...string) (*process, error) {
	s.show(append(args, "&"))
	cmd := exec.Command(s.c.Vitrine, args...)
	cmd.Dir = s.dir
	logFile, err := os.OpenFile(s.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	cmd.Stderr = logFile
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.fork(cmd); err != nil {
		return nil, err
	}
	p := &process{name: name, args: args, cmd: cmd, lines: make(chan string, 256), ended: make(chan struct{})}
	s.mu.Lock()
	s.running = append(s.running, p)
	s.mu.Unlock()
	r := bufio.NewReader(stdout)
	hello := make(chan error, 1)
	go func() {
		if announces {
			dec := json.NewDecoder(r)
			err := dec.Decode(&p.hello)
			hello <- err
			r = bufio.NewReader(io.MultiReader(dec.Buffered(), r))
		}
		scan := bufio.NewScanner(r)
		scan.Buffer(nil, 1<<20)
		for scan.Scan() {
			if line := strings.TrimSpace(scan.Text()); line != "" {
				p.lines <- line
			}
		}
		close(p.lines)
		cmd.Wait()
		close(p.ended)
	}()
	if !announces {
		return p, nil
	}
	select {
	case err := <-hello:
		if err != nil {
			said, _ := s.read(name + ".log")
			return nil, fmt.Errorf("vitrine %s %s did not start: %s", args[0], args[1], tail(said))
		}
		return p, nil
	case <-time.After(30 * time.Second):
		return nil, fmt.Errorf("vitrine %s %s did not start within 30 s", args[0], args[1])
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fork starts a command that ends with the demo. A signal at the terminal is the
// demo's to pass on, in its own order.
func (s *story) fork(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	s.forks <- func() { started <- cmd.Start() }
	return <-started
}

// stop ends a server and waits for it.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	go func() {
		for range p.lines { // so that it never waits for a reader
		}
	}()
	select {
	case <-p.ended:
	case <-time.After(15 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
	}
}

// again starts a stopped server as it was, at the address that it had.
func (s *story) again(ctx context.Context, p *process) (*process, error) {
	args := append([]string{}, p.args...)
	for i, a := range args {
		if a == "--listen" {
			args[i+1] = strings.TrimPrefix(p.hello["url"], "http://")
		}
	}
	return s.start(ctx, p.name, true, args...)
}

func (s *story) stopAll() {
	s.mu.Lock()
	running, cleanups := s.running, s.cleanups
	s.running, s.cleanups = nil, nil
	s.mu.Unlock()
	for i := len(cleanups) - 1; i >= 0; i-- {
		cleanups[i]()
	}
	for i := len(running) - 1; i >= 0; i-- {
		running[i].stop()
	}
	close(s.forks)
}

func (s *story) cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// removeAll is os.RemoveAll also for a module cache, whose folders are
// read-only.
func removeAll(dir string) {
	if os.RemoveAll(dir) == nil {
		return
	}
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	os.RemoveAll(dir)
}

func joinWords(words []string) string { return strings.Join(words, " ") }

func readText(path string) (string, error) {
	b, err := os.ReadFile(path)
	return string(b), err
}
