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
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCheckUpstream(t *testing.T) {
	for _, good := range []string{"http://127.0.0.1:8000", "http://127.0.0.1:8000/", "http://127.9.9.9:1", "http://[::1]:8000"} {
		u, err := url.Parse(good)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkUpstream(u); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "http://127.0.0.1", "http://127.0.0.1:0", "https://127.0.0.1:8000", "http://localhost:8000",
		"http://10.0.0.1:8000", "http://0.0.0.0:8000", "http://[::]:8000", "http://[::1%25lo]:8000", "http://example.com:80",
		"http://[::ffff:10.0.0.1]:80", "http://user@127.0.0.1:8000", "http://127.0.0.1:8000/v1", "http://127.0.0.1:8000?x",
		"http://127.0.0.1:8000#x", "unix:///run/model", "http://2130706433:80", "http://0x7f.1:80", "//127.0.0.1:8000",
	} {
		u, err := url.Parse(bad)
		if err != nil {
			continue // not a URL at all
		}
		if err := checkUpstream(u); err == nil {
			t.Errorf("%s is taken as an upstream", bad)
		}
	}
	if err := checkUpstream(nil); err == nil {
		t.Error("no upstream is taken as one")
	}
}

// Each chunk reaches the client when the upstream writes it.
func TestStreaming(t *testing.T) {
	const chunks = 4
	next := make(chan struct{})
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range chunks {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			<-next // the upstream goes on only when the client has read this one
		}
	}))
	for _, protocol := range []string{"HTTP/2.0", "HTTP/1.1"} {
		t.Run(protocol, func(t *testing.T) {
			client := r.client()
			client.Transport.(*http.Transport).ForceAttemptHTTP2 = protocol == "HTTP/2.0"
			response, err := client.Post("https://"+r.public+"/v1/chat/completions", "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.Proto != protocol {
				t.Fatalf("the protocol is %s", response.Proto)
			}
			lines := bufio.NewReader(response.Body)
			for i := range chunks {
				if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
					t.Fatalf("chunk %d: %q, %v", i, line, err)
				}
				if _, err := lines.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				next <- struct{}{}
			}
			if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
				t.Errorf("after the last chunk: %q, %v", rest, err)
			}
		})
	}
}

// What reaches the upstream names neither the client nor the hop.
func TestForwardedRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(t.Context())
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("X-Answer", "yes")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "answer")
	}))
	request, err := http.NewRequest(http.MethodPut, "https://"+r.public+"/v1/a%2Fb?q=1&q=2", strings.NewReader("prompt"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization":     "Bearer x",
		"X-Forwarded-For":   "192.0.2.1",
		"Forwarded":         "for=192.0.2.1",
		"Proxy-Connection":  "keep-alive",
		"Accept-Encoding":   "identity",
		"X-Forwarded-Proto": "http",
	} {
		request.Header.Set(name, value)
	}
	response, err := r.client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusAccepted || string(answer) != "answer" || response.Header.Get("X-Answer") != "yes" {
		t.Errorf("answer: %s %q %v", response.Status, answer, response.Header)
	}
	if response.Header.Get("Keep-Alive") != "" {
		t.Error("the upstream's hop-by-hop header reached the client")
	}
	if got.Method != http.MethodPut || got.RequestURI != "/v1/a%2Fb?q=1&q=2" || string(body) != "prompt" {
		t.Errorf("the upstream got %s %s %q", got.Method, got.RequestURI, body)
	}
	if got.Header.Get("Authorization") != "Bearer x" {
		t.Error("the client's own header did not reach the upstream")
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Proxy-Connection", "Via"} {
		if got.Header.Get(name) != "" {
			t.Errorf("%s: %s reached the upstream", name, got.Header.Get(name))
		}
	}
	if strings.Contains(got.Host, r.public) {
		t.Errorf("the upstream is asked for the host %s", got.Host)
	}
}

func TestNoUpgrade(t *testing.T) {
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q", r.Header.Get("Upgrade"), r.Header.Get("Connection"))
	}))
	c, err := tls.Dial("tcp", r.public, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK || string(body) != `"" ""` {
		t.Errorf("got %s %s", response.Status, body)
	}
	fmt.Fprintf(c, "CONNECT 192.0.2.1:80 HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n")
	response, err = http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("CONNECT: %s", response.Status)
	}
}

