package verifier

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

var ctx = context.Background()

func wantCode(t *testing.T, err error, code hardware.Code) {
	t.Helper()
	var r *hardware.Rejection
	if !errors.As(err, &r) || r.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	if _, ok := r.Code.Info(); !ok {
		t.Errorf("the code %s is not in the closed list", r.Code)
	}
}

// TestTransport: the request goes over the very connection whose key was
// appraised, after the verdict, and the next one needs no new verdict.
func TestTransport(t *testing.T) {
	s, c := newServer(t), newClient(t, nil)
	for i := range 3 {
		got, err := c.say(ctx, s.url()+"/v1/chat", fmt.Sprint("prompt ", i))
		if err != nil || got != fmt.Sprint("answer to prompt ", i) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if n := c.appraised(); n != 1 {
		t.Errorf("%d verdicts, want 1", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) != 4 || !strings.Contains(s.asked[0], evidence.Path) {
		t.Fatalf("the server was asked %q", s.asked)
	}
	_, first, _ := strings.Cut(s.asked[0], "@")
	for _, a := range s.asked {
		if _, conn, _ := strings.Cut(a, "@"); conn != first {
			t.Errorf("%q came over another connection than the evidence, %s", a, first)
		}
	}
}

// TestRefusedBeforeTheRequest: of a request to a machine that is refused not a
// byte arrives.
func TestRefusedBeforeTheRequest(t *testing.T) {
	s, c := newServer(t), newClient(t, nil)
	s.scene = func() *scene {
		sc := newScene(t)
		sc.report.LaunchDigest[0] ^= 1
		return sc
	}
	_, err := c.say(ctx, s.url()+"/v1/chat", "secret")
	wantCode(t, err, "registers/mismatch")
	if n, others := s.requests(); n != 1 || len(others) > 0 {
		t.Errorf("asked for evidence %d times and for %q", n, others)
	}
	if c.appraised() != 1 || c.verdicts[0].Accepted() {
		t.Errorf("%d verdicts", c.appraised())
	}
}

// TestRelay: a man in the middle who ends TLS and passes everything on.
func TestRelay(t *testing.T) {
	s, c := newServer(t), newClient(t, nil)
	relay := newServer(t)
	relay.evidence = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		inner := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		defer inner.CloseIdleConnections()
		resp, err := inner.Get(s.url() + r.URL.RequestURI())
		if err != nil {
			t.Error(err)
			return false
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body)
		return true
	}
	_, err := c.say(ctx, relay.url()+"/v1/chat", "secret")
	wantCode(t, err, "binding/tls-key")
	if _, others := relay.requests(); len(others) > 0 {
		t.Errorf("the relay got %q", others)
	}
	// The twin: the same node without the relay.
	if _, err := c.say(ctx, s.url()+"/v1/chat", "secret"); err != nil {
		t.Error(err)
	}
}

// TestReplay: a node that answers every nonce with the same evidence.
func TestReplayedEvidence(t *testing.T) {
	s, c := newServer(t), newClient(t, nil)
	var first []byte
	s.evidence = func(w http.ResponseWriter, _ *http.Request, fresh []byte) bool {
		if first == nil {
			first = fresh
		}
		_, _ = w.Write(first)
		return true
	}
	if _, err := c.say(ctx, s.url(), "one"); err != nil {
		t.Fatal(err)
	}
	c.tick(DefaultInterval)
	_, err := c.say(ctx, s.url(), "two")
	wantCode(t, err, "binding/challenge")
}

func TestTLS(t *testing.T) {
	tests := []struct {
		name   string
		code   hardware.Code
		change func(*testing.T, *server)
	}{
		{"TLS 1.2", "connection/tls-version", func(_ *testing.T, s *server) {
			s.change(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
		}},
		{"no hybrid key exchange", "connection/group", func(_ *testing.T, s *server) {
			s.change(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} })
		}},
		{"two certificates", "connection/certificate", func(t *testing.T, s *server) {
			c := certificate(t, nil)
			c.Certificate = append(c.Certificate, certificate(t, nil).Certificate...)
			s.use(c)
		}},
		{"signed by somebody else", "connection/certificate", func(t *testing.T, s *server) {
			c := certificate(t, nil)
			ca := certificate(t, nil)
			parent := must[*x509.Certificate](t)(x509.ParseCertificate(ca.Certificate[0]))
			child := must[*x509.Certificate](t)(x509.ParseCertificate(c.Certificate[0]))
			der, err := x509.CreateCertificate(nil, child, parent, child.PublicKey, ca.PrivateKey)
			if err != nil {
				t.Fatal(err)
			}
			c.Certificate[0] = der
			s.use(c)
		}},
		{"past its time", "connection/certificate", func(t *testing.T, s *server) {
			s.use(certificate(t, func(c *x509.Certificate) { c.NotAfter = t0.Add(-time.Minute) }))
		}},
		{"before its time", "connection/certificate", func(t *testing.T, s *server) {
			s.use(certificate(t, func(c *x509.Certificate) { c.NotBefore = t0.Add(time.Minute) }))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, c := newServer(t), newClient(t, nil)
			tt.change(t, s)
			_, err := c.say(ctx, s.url(), "secret")
			wantCode(t, err, tt.code)
			if n, others := s.requests(); n+len(others) > 0 {
				t.Errorf("something was asked over such a connection: %d, %q", n, others)
			}
		})
	}
}

