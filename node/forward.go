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
	"syscall"
	"time"
)

// The bounds of a forwarded request. There is none on the length of an answer
// nor on its whole time: a model writes for as long as it writes, and a client
// that stops to read is cut off by clientStall.
const (
	maxRequestBytes        = 32 << 20        // a prompt with images in it
	maxRequestHeaderBytes  = 64 << 10        // of the client's request
	maxResponseHeaderBytes = 256 << 10       // of the upstream's answer
	uploadTimeout          = 2 * time.Minute // for the whole body of a request
	clientStall            = time.Minute     // for one write to the client
	upstreamDialTimeout    = 5 * time.Second
	upstreamHeaderTimeout  = 10 * time.Minute // a long prompt is read before the first token is written
	upstreamConnections    = 256
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
	proxy *httputil.ReverseProxy
	// Both are the constants of the same name, shorter in tests.
	uploadTimeout, clientStall time.Duration
}

func newForwarder(upstream *url.URL, logger *slog.Logger) *forwarder {
	target := &url.URL{Scheme: upstream.Scheme, Host: upstream.Host}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			// An upgraded connection would pass every bound below.
			r.Out.Header.Del("Connection")
			r.Out.Header.Del("Upgrade")
		},
		Transport: &http.Transport{
			Proxy:                  nil, // never from the environment
			DialContext:            (&net.Dialer{Timeout: upstreamDialTimeout}).DialContext,
			DisableCompression:     true, // the bytes are the client's and the upstream's
			MaxConnsPerHost:        upstreamConnections,
			MaxIdleConnsPerHost:    upstreamConnections / 4,
			IdleConnTimeout:        time.Minute,
			ResponseHeaderTimeout:  upstreamHeaderTimeout,
			MaxResponseHeaderBytes: maxResponseHeaderBytes,
		},
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
	return &forwarder{proxy: proxy, uploadTimeout: uploadTimeout, clientStall: clientStall}
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

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		writeError(w, errMethod("the methods of HTTP but CONNECT"))
		return
	}
	control := http.NewResponseController(w)
	if r.ContentLength > maxRequestBytes {
		writeError(w, errTooLarge(maxRequestBytes))
		return
	}
	if r.Body != http.NoBody && r.Body != nil {
		// A deadline that passes while the answer streams would end that
		// too, so it goes when the body has been read.
		_ = control.SetReadDeadline(time.Now().Add(f.uploadTimeout))
		lift := func() { _ = control.SetReadDeadline(time.Time{}) }
		defer lift()
		r.Body = &upload{ReadCloser: http.MaxBytesReader(w, r.Body, maxRequestBytes), finished: lift}
	}
	f.proxy.ServeHTTP(&patientWriter{ResponseWriter: w, control: control, stall: f.clientStall}, r)
}

// upload calls finished once the body was read to its end.
type upload struct {
	io.ReadCloser
	finished func()
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	if err == io.EOF {
		u.finished()
	}
	return n, err
}

// patientWriter gives each write its own deadline, in place of one for the
// whole answer.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
}

func (w *patientWriter) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.stall))
	return w.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController calls for a flush.
func (w *patientWriter) FlushError() error {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.stall))
	return w.control.Flush()
}

// Unwrap lets http.ResponseController find the rest.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