func TestUpstreamIsDown(t *testing.T) {
	gone := listen(t)
	address := gone.Addr().String()
	gone.Close()
	r := start(t, nil, withConfig(func(c *Config) { c.Upstream = &url.URL{Scheme: "http", Host: address} }))
	response, err := r.client().Post("https://"+r.public+"/v1/models", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	detail := checkRefusal(t, "no upstream", response, body, http.StatusBadGateway, "node/upstream")
	if strings.Contains(detail, address) {
		t.Errorf("the client is told the upstream's address: %s", detail)
	}
}

// An upstream that dies in the middle of an answer must not look like one that
// came to its end.
func TestUpstreamDiesInTheMiddle(t *testing.T) {
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "the first half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	for _, http2 := range []bool{true, false} {
		client := r.client()
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = http2
		response, err := client.Get("https://" + r.public + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err == nil {
			t.Errorf("HTTP/2 %t: a cut-off answer ended well: %q", http2, body)
		}
	}
}

func TestRequestBodyBound(t *testing.T) {
	var received int64
	var mu sync.Mutex
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		mu.Lock()
		received = n
		mu.Unlock()
	}))
	client := r.client()
	post := func(body io.Reader) (*http.Response, []byte, error) {
		response, err := client.Post("https://"+r.public+"/", "application/octet-stream", body)
		if err != nil {
			return nil, nil, err
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		return response, answer, err
	}
	if response, _, err := post(bytes.NewReader(make([]byte, maxRequestBytes))); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("a body of the greatest size: %v %v", response, err)
	}
	mu.Lock()
	if received != maxRequestBytes {
		t.Errorf("the upstream received %d bytes", received)
	}
	mu.Unlock()
	response, answer, err := post(bytes.NewReader(make([]byte, maxRequestBytes+1)))
	if err != nil {
		t.Fatal(err)
	}
	checkRefusal(t, "one byte more", response, answer, http.StatusRequestEntityTooLarge, "node/too-large")
	// Without a length beforehand.
	response, answer, err = post(io.MultiReader(bytes.NewReader(make([]byte, maxRequestBytes+1))))
	if err != nil {
		t.Fatal(err)
	}
	checkRefusal(t, "one byte more, of unknown length", response, answer, http.StatusRequestEntityTooLarge, "node/too-large")
}

// A client that sends its body byte by byte is cut off; one that has sent it
// may wait for the answer as long as it takes.
func TestSlowUpload(t *testing.T) {
	const bound = 300 * time.Millisecond
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		time.Sleep(3 * bound)
		_, _ = io.WriteString(w, "done")
	}), withNode(func(n *Node) { n.uploadTimeout = bound }))
	for _, http2 := range []bool{true, false} {
		client := r.client()
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = http2

		response, err := client.Post("https://"+r.public+"/", "text/plain", strings.NewReader("prompt"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if string(body) != "done" || err != nil {
			t.Errorf("HTTP/2 %t: a slow answer to a quick request: %s %q, %v", http2, response.Status, body, err)
		}

		began := time.Now()
		slow, feed := io.Pipe()
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					feed.Close()
					return
				case <-time.After(bound / 10):
					if _, err := feed.Write([]byte("x")); err != nil {
						return
					}
				}
			}
		}()
		response, err = client.Post("https://"+r.public+"/", "text/plain", slow)
		if err == nil {
			if response.StatusCode == http.StatusOK {
				t.Errorf("HTTP/2 %t: a body that never ends: %s", http2, response.Status)
			}
			response.Body.Close()
		}
		close(stop)
		if took := time.Since(began); took > 20*bound {
			t.Errorf("HTTP/2 %t: a slow client was served for %v", http2, took)
		}
	}
}

// A client that stops to read does not hold the upstream for ever.
func TestStalledReader(t *testing.T) {
	const bound = 300 * time.Millisecond
	ended := make(chan error, 1)
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chunk := make([]byte, 64<<10)
		for {
			if _, err := w.Write(chunk); err != nil {
				ended <- err
				return
			}
		}
	}), withNode(func(n *Node) { n.clientStall = bound }))
	for _, protocol := range []string{"h2", "http/1.1"} {
		client := r.client()
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = protocol == "h2"
		response, err := client.Get("https://" + r.public + "/")
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the upstream still writes for a client that does not read", protocol)
		}
		response.Body.Close()
	}
}

func TestSlowHandshake(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the header timeout")
	}
	t.Parallel()
	r := start(t, nil)
	c, err := net.Dial("tcp", r.public)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * headerTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
		t.Fatalf("a client that says nothing reads: %v", err)
	} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Errorf("a client that says nothing is still connected after %v", 2*headerTimeout)
	}
}

// Neither prompt, answer nor path may be in the log, at any level.
func TestNothingIsLogged(t *testing.T) {
	const secret = "s3cret-words"
	upstream := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, secret)
		if r.URL.Query().Has("die") {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	r := start(t, http.HandlerFunc(upstream))
	client := r.client()
	for _, path := range []string{"/v1/" + secret, "/?q=" + secret, "/?die&q=" + secret, "/.well-known/vitrine/" + secret, "/.well-known/vitrine/evidence?nonce=" + secret} {
		response, err := client.Post("https://"+r.public+path, "text/"+secret, strings.NewReader(secret))
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	// And when the upstream's answer is not HTTP.
	garbage := listen(t)
	defer garbage.Close()
	go func() {
		for {
			c, err := garbage.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, secret+"\r\n\r\n")
			c.Close()
		}
	}()
	r.node.forward = newForwarder(&url.URL{Scheme: "http", Host: garbage.Addr().String()}, r.node.logger)
	response, body := r.get(client, "/"+secret)
	checkRefusal(t, "not HTTP", response, body, http.StatusBadGateway, "node/upstream")
	if strings.Contains(string(body), secret) {
		t.Errorf("the upstream's garbage reached the client: %s", body)
	}
	if logged := r.logged.String(); strings.Contains(logged, secret) {
		t.Errorf("the log holds what clients and upstream said:\n%s", logged)
	}
}