// TestVerifyConnection covers what crypto/tls already keeps from happening.
func TestVerifyConnection(t *testing.T) {
	cert := must[*x509.Certificate](t)(x509.ParseCertificate(certificate(t, nil).Certificate[0]))
	good := tls.ConnectionState{Version: tls.VersionTLS13, CurveID: tls.X25519MLKEM768, PeerCertificates: []*x509.Certificate{cert}}
	if r := verifyConnection(good, t0); r != nil {
		t.Fatal(r)
	}
	for code, edit := range map[hardware.Code]func(*tls.ConnectionState){
		"connection/tls-version": func(cs *tls.ConnectionState) { cs.Version = tls.VersionTLS12 },
		"connection/group":       func(cs *tls.ConnectionState) { cs.CurveID = tls.X25519 },
		"connection/resumed":     func(cs *tls.ConnectionState) { cs.DidResume = true },
		"connection/certificate": func(cs *tls.ConnectionState) { cs.PeerCertificates = nil },
	} {
		cs := good
		edit(&cs)
		if r := verifyConnection(cs, t0); r == nil || r.Code != code {
			t.Errorf("got %v, want %s", r, code)
		}
	}
}

// TestNewKey: a connection that ends with another key is appraised for itself.
func TestNewKey(t *testing.T) {
	s, c := newServer(t), newClient(t, nil)
	s.handler = func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close") }
	for want := 1; want <= 2; want++ {
		for range 2 {
			if _, err := c.say(ctx, s.url(), "x"); err != nil {
				t.Fatal(err)
			}
			if got := c.appraised(); got != want {
				t.Fatalf("%d verdicts, want %d", got, want)
			}
		}
		s.use(certificate(t, nil))
	}
}

// TestManyConnections: connections to one key share its verdict.
func TestManyConnections(t *testing.T) {
	s, c := newServer(t), newClient(t, nil)
	const n = 8
	all := make(chan struct{})
	var here sync.WaitGroup
	here.Add(n)
	s.handler = func(w http.ResponseWriter, r *http.Request) {
		here.Done()
		<-all
	}
	go func() { here.Wait(); close(all) }()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := c.say(ctx, s.url(), "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := c.appraised(); got != 1 {
		t.Errorf("%d verdicts for %d connections to one key, want 1", got, n)
	}
	connections := map[string]bool{}
	_, others := s.requests()
	for _, o := range others {
		_, conn, _ := strings.Cut(o, "@")
		connections[conn] = true
	}
	if len(connections) != n {
		t.Errorf("%d connections for %d requests at once", len(connections), n)
	}
}

func TestInterval(t *testing.T) {
	s, c := newServer(t), newClient(t, func(o *TransportOptions) { o.Interval = time.Minute })
	for i, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {59 * time.Second, 1}, {time.Second, 2}, {30 * time.Second, 2}, {time.Hour - time.Minute - 31*time.Second, 3}, {-time.Second, 4}, {time.Second, 4}} {
		c.tick(step.after)
		if _, err := c.say(ctx, s.url(), "x"); err != nil {
			t.Fatal(err)
		}
		if got := c.appraised(); got != step.want {
			t.Errorf("step %d: %d verdicts, want %d", i, got, step.want)
		}
	}
}

