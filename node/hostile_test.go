package node

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/node/evidence"
)

// What a client can write where a request's target belongs must not become
// another target, nor another request, in the upstream's eyes.
func TestRequestTargets(t *testing.T) {
	var mu sync.Mutex
	var got []string
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.RequestURI)
	}))
	reached := func() (all []string) {
		mu.Lock()
		defer mu.Unlock()
		all, got = got, nil
		return all
	}

	for line, want := range map[string]string{
		"GET /v1?q HTTP/1.1":                                           "/v1?q",
		"GET https://node/v1?q HTTP/1.1":                               "/v1?q",
		"GET https://elsewhere/v1 HTTP/1.1":                            "/v1",
		"GET https://node HTTP/1.1":                                    "/",
		"GET //elsewhere/v1 HTTP/1.1":                                  "//elsewhere/v1",
		"GET http:v1 HTTP/1.1":                                         "",
		"GET http:%2Fv1 HTTP/1.1":                                      "",
		"GET * HTTP/1.1":                                               "",
		"OPTIONS * HTTP/1.1":                                           "",
		"PRI * HTTP/2.0":                                               "",
		"GET /v1?\xe2\x80\xa8 HTTP/1.1":                                "",
		"CONNECT elsewhere:443 HTTP/1.1":                               "",
		"CONNECT /v1 HTTP/1.1":                                         "",
		"GET /.well-known/vitrine/ HTTP/1.1":                           "",
		"GET https://elsewhere/.well-known/vitrine/evidence HTTP/1.1":  "",
		"GET http:/.well-known/vitrine/evidence HTTP/1.1":              "",
		"GET http:///x/../.well-known/vitrine/../vitrine/ok HTTP/1.1":  "",
		"GET http://elsewhere/%2e%2e/.well-known/vitrine/ok? HTTP/1.1": "",
	} {
		c := r.dial()
		fmt.Fprintf(c, "%s\r\nHost: node\r\nConnection: close\r\n\r\n", line)
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		seen := reached()
		switch {
		case want == "" && (len(seen) != 0 || response.StatusCode == http.StatusOK):
			t.Errorf("%q: %s; the upstream was asked for %q", line, response.Status, seen)
		case want != "" && !slices.Equal(seen, []string{want}):
			t.Errorf("%q: %s; the upstream was asked for %q, want %q", line, response.Status, seen, want)
		}
		c.Close()
	}

	// HTTP/2 carries a target with spaces, and Go's client sends it.
	for _, target := range []*url.URL{
		{RawQuery: "q HTTP/1.0"},
		{RawQuery: " "},
		{RawQuery: "q#\u2028"},
		{Opaque: "v1"},
		{Opaque: "*"},
		{Opaque: "http:v1"},
	} {
		target.Scheme, target.Host = "https", r.public
		if target.Opaque == "" {
			target.Path = "/v1"
		}
		response, err := r.client().Do(&http.Request{Method: http.MethodGet, URL: target, Header: http.Header{}})
		if err == nil {
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			checkRefusal(t, target.String(), response, body, http.StatusNotFound, "node/not-found")
		}
		if seen := reached(); len(seen) != 0 {
			t.Errorf("%s: the upstream was asked for %q", target, seen)
		}
	}
}

