package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

type worldKey struct{}

// world is the servers that a script has started.
type world struct{ servers map[string]*server }

// server is a vitrine command that serves.
type server struct {
	args  []string
	cmd   *exec.Cmd
	hello map[string]string // what it announced
	said  *bytes.Buffer     // on stdout
	log   *os.File
	ended chan error
}

var announced = regexp.MustCompile(`https?://[0-9.]+:[0-9]+`)

// serve NAME ARGS... starts vitrine ARGS... and waits until it says where it
// serves. The variables NAME_url, NAME_push and NAME_key say what it announced,
// the files NAME.out and NAME.err what it printed.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: serve NAME ARGS...")
	}
	ts.Value(worldKey{}).(*world).start(ts, args[0], args[1:])
}

func (w *world) start(ts *testscript.TestScript, name string, args []string) {
	s := &server{args: args, cmd: exec.Command("vitrine", args...), said: &bytes.Buffer{}, ended: make(chan error, 1)}
	s.cmd.Dir = ts.Getenv("WORK")
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "TMPDIR=" + ts.Getenv("TMPDIR"), "GORACE=" + os.Getenv("GORACE")}
	var err error
	s.log, err = os.OpenFile(ts.MkAbs(name+".err"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	s.cmd.Stderr = s.log
	stdout, err := s.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(s.cmd.Start())
	if w.servers == nil {
		w.servers = map[string]*server{}
	}
	w.servers[name] = s
	ts.Defer(func() { s.end() })
	hello := make(chan map[string]string, 1)
	go func() {
		r := bufio.NewReader(io.TeeReader(stdout, s.said))
		hello <- announcement(r, args)
		io.Copy(io.Discard, r)
		s.ended <- s.cmd.Wait()
	}()
	select {
	case s.hello = <-hello:
	case <-time.After(30 * time.Second):
	}
	if s.hello == nil {
		said, _ := os.ReadFile(s.log.Name())
		ts.Fatalf("vitrine %s did not start: %s", strings.Join(args, " "), said)
	}
	for key, value := range s.hello {
		ts.Setenv(name+"_"+key, value)
	}
}

// announcement reads where a server serves: a JSON object, or a line with URLs.
func announcement(r *bufio.Reader, args []string) map[string]string {
	var hello map[string]string
	for _, arg := range args {
		if arg == "--json" {
			if json.NewDecoder(r).Decode(&hello) != nil {
				return nil
			}
			return hello
		}
	}
	line, err := r.ReadString('\n')
	urls := announced.FindAllString(line, -1)
	if err != nil || len(urls) == 0 {
		return nil
	}
	return map[string]string{"url": urls[0], "push": urls[len(urls)-1]}
}

// halt NAME ends a server as an operator would, and demands that it says that
// all went well.
func haltServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: halt NAME")
	}
	s := ts.Value(worldKey{}).(*world).servers[args[0]]
	if s == nil {
		ts.Fatalf("there is no server %s", args[0])
	}
	if err := s.end(); err != nil {
		ts.Fatalf("%s ended with %v", args[0], err)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".out"), s.said.Bytes(), 0o600))
}

func (s *server) end() error {
	if s.log == nil {
		return nil
	}
	defer func() { s.log.Close(); s.log = nil }()
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.ended:
		return err
	case <-time.After(20 * time.Second):
		s.cmd.Process.Kill()
		<-s.ended
		return errors.New("no end within 20 s of SIGTERM")
	}
}

// again NAME starts a stopped server as it was, at the address that it had.
func startAgain(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: again NAME")
	}
	w := ts.Value(worldKey{}).(*world)
	s := w.servers[args[0]]
	if s == nil {
		ts.Fatalf("there was no server %s", args[0])
	}
	again := append([]string{}, s.args...)
	for i, arg := range again {
		if arg == "--listen" {
			again[i+1] = strings.TrimPrefix(s.hello["url"], "http://")
		}
	}
	w.start(ts, args[0], again)
}