// TestRefusedLater: a node that becomes another one is refused once its verdict
// no longer stands.
func TestRefusedLater(t *testing.T) {
	s, c := newServer(t), newClient(t, nil)
	if _, err := c.say(ctx, s.url(), "x"); err != nil {
		t.Fatal(err)
	}
	s.scene = func() *scene {
		sc := newScene(t)
		sc.rebuilds = nil
		return sc
	}
	c.tick(DefaultInterval)
	_, err := c.say(ctx, s.url(), "secret")
	wantCode(t, err, "rebuild/threshold")
}

// TestRedirects: where a node points to is appraised for itself.
func TestRedirects(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request went out in the clear") }))
	defer plain.Close()
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != evidence.Path {
			t.Errorf("%s went to a server that nobody appraised", r.URL)
		}
	}))
	other.StartTLS()
	defer other.Close()

	s, c := newServer(t), newClient(t, nil)
	var to string
	s.handler = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusTemporaryRedirect) }
	to = plain.URL
	_, err := c.say(ctx, s.url(), "secret")
	wantCode(t, err, "connection/not-attested")
	to = other.URL
	if _, err = c.say(ctx, s.url(), "secret"); rejection(err) == nil {
		t.Errorf("got %v, want a rejection", err)
	}
	_, err = c.say(ctx, plain.URL, "secret")
	wantCode(t, err, "connection/not-attested")
}

// TestEvidenceRedirect: evidence is about the machine that the connection ends
// in, so nobody is asked elsewhere for it.
func TestEvidenceRedirect(t *testing.T) {
	genuine, s, c := newServer(t), newServer(t), newClient(t, nil)
	s.evidence = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		http.Redirect(w, r, genuine.url()+r.URL.RequestURI(), http.StatusFound)
		return true
	}
	_, err := c.say(ctx, s.url(), "secret")
	wantCode(t, err, "node/bad-answer")
	if n, _ := genuine.requests(); n != 0 {
		t.Error("the redirection was followed")
	}
}

func TestBadAnswers(t *testing.T) {
	status := func(code int, body string) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	edited := func(old, new string) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(w http.ResponseWriter, _ *http.Request, b []byte) bool {
			if !bytes.Contains(b, []byte(old)) {
				t.Errorf("no %q in the document", old)
			}
			_, _ = w.Write(bytes.Replace(b, []byte(old), []byte(new), 1))
			return true
		}
	}
	tests := []struct {
		name   string
		code   hardware.Code
		answer func(http.ResponseWriter, *http.Request, []byte) bool
	}{
		{"no statement yet", "node/no-statement", status(503, `{"code":"node/no-statement","detail":"none was pushed"}`)},
		{"attester", "node/attester", status(500, `{"code":"node/attester","detail":"x"}`)},
		{"no checkpoint", "node/no-checkpoint", status(503, `{"code":"node/no-checkpoint","detail":"x"}`)},
		{"busy", "node/busy", status(503, `{"code":"node/busy","detail":"x"}`)},
		{"nonce", "node/bad-nonce", status(400, `{"code":"node/bad-nonce","detail":"x"}`)},
		{"push", "node/bad-push", status(400, `{"code":"node/bad-push","detail":"x"}`)},
		{"upstream", "node/upstream", status(502, `{"code":"node/upstream","detail":"x"}`)},
		{"too much", "node/too-large", status(413, `{"code":"node/too-large","detail":"x"}`)},
		{"method", "node/method", status(405, `{"code":"node/method","detail":"x"}`)},
		{"a code that comes with another status", "node/bad-answer", status(502, `{"code":"node/busy","detail":"x"}`)},
		{"an error of its own", "node/bad-answer", status(500, `{"code":"node/made-up","detail":"x"}`)},
		{"a code that is not the node's", "node/bad-answer", status(500, `{"code":"receipt/quorum","detail":"x"}`)},
		{"a page", "node/bad-answer", status(500, `<html>`)},
		{"another server", "node/not-found", status(404, `not found`)},
		{"no JSON", "evidence/malformed", status(200, `<html>`)},
		{"nothing", "evidence/malformed", status(200, ``)},
		{"an unknown member", "evidence/malformed", edited(`{`, `{"extra":1,`)},
		{"another format", "evidence/format", edited("/evidence/v1", "/evidence/v9")},
		{"another platform's parts", "evidence/platform", edited(`"platform":"sev-snp"`, `"platform":"tpm"`)},
		{"too large", "evidence/too-large", func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			chunk := bytes.Repeat([]byte(" "), 1<<16)
			for range evidence.MaxDocumentBytes>>16 + 2 {
				_, _ = w.Write(chunk)
			}
			return true
		}},
		{"endless header", "node/bad-answer", func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return true
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for range 200 {
				if _, err := io.WriteString(conn, "X: "+strings.Repeat("x", 1<<16)+"\r\n"); err != nil {
					break
				}
			}
			return true
		}},
		{"a header of many lines", "node/bad-answer", func(w http.ResponseWriter, _ *http.Request, b []byte) bool {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return true
			}
			defer conn.Close()
			var out bytes.Buffer
			out.WriteString("HTTP/1.1 200 OK\r\n")
			for i := range 20_000 {
				fmt.Fprintf(&out, "%x:\r\n", i)
			}
			fmt.Fprintf(&out, "Content-Length: %d\r\n\r\n%s", len(b), b)
			_, _ = conn.Write(out.Bytes())
			return true
		}},
		{"breaks off", "node/bad-answer", func(w http.ResponseWriter, _ *http.Request, b []byte) bool {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			_, _ = w.Write(b[:len(b)/2])
			return true
		}},
		{"no HTTP", "node/bad-answer", func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return true
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "220 smtp.example ESMTP\r\n")
			return true
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, c := newServer(t), newClient(t, nil)
			s.evidence = tt.answer
			_, err := c.say(ctx, s.url(), "secret")
			wantCode(t, err, tt.code)
			if _, others := s.requests(); len(others) > 0 {
				t.Errorf("the request went out: %q", others)
			}
			r, err := Fetch(ctx, s.url(), FetchOptions{Now: func() time.Time { return t0 }})
			if err == nil {
				_, err = r.Input()
			}
			wantCode(t, err, tt.code)
		})
	}
}