// Whatever target the node takes, the upstream reads the same path, and never
// one of the node's own.
func FuzzTarget(f *testing.F) {
	for _, target := range []string{
		"/", "/v1?q", "/v1?q HTTP/1.0", "*", "http:v1", "https://node", "https://node/v1", "//a/b", "/a%2Fb", "/a b", "/%20?%20", "/%0d%0a",
		"/x/../.well-known/vitrine/evidence", "/.well-known/%76itrine/evidence", "/.well-known/vitrine", "/?a;b&c=%zz", "/#x", "?q",
	} {
		f.Add(target)
	}
	var sent bytes.Buffer
	forward := newForwarder(&url.URL{Scheme: "http", Host: "127.0.0.1:8000"}, slog.New(slog.DiscardHandler))
	forward.proxy.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if err := r.Write(&sent); err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
	})
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := (&http.Request{Method: http.MethodGet, URL: u, RequestURI: target, Header: http.Header{}, Host: "node", Body: http.NoBody}).WithContext(t.Context())
		if !plainTarget(r) || reserved(u.Path) {
			return
		}
		sent.Reset()
		answer := httptest.NewRecorder()
		forward.proxy.ServeHTTP(answer, r)
		if answer.Code != http.StatusNoContent {
			t.Fatalf("%q: %d", target, answer.Code)
		}
		upstream := bufio.NewReader(&sent)
		read, err := http.ReadRequest(upstream)
		if err != nil {
			t.Fatalf("%q is no request any more: %v", target, err)
		}
		want := u.Path
		if want == "" {
			want = "/"
		}
		if read.URL.Path != want || read.ProtoMajor != 1 || read.ProtoMinor != 1 || reserved(read.URL.Path) || upstream.Buffered() != 0 {
			t.Errorf("%q was read as %q, and reached the upstream as %q", target, u.Path, read.RequestURI)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Two readings of where a request ends would let one client speak in the next
// one's name on the connection to the upstream.
func TestSmuggling(t *testing.T) {
	var mu sync.Mutex
	var got []string
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the node broke it off
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%s %s %q %d %q", r.Method, r.RequestURI, body, r.ContentLength, r.TransferEncoding))
	}))
	const inner = "GET /smuggled HTTP/1.1\r\nHost: node\r\n\r\n"
	for name, test := range map[string]struct {
		request string
		want    []string // nil if nothing may reach the upstream
	}{
		"a length": {"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", []string{`POST / "abc" 3 []`}},
		"chunks with an extension": {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\n\r\n",
			[]string{`POST / "abc" -1 ["chunked"]`}},
		"both": {"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			[]string{`POST / "" -1 ["chunked"]`}},
		"a method that seldom has a body": {fmt.Sprintf("GET / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner),
			[]string{fmt.Sprintf(`GET / %q %d []`, inner, len(inner))}},
		"an underscore": {"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer_Encoding: chunked\r\nContent_Length: 0\r\n\r\nabc",
			[]string{`POST / "abc" 3 []`}},
		"the length is between hops": {"POST / HTTP/1.1\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
			[]string{`POST / "abc" 3 []`}},
		"two lengths":          {"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", nil},
		"two lengths in one":   {"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc", nil},
		"a length with a sign": {"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc", nil},
		"another coding":       {"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", nil},
		"two codings":          {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", nil},
		"a space":              {"POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", nil},
		"a vertical tab":       {"POST / HTTP/1.1\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", nil},
		"a carriage return":    {"GET / HTTP/1.1\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n", nil},
		"a zero byte":          {"GET / HTTP/1.1\r\nX: a\x00\r\n\r\n", nil},
		"a bad chunk size":     {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial()
			if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			line, rest, _ := strings.Cut(test.request, "\r\n")
			fmt.Fprintf(c, "%s\r\nHost: node\r\n%sGET /next HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n", line, rest)
			answer, _ := io.ReadAll(c)
			mu.Lock()
			seen := got
			got = nil
			mu.Unlock()
			if n := len(seen); n > 0 && seen[n-1] == `GET /next "" 0 []` && test.want != nil {
				seen = seen[:n-1] // after the first, or after the connection's end not at all
			}
			if !slices.Equal(seen, test.want) {
				t.Errorf("the upstream was asked %q, want %q; the client got %q", seen, test.want, answer)
			}
		})
	}
}

func TestStripHeader(t *testing.T) {
	header := http.Header{}
	for _, name := range []string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Trailer", "Upgrade", "Http2-Settings", "Expect",
		"Transfer-Encoding", "Transfer_Encoding", "transfer_encoding", "Content-Length", "Content_Length", "TE",
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-User", "X_Forwarded_For", "X-Forwarded_Proto", "X-Real-Ip", "X_real_IP", "Proxy",
	} {
		header[name] = []string{"x"}
	}
	kept := []string{"Authorization", "Content-Type", "Cookie", "Te", "X-Api-Key", "X-Forward", "X-Request-Id", "X_Api_Key"}
	for _, name := range kept {
		header[name] = []string{"x"}
	}
	stripHeader(header)
	var left []string
	for name := range header {
		left = append(left, name)
	}
	slices.Sort(left)
	if !slices.Equal(left, kept) {
		t.Errorf("left are %q, want %q", left, kept)
	}
}