// world makes keys, starts two witnesses and a log, and writes tlog.policy,
// admission.yaml, policy.yaml and policy-rebuilt.yaml, which demands a rebuilder.
// The product is the smallest recipe's.
func startWorld(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: world")
	}
	w := ts.Value(worldKey{}).(*world)
	for _, key := range [][]string{
		{"publisher"}, {"rebuilder"}, {"channel"}, {"withdrawer"},
		{"log", "--log", "vitrine.test/log"}, {"w1", "--witness", "w1.test"}, {"w2", "--witness", "w2.test"},
		{"chip", "--simulated-chip"},
	} {
		ts.Check(quietly(append([]string{"keygen", ts.MkAbs(key[0])}, key[1:]...)...))
	}
	logKey := strings.TrimSpace(ts.ReadFile("log.vkey"))
	for _, name := range []string{"w1", "w2"} {
		w.start(ts, name, []string{"witness", "serve", "--dir", name, "--key", name + ".key", "--log", logKey, "--listen", "127.0.0.1:0", "--json"})
	}
	policy := func(logURL string) string {
		return fmt.Sprintf("log %s%s\nwitness w1 %s %s\nwitness w2 %s %s\ngroup both all w1 w2\nquorum both\n",
			logKey, logURL, ts.Getenv("w1_key"), ts.Getenv("w1_url"), ts.Getenv("w2_key"), ts.Getenv("w2_url"))
	}
	write := func(name, text string) { ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600)) }
	write("tlog.policy", policy(""))
	admission := "vitrine: admission/v1\nwriters:\n"
	for _, role := range []string{"publisher", "rebuilder", "channel", "withdrawer"} {
		admission += admitted(ts, role)
	}
	write("admission.yaml", admission)
	w.start(ts, "log", []string{"log", "serve", "--dir", "log", "--key", "log.key", "--policy", "tlog.policy", "--admission", "admission.yaml",
		"--listen", "127.0.0.1:0", "--republish", "10m", "--checkpoint-interval", "200ms", "--receipt-timeout", "2s", "--json"})
	write("tlog.policy", policy(" "+ts.Getenv("log_url")))
	for name, rebuilders := range map[string]string{
		"policy.yaml":         "{unchecked: nobody rebuilds it here}",
		"policy-rebuilt.yaml": "\n  threshold: 1\n  keys:\n    - name: rebuilder\n      key: |\n" + indented(ts, "rebuilder.pub", 8),
	} {
		write(name, fmt.Sprintf(policyTemplate, indented(ts, "tlog.policy", 6), indented(ts, "publisher.pub", 6), rebuilders,
			indented(ts, "channel.pub", 8), indented(ts, "withdrawer.pub", 6), indented(ts, "chip.pem", 8)))
	}
}

// admitted is a writer of an admission file.
func admitted(ts *testscript.TestScript, role string) string {
	return fmt.Sprintf("  - name: %s\n    roles: [%s]\n    products: [tiny]\n    key: |\n%s\n", role, role, indented(ts, role+".pub", 6))
}

const policyTemplate = `vitrine: policy/v1
name: test
product: tiny
logs:
  - policy: |
%s
publishers:
  - name: release team
    key: |
%s
receipt: {maxAge: 10m, minAge: 0s}
evidence: {maxAge: 10m}
epoch: {minimum: 1}
rebuilders: %s
channel:
  name: stable
  maxAge: 24h
  keys:
    - name: channel desk
      key: |
%s
withdrawers:
  - name: security team
    key: |
%s
machines: {unchecked: the machine is made up}
platforms:
  - platform: sev-snp
    isolation: none
    simulatedRoots:
      - |
%s
    minimumTCB: {bootloader: 0, tee: 0, snp: 0, microcode: 0}
    any: []
rules: []
`

func indented(ts *testscript.TestScript, name string, by int) string {
	indent := strings.Repeat(" ", by)
	return indent + strings.ReplaceAll(strings.TrimSpace(ts.ReadFile(name)), "\n", "\n"+indent)
}

// upstream starts an inference server, and keeps its URL in the variable UPSTREAM.
// It says what it was asked.
func upstream(ts *testscript.TestScript, neg bool, args []string) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Messages []struct{ Content string }
		}
		if json.NewDecoder(r.Body).Decode(&asked) != nil || len(asked.Messages) != 1 {
			http.Error(w, "no chat completion", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, word := range []string{"You asked: ", strings.TrimSpace(asked.Messages[0].Content), " \x1b[31m"} {
			chunk, _ := json.Marshal(map[string]any{"choices": []any{map[string]any{"delta": map[string]string{"content": word}}}})
			fmt.Fprintf(w, "data: %s\n\n", chunk)
			w.(http.Flusher).Flush()
		}
		fmt.Fprint(w, "data: [DONE]\n\n")
	}))
	ts.Defer(srv.Close)
	ts.Setenv("UPSTREAM", srv.URL)
}

// post STATUS URL FILE sends a file as anybody on the network can, and prints the
// answer.
func post(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: post STATUS URL FILE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, args[1], strings.NewReader(ts.ReadFile(args[2])))
	ts.Check(err)
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	ts.Check(err)
	if fmt.Sprint(resp.StatusCode) != args[0] {
		ts.Fatalf("%s answered %s: %s", args[1], resp.Status, body)
	}
	fmt.Fprintf(ts.Stdout(), "%s\n", bytes.TrimSpace(body))
}

// files NAME FOLDER serves a folder as any web server does, and keeps its URL in a
// variable.
func serveFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: files NAME FOLDER")
	}
	srv := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[1]))))
	ts.Defer(srv.Close)
	ts.Setenv(args[0], srv.URL)
}
