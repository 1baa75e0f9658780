package node

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// An answer may pause, and end late, for longer than a client may stall.
func TestPausesInAnAnswer(t *testing.T) {
	const bound = 200 * time.Millisecond
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/nothing" {
			time.Sleep(3 * bound)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		for _, word := range []string{"first ", "last"} {
			_, _ = io.WriteString(w, word)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(3 * bound)
		}
	}), withNode(func(n *Node) { n.clientStall = bound }))
	for _, http2 := range []bool{true, false} {
		client := r.client()
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = http2
		for path, want := range map[string]string{"/": "first last", "/nothing": ""} {
			response, err := client.Get("https://" + r.public + path)
			if err != nil {
				t.Errorf("HTTP/2 %t, %s: %v", http2, path, err)
				continue
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || string(body) != want {
				t.Errorf("HTTP/2 %t, %s: %q, %v", http2, path, body, err)
			}
		}
	}
}

// dial opens a connection for HTTP/1.1 written by hand.
func (r *running) dial() *tls.Conn {
	r.t.Helper()
	c, err := tls.Dial("tcp", r.public, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// A body that does not come is not waited for, whoever does not read it.
func TestBodyThatDoesNotCome(t *testing.T) {
	const bound = 300 * time.Millisecond
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	}), withNode(func(n *Node) { n.uploadTimeout = bound }))
	for name, head := range map[string]string{
		"a method that is not taken": "POST /.well-known/vitrine/evidence HTTP/1.1\r\nContent-Length: 1000",
		"evidence":                   "GET /.well-known/vitrine/evidence HTTP/1.1\r\nContent-Length: 1000",
		"chunks":                     "GET /.well-known/vitrine/evidence HTTP/1.1\r\nTransfer-Encoding: chunked",
		"no such path":               "POST /.well-known/vitrine/x HTTP/1.1\r\nContent-Length: 1000",
		"an upstream in a hurry":     "POST /v1 HTTP/1.1\r\nContent-Length: 1000",
		"an upstream and chunks":     "POST /v1 HTTP/1.1\r\nTransfer-Encoding: chunked",
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial()
			if err := c.SetDeadline(time.Now().Add(20 * bound)); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(c, "%s\r\nHost: node\r\n\r\n1", head)
			if answer, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the body is still waited for, after %q", answer)
			}
		})
	}
}

// Who waits to be told to go on is answered, and not waited for either.
func TestExpectContinue(t *testing.T) {
	const bound = 500 * time.Millisecond
	gone := listen(t)
	gone.Close()
	dead := start(t, nil, withConfig(func(c *Config) { c.Upstream = &url.URL{Scheme: "http", Host: gone.Addr().String()} }),
		withNode(func(n *Node) { n.uploadTimeout = bound }))
	var expected string
	alive := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		expected = r.Header.Get("Expect")
		_, _ = io.Copy(w, r.Body)
	}))
	ask := func(r *running) (*tls.Conn, *bufio.Reader) {
		c := r.dial()
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: node\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n")
		return c, bufio.NewReader(c)
	}

	began := time.Now()
	_, answers := ask(dead)
	response, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	checkRefusal(t, "no upstream", response, body, http.StatusBadGateway, "node/upstream")
	if took := time.Since(began); took >= bound {
		t.Errorf("the answer came after %v", took)
	}
	if _, err := answers.ReadByte(); err != io.EOF {
		t.Errorf("the connection stays open, with a body that may or may not follow: %v", err)
	}

	c, answers := ask(alive)
	if line, err := answers.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := answers.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "prompt")
	if response, err = http.ReadResponse(answers, nil); err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "prompt" || expected != "" {
		t.Errorf("%s: %q, %v; the upstream was sent the expectation %q", response.Status, body, err, expected)
	}
}

// An upstream that does not read ends a request in time: HTTP/1 does not see
// the client leave before it has sent all.
func TestUpstreamTakesNoBody(t *testing.T) {
	const bound = 300 * time.Millisecond
	deaf := listen(t)
	defer deaf.Close()
	go func() {
		for {
			c, err := deaf.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	r := start(t, nil, withConfig(func(c *Config) { c.Upstream = &url.URL{Scheme: "http", Host: deaf.Addr().String()} }),
		withNode(func(n *Node) { n.uploadTimeout = bound }))
	for _, http2 := range []bool{true, false} {
		client := r.client()
		client.Timeout = 30 * bound
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = http2
		response, err := client.Post("https://"+r.public+"/", "text/plain", bytes.NewReader(make([]byte, maxRequestBytes)))
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("HTTP/2 %t: %v", http2, err)
		}
		if err == nil {
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			checkRefusal(t, "not read", response, body, http.StatusBadGateway, "node/upstream")
		}
	}
	within(t, 20*bound, func() bool { return len(r.node.forward.slots) == 0 })
}

// Nor does one who sends request upon request and reads nothing keep a
// connection, though each answer is small.
func TestClientReadsNoAnswers(t *testing.T) {
	const bound = 300 * time.Millisecond
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Answer", strings.Repeat("x", 32<<10))
		w.WriteHeader(http.StatusNoContent)
	}), withNode(func(n *Node) { n.clientStall = bound }))
	c := r.dial()
	if err := c.SetDeadline(time.Now().Add(60 * bound)); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: node\r\n\r\n")
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the node still waits for the client to read")
		}
		if err != nil {
			break
		}
	}
}

// What the upstream says beforehand does not make the node forget that the
// connection's key is an old one.
func TestOldKeyAfterEarlyHints(t *testing.T) {
	const lifetime = 4 * time.Second
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "answer")
	}), withConfig(func(c *Config) { c.KeyLifetime = lifetime }))
	c := r.dial()
	within(t, lifetime, func() bool {
		return !bytes.Equal(r.handshake().PeerCertificates[0].RawSubjectPublicKeyInfo, c.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	})
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: node\r\n\r\n")
	answers := bufio.NewReader(c)
	for _, status := range []int{http.StatusEarlyHints, http.StatusOK} {
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != status || response.Close != (status == http.StatusOK) {
			t.Errorf("%s, close: %t", response.Status, response.Close)
		}
		if _, err := io.ReadAll(response.Body); err != nil {
			t.Fatal(err)
		}
	}
}
