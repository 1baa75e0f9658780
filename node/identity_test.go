package node

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/node/evidence"
)

func TestHandshake(t *testing.T) {
	r := start(t, nil)
	for name, test := range map[string]struct {
		adjust func(*tls.Config)
		want   func(tls.ConnectionState) error
	}{
		"hybrid by default": {
			func(c *tls.Config) {},
			func(s tls.ConnectionState) error { return wantCurve(s, tls.X25519MLKEM768) },
		},
		"hybrid though the client would rather not": {
			func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519, tls.X25519MLKEM768} },
			func(s tls.ConnectionState) error { return wantCurve(s, tls.X25519MLKEM768) },
		},
		"an older client": {
			func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} },
			func(s tls.ConnectionState) error { return wantCurve(s, tls.X25519) },
		},
		"HTTP/2": {
			func(c *tls.Config) { c.NextProtos = []string{"h2"} },
			func(s tls.ConnectionState) error {
				if s.NegotiatedProtocol != "h2" {
					return fmt.Errorf("protocol %q", s.NegotiatedProtocol)
				}
				return nil
			},
		},
	} {
		state := r.handshake(test.adjust)
		if state.Version != tls.VersionTLS13 {
			t.Errorf("%s: TLS version %x", name, state.Version)
		}
		if err := test.want(state); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c := state.PeerCertificates[0]
		if lifetime := c.NotAfter.Sub(c.NotBefore); lifetime > MaxKeyLifetime+clockSkew {
			t.Errorf("%s: the certificate lives for %v", name, lifetime)
		}
		if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil || c.PublicKeyAlgorithm != x509.ECDSA {
			t.Errorf("%s: the certificate is not signed by its own ECDSA key: %v", name, err)
		}
	}
	for name, adjust := range map[string]func(*tls.Config){
		"TLS 1.2":    func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
		"P-256 only": func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} },
	} {
		config := &tls.Config{InsecureSkipVerify: true}
		adjust(config)
		if c, err := tls.Dial("tcp", r.public, config); err == nil {
			c.Close()
			t.Errorf("%s: the handshake succeeded", name)
		}
	}
}

func wantCurve(s tls.ConnectionState, want tls.CurveID) error {
	if s.CurveID != want {
		return fmt.Errorf("key exchange %v, want %v", s.CurveID, want)
	}
	return nil
}

// A ticket would let a client speak to whoever holds the ticket's key, without
// a certificate to compare.
func TestNoTickets(t *testing.T) {
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") }))
	cache := tls.NewLRUClientSessionCache(4)
	for range 2 {
		c, err := tls.Dial("tcp", r.public, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, ServerName: "node"})
		if err != nil {
			t.Fatal(err)
		}
		// A ticket would come with the first bytes from the server.
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
		if c.ConnectionState().DidResume {
			t.Error("the connection was resumed")
		}
		c.Close()
	}
	if session, ok := cache.Get("node"); ok {
		t.Errorf("the node gave a ticket: %v", session)
	}
}

func TestNobodySpeaksPlainHTTPToClients(t *testing.T) {
	reached := false
	r := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	response, err := http.Get("http://" + r.public + "/")
	if err == nil {
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			t.Errorf("plain HTTP: %s", response.Status)
		}
	}
	if reached {
		t.Error("a request without TLS reached the upstream")
	}
}

// A connection that was opened before the key changed gets evidence for the
// key that it was opened with.
func TestKeyRotation(t *testing.T) {
	const lifetime = 4 * time.Second
	r := start(t, nil, withConfig(func(c *Config) { c.KeyLifetime = lifetime }))
	leafHash := r.pushRelease("1.0.0")

	c, err := tls.Dial("tcp", r.public, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	oldKey := c.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo
	within(t, lifetime, func() bool {
		return !bytes.Equal(r.handshake().PeerCertificates[0].RawSubjectPublicKeyInfo, oldKey)
	})

	answers := bufio.NewReader(c)
	checkBinding(t, askOn(t, c, answers, evidence.Path+nonceQuery(sampleNonce(1))), oldKey, leafHash)
	// The node closes it then: what follows comes under the new key.
	if _, err := answers.ReadByte(); err != io.EOF {
		t.Errorf("a connection under the old key stays open after its answer: %v", err)
	}

	client := r.client()
	document, spki := r.document(client, "")
	checkBinding(t, document, spki, leafHash)
	if bytes.Equal(spki, oldKey) {
		t.Error("a new connection has the old key")
	}
}

// A connection does not outlive its key, whatever happens on it.
func TestConnectionEndsWithItsKey(t *testing.T) {
	const lifetime = time.Second
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, "token "); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	r := start(t, endless, withConfig(func(c *Config) { c.KeyLifetime = lifetime }))
	began := time.Now()
	response, err := r.client().Get("https://" + r.public + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err == nil {
		t.Error("an endless answer ended well")
	}
	if took := time.Since(began); took < lifetime/4 || took > 10*lifetime {
		t.Errorf("the connection ended after %v, for a key that lives %v", took, lifetime)
	}
}

// After the key changed, a client is moved over without an error.
func TestClientsMoveToTheNewKey(t *testing.T) {
	const lifetime = 2 * time.Second
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") }),
		withConfig(func(c *Config) { c.KeyLifetime = lifetime }))
	client := r.client()
	keys := make(map[string]int)
	connections := 0
	for end := time.Now().Add(2 * lifetime); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			if !i.Reused {
				connections++
			}
		}}
		request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, "https://"+r.public+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		keys[hexSHA256(response.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)]++
	}
	if len(keys) < 3 || connections > 2*len(keys)+2 {
		t.Errorf("%d keys were seen on %d connections", len(keys), connections)
	}
}

func TestTooManyConnections(t *testing.T) {
	r := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), withConfig(func(c *Config) { c.MaxConnections = 2 }))
	first, err := tls.Dial("tcp", r.public, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := tls.Dial("tcp", r.public, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	if third, err := tls.Dial("tcp", r.public, &tls.Config{InsecureSkipVerify: true}); err == nil {
		third.Close()
		t.Error("a third connection was taken")
	}
	second.Close()
	within(t, 5*time.Second, func() bool {
		c, err := tls.Dial("tcp", r.public, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}

// askOn asks for evidence over an open connection.
func askOn(t *testing.T, c net.Conn, answers *bufio.Reader, path string) *evidence.Document {
	t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: node\r\n\r\n", path)
	response, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	document, err := evidence.ParseDocument(body)
	if err != nil {
		t.Fatalf("%s: %v", response.Status, err)
	}
	return document
}
