package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The bounds of a forwarded request. There is none on the length of an answer
// nor on its whole time: a model writes for as long as it writes, and a client
// that stops to read is cut off by clientStall.
const (
	maxRequestBytes        = 32 << 20        // a prompt with images in it
	maxRequestHeaderBytes  = 32 << 10        // of the client's request
	maxResponseHeaderBytes = 256 << 10       // of the upstream's answer
	uploadTimeout          = 2 * time.Minute // for the whole body of a request
	clientStall            = time.Minute     // for one write to the client
	upstreamDialTimeout    = 5 * time.Second
	upstreamHeaderTimeout  = 10 * time.Minute // a long prompt is read before the first token is written
	upstreamConnections    = 256
	maxForwarded           = 1024 // requests at a time, most of them waiting for one of these connections
)

// checkUpstream refuses whatever is not plain HTTP to a loopback address. A
// name is refused too: what it resolves to is decided by a file or a server,
// and prompts leave the machine if that changes.
func checkUpstream(u *url.URL) error {
	if u == nil {
		return errors.New("no upstream was given: name the inference server, such as http://127.0.0.1:8000")
	}
	if u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Path != "" && u.Path != "/") {
		return fmt.Errorf("the upstream %q is not of the form http://ADDRESS:PORT", u.Redacted())
	}
	address, err := netip.ParseAddrPort(u.Host)
	if err != nil {
		return fmt.Errorf("the upstream %q does not name a loopback address and a port, such as 127.0.0.1:8000: %w", u.Host, err)
	}
	if ip := address.Addr(); !ip.IsLoopback() || ip.Zone() != "" {
		return fmt.Errorf("the upstream %s is not a loopback address: prompts would leave the attested machine", u.Host)
	}
	if address.Port() == 0 {
		return fmt.Errorf("the upstream %s has no port", u.Host)
	}
	return nil
}

// forwarder passes requests on to the inference server and streams the answers
// back. What upstream gets names neither the client nor the node.
type forwarder struct {
	proxy     *httputil.ReverseProxy
	transport *http.Transport
	slots     chan struct{} // one for each request that is being forwarded
}

func newForwarder(upstream *url.URL, logger *slog.Logger) *forwarder {
	target := &url.URL{Scheme: upstream.Scheme, Host: upstream.Host}
	transport := &http.Transport{
		Proxy:                  nil, // never from the environment
		DialContext:            (&net.Dialer{Timeout: upstreamDialTimeout}).DialContext,
		DisableCompression:     true, // the bytes are the client's and the upstream's
		MaxConnsPerHost:        upstreamConnections,
		MaxIdleConnsPerHost:    upstreamConnections / 4,
		IdleConnTimeout:        time.Minute,
		ResponseHeaderTimeout:  upstreamHeaderTimeout,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			stripHeader(r.Out.Header)
		},
		Transport:     transport,
		FlushInterval: -1,                         // each chunk as it comes
		ErrorLog:      log.New(io.Discard, "", 0), // may quote the upstream
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
				writeError(w, errTooLarge(tooLarge.Limit))
				return
			}
			logger.Debug("forwarding failed", "why", failure(err))
			writeError(w, errUpstream())
		},
	}
	return &forwarder{proxy: proxy, transport: transport, slots: make(chan struct{}, maxForwarded)}
}

// stripHeader removes from a client's request what is between two hops, or what
// an upstream would take for the word of a proxy that it trusts. An underscore
// counts as a hyphen: what comes after CGI cannot tell the two apart.
func stripHeader(header http.Header) {
	for name := range header {
		plain := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		switch {
		case name == "Te": // says trailers and nothing else, by httputil.ReverseProxy's hand
		case slices.Contains(hopHeader, plain), strings.HasPrefix(plain, "x-forwarded-"), strings.HasPrefix(plain, "proxy-"):
			delete(header, name)
		}
	}
}

// hopHeader is removed for these reasons: an upgraded connection passes every
// bound; the node frames and expects anew (RFC 9112, §6; RFC 9110, §10.1.1); a
// client says for itself where it comes from.
var hopHeader = []string{
	"connection", "keep-alive", "te", "trailer", "upgrade", "http2-settings",
	"transfer-encoding", "content-length", "expect",
	"forwarded", "x-real-ip", "proxy",
}

// failure says what went wrong between node and upstream without the error's
// own text, which may quote a request or an answer.
func failure(err error) string {
	var network *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return "the client went away"
	case os.IsTimeout(err):
		return "the upstream or the client took too long"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens at the upstream's address"
	case errors.As(err, &network):
		return "the connection to the upstream broke in " + network.Op
	}
	return "the upstream did not answer in HTTP, or broke off"
}

// forward answers a request with what the upstream says to it.
func (f *forwarder) forward(w *bounds, r *http.Request) {
	if r.Method == http.MethodConnect {
		writeError(w, errMethod("the methods of HTTP but CONNECT"))
		return
	}
	if r.ContentLength > maxRequestBytes {
		writeError(w, errTooLarge(maxRequestBytes))
		return
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		writeError(w, errBusy())
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		// The server's own writer: MaxBytesReader has it end the connection.
		r.Body = http.MaxBytesReader(w.ResponseWriter, r.Body, maxRequestBytes)
	}
	f.proxy.ServeHTTP(w, r)
}