// Nobody asked the upstream to speak another protocol, and nobody lets it.
func TestUpstreamSwitchesProtocols(t *testing.T) {
	upstream := listen(t)
	defer upstream.Close()
	go func() {
		for {
			c, err := upstream.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				request, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				header := ""
				if request.URL.Path == "/upgrade" {
					header = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
				}
				fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\n%s\r\nunbounded", header)
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	r := start(t, nil, withConfig(func(c *Config) { c.Upstream = &url.URL{Scheme: "http", Host: upstream.Addr().String()} }))
	for _, head := range []string{"GET /", "GET /upgrade"} {
		for _, wish := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "Connection: x\r\nUpgrade: websocket\r\n"} {
			c := r.dial()
			fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: node\r\n%s\r\n", head, wish)
			response, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			checkRefusal(t, head+" 101", response, body, http.StatusBadGateway, "node/upstream")
		}
	}
	response, body := r.get(r.client(), "/upgrade")
	checkRefusal(t, "101 over HTTP/2", response, body, http.StatusBadGateway, "node/upstream")
}

// Requests beyond what waits for the upstream are told so at once.
func TestTooManyForwarded(t *testing.T) {
	const limit = 2
	goOn := make(chan struct{})
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-goOn }),
		withNode(func(n *Node) { n.forward.slots = make(chan struct{}, limit) }))
	client := r.client()
	var waiting sync.WaitGroup
	for range limit {
		waiting.Go(func() {
			if response, body := r.get(client, "/"); response.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", response.Status, body)
			}
		})
	}
	within(t, 5*time.Second, func() bool { return len(r.node.forward.slots) == limit })
	r.refused(client, "/", http.StatusServiceUnavailable, "node/busy")
	// Evidence does not wait for the upstream.
	r.refused(client, evidence.Path, http.StatusServiceUnavailable, "node/no-statement")
	close(goOn)
	waiting.Wait()
}

// One connection that asks for a lot of evidence waits for itself.
func TestOneConnectionAsksForALot(t *testing.T) {
	r := start(t, nil)
	leafHash := r.pushRelease("1.0.0")
	r.document(r.client(), "")
	hold := make(chan struct{})
	r.guest.setHook(func() error { <-hold; return nil })
	greedy := r.client()
	var asking sync.WaitGroup
	for i := range maxStreams - 4 {
		asking.Go(func() { r.document(greedy, nonceQuery(sampleNonce(byte(i)))) })
	}
	within(t, 5*time.Second, func() bool { return len(r.node.slots) == maxEvidencePerConnection })
	time.Sleep(50 * time.Millisecond) // for more, if there were more
	if n := len(r.node.slots); n != maxEvidencePerConnection {
		t.Errorf("one connection holds %d places in the queue", n)
	}
	asking.Go(func() {
		document, spki := r.document(r.client(), nonceQuery(sampleNonce(200)))
		checkBinding(t, document, spki, leafHash)
	})
	within(t, 5*time.Second, func() bool { return len(r.node.slots) == maxEvidencePerConnection+1 })
	close(hold)
	asking.Wait()
}

// Clients that ask for evidence and do not read it do not stand in the way of
// those that do.
func TestEvidenceThatIsNotRead(t *testing.T) {
	r := start(t, nil)
	leafHash := r.pushRelease("1.0.0")
	r.pushed(&evidence.Push{Endorsements: []evidence.Endorsement{{Type: "crl", Data: make([]byte, 600<<10)}}})
	r.document(r.client(), "")
	const lazy = 20
	for range lazy {
		client := r.client()
		// Room for the beginning of an answer.
		client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10}
		for range maxEvidencePerConnection {
			response, err := client.Get("https://" + r.public + evidence.Path)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("a lazy client: %s", response.Status)
			}
		}
	}
	if held := len(r.node.answers); held <= maxEvidenceRequests {
		t.Fatalf("%d answers are held: the test does not show what it is for", held)
	}
	document, spki := r.document(r.client(), nonceQuery(sampleNonce(1)))
	checkBinding(t, document, spki, leafHash)
}