// TestRudeNode: what a stranger says in the place of evidence moves no cursor.
func TestRudeNode(t *testing.T) {
	s := newServer(t)
	for _, answer := range []string{
		"HTTP/1.1 503 x\r\nContent-Length: %d\r\n\r\n" + `{"code":"node/busy","detail":"\u001b[2J\u202everified"}`,
		"HTTP/1.1 200 OK\r\n\x1b[2Jverified\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" + `{"\u001b[2Jverified":1}`,
	} {
		s.evidence = func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return true
			}
			defer conn.Close()
			_, body, _ := strings.Cut(answer, "\r\n\r\n")
			_, _ = io.WriteString(conn, strings.Replace(answer, "%d", fmt.Sprint(len(body)), 1))
			return true
		}
		_, err := newClient(t, nil).say(ctx, s.url(), "x")
		if r := rejection(err); r == nil || !strings.Contains(r.Detail, "verified") || strings.ContainsAny(r.Detail, "\x1b\u202e") {
			t.Errorf("got %v", err)
		}
	}
}

// TestSmuggledAnswer: bytes after the evidence would be taken for the answer to
// the first request.
func TestSmuggledAnswer(t *testing.T) {
	s, c := newServer(t), newClient(t, nil)
	s.evidence = func(w http.ResponseWriter, _ *http.Request, b []byte) bool {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return true
		}
		defer conn.Close()
		var out bytes.Buffer
		fmt.Fprintf(&out, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
		out.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled")
		_, _ = conn.Write(out.Bytes())
		return true
	}
	got, err := c.say(ctx, s.url(), "prompt")
	if err != nil || got != "answer to prompt" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestNodeEndsTheConnection: another connection will do if it ends with the
// same key.
func TestNodeEndsTheConnection(t *testing.T) {
	s, c := newServer(t), newClient(t, nil)
	closing := func(w http.ResponseWriter, _ *http.Request, b []byte) bool {
		w.Header().Set("Connection", "close")
		_, _ = w.Write(b)
		return true
	}
	s.evidence = closing
	if got, err := c.say(ctx, s.url(), "prompt"); err != nil || got != "answer to prompt" {
		t.Errorf("%q, %v", got, err)
	}
	if n := c.appraised(); n != 1 {
		t.Errorf("%d verdicts, want 1", n)
	}
	c = newClient(t, nil)
	s.evidence = func(w http.ResponseWriter, r *http.Request, b []byte) bool {
		s.use(certificate(t, nil))
		return closing(w, r, b)
	}
	_, err := c.say(ctx, s.url(), "secret")
	wantCode(t, err, "connection/key-changed")
}

func TestUnreachable(t *testing.T) {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	addr := l.Addr().String()
	l.Close()
	_, err := newClient(t, nil).say(ctx, "https://"+addr, "x")
	wantCode(t, err, "node/unreachable")
	_, err = Fetch(ctx, "https://"+addr, FetchOptions{})
	wantCode(t, err, "node/unreachable")
}

// TestSilentNode: a node that says nothing holds nobody longer than they want
// to wait.
func TestSilentNode(t *testing.T) {
	s, c := newServer(t), newClient(t, nil)
	release := make(chan struct{})
	s.evidence = func(w http.ResponseWriter, r *http.Request, _ []byte) bool { <-release; return true }
	defer close(release)
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := c.say(short, s.url(), "x")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	short, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err = Fetch(short, s.url(), FetchOptions{Now: func() time.Time { return t0 }})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("took %s", d)
	}
}

