package verifier

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/node/evidence"
)

// certificate is a self-signed one, as nodes have it, unless edit changes it.
func certificate(t testing.TB, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vitrine node"},
		NotBefore: t0.Add(-time.Hour), NotAfter: t0.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	if edit != nil {
		edit(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

func spkiOf(t testing.TB, c tls.Certificate) []byte {
	t.Helper()
	x, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return x.RawSubjectPublicKeyInfo
}

// server is a node of the default scene on loopback: a real TLS server whose
// evidence is simulated and answers the nonce that it is asked with.
type server struct {
	t    testing.TB
	addr string

	mu       sync.Mutex
	config   *tls.Config
	key      []byte                                                // of the newest connection
	scene    func() *scene                                         // before the document is made
	evidence func(http.ResponseWriter, *http.Request, []byte) bool // true: it answered
	handler  http.HandlerFunc
	asked    []string // "METHOD path @connection" of each request
}

func newServer(t testing.TB) *server {
	t.Helper()
	chip(t)
	s := &server{t: t, scene: func() *scene { return newScene(t) }}
	s.use(certificate(t, nil))
	s.config.MinVersion = tls.VersionTLS13
	s.handler = func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "answer to %s", b)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	hs := &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = hs.Serve(tls.NewListener(l, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.config.Clone(), nil
		}}))
	}()
	t.Cleanup(func() {
		_ = hs.Close()
		<-done
	})
	return s
}

// use gives new connections another certificate.
func (s *server) use(c tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config == nil {
		s.config = &tls.Config{}
	}
	s.config.Certificates = []tls.Certificate{c}
	s.key = spkiOf(s.t, c)
}

func (s *server) change(f func(*tls.Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.config)
}

func (s *server) url() string { return "https://" + s.addr }

// requests are those other than for evidence.
func (s *server) requests() (evidenceAsked int, others []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if strings.Contains(a, evidence.Path) {
			evidenceAsked++
		} else {
			others = append(others, a)
		}
	}
	return evidenceAsked, others
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.Method+" "+r.URL.Path+" @"+r.RemoteAddr)
	key, handler, answer := s.key, s.handler, s.evidence
	s.mu.Unlock()
	if r.URL.Path != evidence.Path {
		handler(w, r)
		return
	}
	sc := s.scene()
	sc.tlsKey = key
	if q := r.URL.Query(); q.Has(evidence.NonceParameter) {
		n, err := evidence.ParseNonce(q.Get(evidence.NonceParameter))
		if err != nil {
			http.Error(w, "nonce", http.StatusBadRequest)
			return
		}
		sc.answered = n
	} else {
		sc.asked = nil
		sc.dated = t0.Add(-time.Minute)
	}
	b, err := sc.document().Marshal()
	if err != nil {
		s.t.Error(err)
	}
	if answer != nil && answer(w, r, b) {
		return
	}
	_, _ = w.Write(b)
}

// client is a client of the default policy that counts its verdicts.
type client struct {
	*http.Client
	transport *Transport
	mu        sync.Mutex
	verdicts  []*Verdict
	clock     time.Time
}

func newClient(t testing.TB, edit func(*TransportOptions)) *client {
	t.Helper()
	c := &client{clock: t0}
	opts := TransportOptions{
		Options: Options{Policy: newScene(t).policy, State: &MemoryState{}, Now: func() time.Time {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.clock
		}},
		OnVerdict: func(_ string, v *Verdict, _ error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.verdicts = append(c.verdicts, v)
		},
	}
	if edit != nil {
		edit(&opts)
	}
	tr, err := NewTransport(opts)
	if err != nil {
		t.Fatal(err)
	}
	c.transport = tr
	c.Client = &http.Client{Transport: tr}
	t.Cleanup(tr.CloseIdleConnections)
	return c
}

func (c *client) appraised() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.verdicts)
}

func (c *client) tick(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock = c.clock.Add(d)
}

// say sends a prompt and returns the answer.
func (c *client) say(ctx context.Context, url, prompt string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(prompt))
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