// A client that is gone by its turn does not take it.
func TestGoneBeforeItsTurn(t *testing.T) {
	r := start(t, nil)
	gone, leave := context.WithCancel(t.Context())
	leave()
	for range 100 {
		if _, err := r.node.enter(gone); err == nil {
			t.Fatal("the attester is given to a client that is gone")
		}
	}
	leaveAttester, err := r.node.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leaveAttester()
}

// However fast checkpoints come, the attester has time for clients.
func TestCheckpointsInQuickSuccession(t *testing.T) {
	r := start(t, nil)
	began := time.Now()
	r.pushRelease("1.0.0")
	for i := range 50 {
		r.pushed(&evidence.Push{Checkpoint: string(checkpointOf(t, []byte("leaf"), fmt.Sprint(i)))})
		time.Sleep(time.Millisecond)
	}
	most := int64(time.Since(began)/refreshPause) + 1
	if made := r.guest.attested.Load(); made > most {
		t.Errorf("%d reports were made in %v", made, time.Since(began))
	}
	if made := r.guest.attested.Load(); made == 0 {
		t.Error("no report was made")
	}
}

// A frame is read into memory as soon as its length is known, so a length is
// refused before its frame.
func TestHTTP2Bounds(t *testing.T) {
	r := start(t, nil)
	c, err := tls.Dial("tcp", r.public, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const typeData, typeSettings, typeGoAway = 0, 4, 7 // RFC 9113, §6
	// The preface, empty settings, and the head of a frame of 2^20-1 bytes.
	fmt.Fprintf(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	_, _ = c.Write([]byte{0, 0, 0, typeSettings, 0, 0, 0, 0, 0})
	_, _ = c.Write([]byte{0x0f, 0xff, 0xff, typeData, 0, 0, 0, 0, 1})
	settings := map[uint16]uint32{5: 16384} // the frame size unless it is said
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(c, head); err != nil {
			t.Fatalf("the frame is waited for: %v", err)
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(c, payload); err != nil {
			t.Fatal(err)
		}
		if head[3] == typeSettings {
			for p := payload; len(p) >= 6; p = p[6:] {
				settings[binary.BigEndian.Uint16(p)] = binary.BigEndian.Uint32(p[2:])
			}
		}
		if head[3] == typeGoAway {
			if code := binary.BigEndian.Uint32(payload[4:]); code != 6 { // FRAME_SIZE_ERROR
				t.Errorf("the connection ends with code %d", code)
			}
			break
		}
	}
	for id, most := range map[uint16]uint32{
		1: 4096,                              // HEADER_TABLE_SIZE
		3: maxStreams,                        // MAX_CONCURRENT_STREAMS
		4: maxStreamBytes,                    // INITIAL_WINDOW_SIZE
		5: maxFrameBytes,                     // MAX_FRAME_SIZE
		6: maxRequestHeaderBytes + 10*(32+1), // MAX_HEADER_LIST_SIZE, with what RFC 9113 adds for each field
	} {
		if value, said := settings[id]; value > most || (!said && id != 1) {
			t.Errorf("setting %d is %d (said: %t), more than %d", id, value, said, most)
		}
	}
}

// Nothing is left of a node that has stopped, and nobody can keep it.
func TestStop(t *testing.T) {
	var open atomic.Int64
	upstream := httptest.NewUnstartedServer(http.NotFoundHandler())
	upstream.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
	upstream.Start()
	defer upstream.Close()
	target, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, nil, withConfig(func(c *Config) { c.Upstream = target }))
	r.get(r.client(), "/")
	if open.Load() == 0 {
		t.Fatal("no connection to the upstream is kept")
	}
	push, err := net.Dial("tcp", r.push)
	if err != nil {
		t.Fatal(err)
	}
	defer push.Close()
	fmt.Fprintf(push, "POST /push HTTP/1.1\r\nHost: node\r\nContent-Length: 1000\r\n\r\n{")
	time.Sleep(50 * time.Millisecond) // until it is being read

	began := time.Now()
	r.stop()
	err = <-r.finished
	r.finished <- err // for the clean-up
	if took := time.Since(began); took > shutdownGrace/2 {
		t.Errorf("a slow push kept the node for %v", took)
	}
	within(t, 5*time.Second, func() bool { return open.Load() == 0 })
}