// TestStreams: an answer arrives as it is made.
func TestStreams(t *testing.T) {
	s, c := newServer(t), newClient(t, nil)
	seen := make(chan struct{})
	s.handler = func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		<-seen
		fmt.Fprintln(w, "last")
	}
	resp, err := c.Get(s.url())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	if line, err := r.ReadString('\n'); err != nil || line != "first\n" {
		t.Fatalf("%q, %v", line, err)
	}
	close(seen)
	if line, err := r.ReadString('\n'); err != nil || line != "last\n" {
		t.Fatalf("%q, %v", line, err)
	}
}

// TestDated: without nonces, evidence is dated by its checkpoint.
func TestDated(t *testing.T) {
	s := newServer(t)
	c := newClient(t, func(o *TransportOptions) { o.Fetch.Dated = true })
	if _, err := c.say(ctx, s.url(), "x"); err != nil {
		t.Fatal(err)
	}
	c.tick(9*time.Minute + time.Second)
	_, err := c.say(ctx, s.url(), "x")
	wantCode(t, err, "current/evidence-stale")
}

func TestTransportOptions(t *testing.T) {
	_, err := NewTransport(TransportOptions{})
	wantCode(t, err, "policy/missing")
	if _, err := NewTransport(TransportOptions{Options: newScene(t).options(), Interval: -1}); err == nil {
		t.Error("a negative interval passes")
	}
}

// TestFetch: what was fetched can be appraised, saved, and replayed.
func TestFetch(t *testing.T) {
	s := newServer(t)
	r, err := Fetch(ctx, s.url(), FetchOptions{Now: func() time.Time { return t0 }})
	if err != nil {
		t.Fatal(err)
	}
	in := must[Input](t)(r.Input())
	live, err := Appraise(ctx, in, newScene(t).options())
	if err != nil {
		t.Fatal(err)
	}
	file := must[[]byte](t)(r.Marshal())
	back := must[*Recording](t)(ParseRecording(file))
	again := must[[]byte](t)(back.Marshal())
	if !bytes.Equal(file, again) {
		t.Error("a recording changes by being read and written")
	}
	replayed, err := Replay(ctx, back, back.Time, newScene(t).options())
	if err != nil {
		t.Fatal(err)
	}
	sameButRecorded(t, live, replayed)

	for _, bad := range []string{"http://" + s.addr, s.url() + "/v1", s.url() + "?x", "", "https://", "https://u@" + s.addr, "://"} {
		if _, err := Fetch(ctx, bad, FetchOptions{}); err == nil {
			t.Errorf("fetching from %q", bad)
		}
	}
}

// sameButRecorded holds a replay against the live verdict: the same for each
// check that a file can repeat, and said to be history.
func sameButRecorded(t *testing.T, live, replayed *Verdict) {
	t.Helper()
	if !replayed.Historical || !strings.HasPrefix(replayed.Sentence(), "HISTORICAL, as of 2026-11-20T12:00:00Z: ") {
		t.Errorf("sentence %q", replayed.Sentence())
	}
	recorded := map[string]bool{"challenge": true, "TLS key": true, "evidence age": live.Checks[17].Saw == "made for the nonce, so just now", "clock": true}
	for i, c := range replayed.Checks {
		want := live.Checks[i].Result
		if recorded[c.Name] {
			want = Recorded
		}
		if c.Name != live.Checks[i].Name || c.Result != want {
			t.Errorf("check %q is %q live and %q replayed", c.Name, live.Checks[i].Result, c.Result)
		}
	}
	var out struct {
		Accepted, Historical bool
		Isolation            string
	}
	if err := json.Unmarshal(must[[]byte](t)(json.Marshal(replayed)), &out); err != nil {
		t.Fatal(err)
	}
	if !out.Accepted || !out.Historical || out.Isolation != "none" {
		t.Errorf("%+v", out)
	}
}
