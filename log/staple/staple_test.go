package staple_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/internal/logtest"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/staple"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
)

func TestMain(m *testing.M) { logtest.Main(m) }

// A pushPort is a node as far as its sidecar sees one: it parses a push as a node
// does, and keeps the last.
type pushPort struct {
	mu   sync.Mutex
	last *evidence.Push
	n    int
}

func (p *pushPort) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	push, err := evidence.ParsePush(body)
	if e := new(evidence.Error); errors.As(err, &e) {
		w.WriteHeader(e.Status)
		w.Write(e.Marshal())
		return
	}
	if r.URL.Path != evidence.PushPath || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = push
	p.n++
	w.WriteHeader(http.StatusNoContent)
}

func (p *pushPort) get() (*evidence.Push, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, p.n
}

// A scene is a log with a release in it, whose transparent statement is in a
// file, and a node's push port.
type scene struct {
	t       *testing.T
	w       *logtest.World
	c       *log.Client
	stopLog func()
	release *statement.Signed
	file    string
	node    *pushPort
	config  staple.Config
}

func newScene(t *testing.T, witnesses int) *scene {
	t.Helper()
	s := &scene{t: t, w: logtest.NewWorld(t, witnesses), node: &pushPort{}}
	s.w.RepublishInterval = time.Second
	var url string
	_, url, s.stopLog = s.w.Open()
	s.c = log.NewClient(url, s.w.Policy, nil)
	for _, data := range [][]byte{logtest.Recipe, logtest.Lock} {
		if _, err := s.c.PutAddendum(t.Context(), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	s.release = logtest.Sign(t, logtest.Release("1.0.0", ""), "publisher")
	s.file = filepath.Join(t.TempDir(), "release.json")
	s.write(s.file, s.add(s.release))
	srv := httptest.NewServer(s.node)
	t.Cleanup(srv.Close)
	s.config = staple.Config{Log: s.c, Statements: []string{s.file}, PushURL: srv.URL}
	return s
}

func (s *scene) add(signed *statement.Signed) *receipt.Transparent {
	s.t.Helper()
	t, _, err := s.c.Add(s.t.Context(), signed.Leaf)
	if err != nil {
		s.t.Fatal(err)
	}
	return t
}

func (s *scene) write(path string, t *receipt.Transparent) {
	s.t.Helper()
	text, err := t.Marshal()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// verified reads a transparent statement out of a push, and verifies it.
func (s *scene) verified(text []byte) (*statement.Signed, *receipt.Best, *receipt.Transparent) {
	s.t.Helper()
	t, err := receipt.ParseTransparent(text)
	if err != nil {
		s.t.Fatal(err)
	}
	best, err := s.w.Policy.VerifyTransparent(t, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	signed, err := statement.Parse(t.Leaf)
	if err != nil {
		s.t.Fatal(err)
	}
	return signed, best, t
}

func TestPush(t *testing.T) {
	s := newScene(t, 1)
	s.config.Endorsements = []evidence.Endorsement{{Type: "vcek", Data: []byte("a certificate")}}
	st, err := staple.New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	push := func() *evidence.Push {
		t.Helper()
		if err := st.Push(t.Context()); err != nil {
			t.Fatal(err)
		}
		p, _ := s.node.get()
		return p
	}
	p := push()
	signed, best, _ := s.verified(p.Release)
	if signed.ID != s.release.ID {
		t.Errorf("the release pushed is %s", signed.ID)
	}
	first := best.Oldest
	if len(p.Rebuilds) > 0 || len(p.Withdrawals) > 0 || p.Channel != nil {
		t.Errorf("things were said that nobody said: %+v", p)
	}
	if len(p.Endorsements) != 1 || string(p.Endorsements[0].Data) != "a certificate" {
		t.Errorf("endorsements: %+v", p.Endorsements)
	}
	if _, err := s.w.Policy.OpenCheckpoint([]byte(p.Checkpoint), time.Now()); err != nil {
		t.Errorf("the checkpoint pushed: %v", err)
	}

	// What is said about the release is found, and what is not about it is not.
	other := logtest.Sign(t, logtest.Release("1.1.0", "other"), "publisher")
	s.add(other)
	s.add(logtest.Sign(t, logtest.Rebuild(other, "a"), "rebuilder"))
	s.add(logtest.Sign(t, logtest.Channel(1, other), "channel"))
	s.add(logtest.Sign(t, logtest.Withdrawal(other, "a test"), "withdrawer"))
	if p = push(); len(p.Rebuilds) > 0 || len(p.Withdrawals) > 0 || p.Channel != nil {
		t.Errorf("what is about another release was pushed: %d rebuilds, %d withdrawals, channel %.20s", len(p.Rebuilds), len(p.Withdrawals), p.Channel)
	}
	earlier := logtest.Sign(t, logtest.Rebuild(s.release, "0.1"), "rebuilder")
	later := logtest.Sign(t, logtest.Rebuild(s.release, "0.2"), "rebuilder")
	s.add(earlier)
	s.add(later)
	s.add(logtest.Sign(t, logtest.Channel(3, s.release, other), "channel"))
	s.add(logtest.Sign(t, logtest.Channel(2, s.release), "channel"))
	p = push()
	if len(p.Rebuilds) != 1 {
		t.Fatalf("%d rebuilds of one rebuilder", len(p.Rebuilds))
	}
	if signed, _, _ := s.verified(p.Rebuilds[0]); signed.ID != later.ID {
		t.Error("the rebuilder's last word was not the one pushed")
	}
	if signed, _, _ := s.verified(p.Channel); !hasSequence(signed, 3) {
		t.Error("the channel statement pushed is not that with the largest sequence")
	}
	withdrawal := logtest.Sign(t, logtest.Withdrawal(s.release, "a test"), "withdrawer")
	s.add(withdrawal)
	// A newer channel statement that no longer lists the release counts too.
	s.add(logtest.Sign(t, logtest.Channel(4, other), "channel"))
	p = push()
	if len(p.Withdrawals) != 1 {
		t.Fatalf("%d withdrawals", len(p.Withdrawals))
	}
	if signed, _, _ := s.verified(p.Withdrawals[0]); signed.ID != withdrawal.ID {
		t.Error("another withdrawal was pushed")
	}
	if signed, _, _ := s.verified(p.Channel); !hasSequence(signed, 4) {
		t.Error("the channel statement that drops the release was not pushed")
	}

	// Receipts get newer while the first stays, in the push and in the file.
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, best, tr := s.verified(push().Release)
		if best.Newest.Freshness.After(first.Freshness) {
			if !best.Oldest.Seniority.Equal(first.Seniority) || len(tr.Receipts) != 2 {
				t.Errorf("%d receipts, seniority %v, at first %v", len(tr.Receipts), best.Oldest.Seniority, first.Seniority)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the receipt does not get newer")
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := s.node.get(); !bytes.Equal(text, p.Release) {
		t.Error("the file is not what was pushed last")
	}

	// Without the log, a node that has restarted still gets what there is.
	s.stopLog()
	_, before := s.node.get()
	if err := st.Push(t.Context()); err == nil {
		t.Error("no error without the log")
	}
	if p, n := s.node.get(); n != before+1 || len(p.Rebuilds) != 1 || len(p.Withdrawals) != 1 {
		t.Error("nothing was pushed without the log")
	}
}

func hasSequence(s *statement.Signed, n int64) bool {
	c, ok := s.Statement.Channel()
	return ok && c.Sequence == n
}

// TestStatementsFromFiles: what the log does not say, or not yet, can be given.
func TestStatementsFromFiles(t *testing.T) {
	s := newScene(t, 0)
	channel := logtest.Sign(t, logtest.Channel(1, s.release), "channel")
	path := filepath.Join(t.TempDir(), "channel.json")
	s.write(path, s.add(channel))
	s.config.Statements = append(s.config.Statements, path)
	st, err := staple.New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.stopLog()
	if err := st.Push(t.Context()); err == nil {
		t.Error("no error without the log")
	}
	p, _ := s.node.get()
	if signed, _, _ := s.verified(p.Channel); signed.ID != channel.ID {
		t.Error("the channel statement from the file was not pushed")
	}
}

func TestNewRefuses(t *testing.T) {
	s := newScene(t, 0)
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	other := logtest.Sign(t, logtest.Release("1.1.0", "other"), "publisher")
	second := filepath.Join(dir, "second.json")
	s.write(second, s.add(other))
	rebuild := filepath.Join(dir, "rebuild.json")
	s.write(rebuild, s.add(logtest.Sign(t, logtest.Rebuild(other, "a"), "rebuilder")))
	for name, c := range map[string]struct {
		files []string
		want  string
	}{
		"none":               {nil, "none of the transparent statements is a release"},
		"no release":         {[]string{rebuild}, "none of the transparent statements is a release"},
		"two":                {[]string{s.file, second}, "a node runs one"},
		"of another release": {[]string{s.file, rebuild}, "rebuild.json is not about the release"},
		"missing":            {[]string{filepath.Join(dir, "nothing")}, "nothing"},
		"empty":              {[]string{file("empty", nil)}, "empty"},
		"too long":           {[]string{file("long", make([]byte, receipt.MaxTransparentBytes+1))}, "longer than"},
		"a leaf":             {[]string{file("leaf", s.release.Leaf)}, "leaf"},
	} {
		s.config.Statements = c.files
		if _, err := staple.New(s.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.config.Statements = []string{s.file}
	if _, err := staple.New(s.config); err != nil {
		t.Errorf("the release alone: %v", err)
	}
}

// TestRunWaitsForTheNode: the node boots after its sidecar.
func TestRunWaitsForTheNode(t *testing.T) {
	s := newScene(t, 0)
	var booted atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !booted.Load() {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
			return
		}
		s.node.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s.config.PushURL = srv.URL + "/"
	s.config.Interval = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- staple.Run(ctx, s.config) }()
	time.Sleep(50 * time.Millisecond)
	booted.Store(true)
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, n := s.node.get(); n >= 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the node gets no pushes")
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run ended with %v", err)
	}
}

func TestRefusedPush(t *testing.T) {
	s := newScene(t, 0)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := evidence.NewError(evidence.CodeBadPush, "not today")
		w.WriteHeader(e.Status)
		w.Write(e.Marshal())
	}))
	defer refusing.Close()
	s.config.PushURL = refusing.URL
	st, err := staple.New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	var e *evidence.Error
	if err := st.Push(t.Context()); !errors.As(err, &e) || e.Code != evidence.CodeBadPush {
		t.Errorf("the node's refusal became %v", err)
	}
}

// TestForkEndsTheSidecar: it must not staple the other side's receipts.
func TestForkEndsTheSidecar(t *testing.T) {
	one := newScene(t, 0)
	one.add(logtest.Sign(t, logtest.Release("1.1.0", ""), "publisher"))
	two := newScene(t, 0)
	two.add(logtest.Sign(t, logtest.Release("1.1.0-fork", ""), "publisher"))
	two.add(logtest.Sign(t, logtest.Release("1.2.0", ""), "publisher"))

	// The log's address leads to the one first, then to the other.
	var mu sync.Mutex
	files := http.FileServer(http.Dir(one.w.Dir))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		files.ServeHTTP(w, r)
	}))
	defer srv.Close()
	one.config.Log = log.NewClient(srv.URL, one.w.Policy, nil)
	one.config.Interval = 10 * time.Millisecond
	ended := make(chan error, 1)
	go func() { ended <- staple.Run(t.Context(), one.config) }()
	for {
		if _, n := one.node.get(); n > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	mu.Lock()
	files = http.FileServer(http.Dir(two.w.Dir))
	mu.Unlock()
	select {
	case err := <-ended:
		var fork *log.ForkError
		if !errors.As(err, &fork) {
			t.Errorf("Run ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the sidecar did not notice")
	}
}
