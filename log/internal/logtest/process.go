package logtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/witness"
)

// roleVariable makes a test binary be a witness or a log instead: its value is
// a process's JSON.
const roleVariable = "VITRINE_LOGTEST_ROLE"

// process is what a child process shall be. Exactly one of the two is set.
type process struct {
	Address string
	Witness *witnessProcess
	Log     *logProcess
}

type witnessProcess struct {
	Dir, Name, KeyName string
	Logs               []string
}

type logProcess struct {
	Dir, Key, Policy, Admission string
	Unwitnessed                 bool
	Checkpoint, Republish, Wait time.Duration
	Witnesses                   time.Duration
}

// Main is to be called by TestMain of every package that starts processes.
func Main(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := runRole(role); err != nil {
		fmt.Fprintln(os.Stderr, "child process:", err)
		os.Exit(1)
	}
}

// runRole serves until standard input closes, so that no child outlives the
// test, however that ends.
func runRole(role string) error {
	var p process
	if err := json.Unmarshal([]byte(role), &p); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	ln, err := net.Listen("tcp", p.Address)
	if err != nil {
		return err
	}
	announce := func() { fmt.Printf("http://%s\n", ln.Addr()) }
	switch {
	case p.Witness != nil:
		w, err := witness.Open(p.Witness.Dir, witness.Config{Name: p.Witness.Name, Key: Key(p.Witness.KeyName), Logs: p.Witness.Logs})
		if err != nil {
			return err
		}
		defer w.Close()
		announce()
		return w.Serve(ctx, ln)
	case p.Log != nil:
		c, err := p.Log.config()
		if err != nil {
			return err
		}
		l, err := log.Open(ctx, c)
		if err != nil {
			return err
		}
		announce()
		return errors.Join(l.Serve(ctx, ln), l.Close(context.Background()))
	}
	return errors.New("no role is given")
}

func (p *logProcess) config() (log.Config, error) {
	signer, err1 := note.NewSigner(p.Key)
	policy, err2 := receipt.ParsePolicy(p.Policy, p.Unwitnessed)
	admission, err3 := log.ParseAdmission("admission", []byte(p.Admission))
	return log.Config{
		Dir: p.Dir, Signer: signer, Policy: policy, Admission: admission,
		CheckpointInterval: p.Checkpoint, RepublishInterval: p.Republish, ReceiptTimeout: p.Wait, WitnessTimeout: p.Witnesses,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 1})),
	}, errors.Join(err1, err2, err3)
}

// A Process is a child that serves HTTP at URL.
type Process struct {
	t     testing.TB
	URL   string
	p     process
	cmd   *exec.Cmd
	stdin io.Closer
}

func start(t testing.TB, p process) *Process {
	t.Helper()
	if p.Address == "" {
		p.Address = "127.0.0.1:0"
	}
	pr := &Process{t: t, p: p}
	pr.start()
	t.Cleanup(pr.Kill)
	return pr
}

func (p *Process) start() {
	p.t.Helper()
	role, err := json.Marshal(p.p)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), roleVariable+"="+string(role))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.Kill()
		p.t.Fatalf("the child process did not start: %v", err)
	}
	p.URL = strings.TrimSpace(url)
}

// Kill ends the process by SIGKILL, if it runs.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGKILL)
	p.cmd.Wait()
	p.stdin.Close()
	p.cmd = nil
}

// Restart starts the process again, at the same address.
func (p *Process) Restart() {
	p.t.Helper()
	p.Kill()
	p.p.Address = strings.TrimPrefix(p.URL, "http://")
	p.start()
}
