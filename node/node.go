package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vitrine-dev/vitrine/node/evidence"
)

// MaxKeyLifetime is the longest that a TLS key of a node may live.
const MaxKeyLifetime = 24 * time.Hour

// minKeyLifetime leaves a connection the time that its handshake takes.
const minKeyLifetime = time.Second

// wellKnown is the part of the public server's paths that is the node's own;
// all others are the upstream's.
const wellKnown = "/.well-known/vitrine/"

const (
	headerTimeout  = 10 * time.Second // TLS handshake included
	idleTimeout    = 2 * time.Minute
	shutdownGrace  = 10 * time.Second // for answers that still stream
	maxStreams     = 64               // requests at a time on one HTTP/2 connection
	maxStreamBytes = 256 << 10        // received and not yet forwarded, of one request
	maxConnBytes   = 512 << 10        // and of all of a connection
	maxFrameBytes  = 16 << 10         // of HTTP/2: the server holds room for one as soon as it is announced
	defaultMaxOpen = 1024
)

// Config is what a node needs. Attester, Upstream and Logger are required.
type Config struct {
	// Attester is the hardware.
	Attester Attester
	// Upstream is the inference server: http, a loopback address, a port.
	Upstream *url.URL
	// KeyLifetime is how long a TLS key lives; a new one takes over at half of
	// it. Zero means MaxKeyLifetime; more is refused.
	KeyLifetime time.Duration
	// MaxConnections bounds the public server's open connections. Zero means
	// 1024.
	MaxConnections int
	// Now is the clock that dates certificates. Nil means [time.Now].
	Now func() time.Time
	// Logger gets what the node does, and never a request or an answer.
	Logger *slog.Logger
}

// Node is an attested front to an inference server.
type Node struct {
	attester Attester
	platform string
	keys     *keyring
	forward  *forwarder
	logger   *slog.Logger
	maxOpen  int

	turn    chan struct{} // held by whoever uses the attester
	slots   chan struct{} // one for each evidence request that waits for the attester
	answers chan struct{} // one for each evidence request being answered
	parsing chan struct{} // one for each push being parsed

	// The constants of the same names, shorter in tests.
	pushTimeout, uploadTimeout, clientStall time.Duration

	pushing sync.Mutex // held while the next state is made
	state   atomic.Pointer[state]
	changed chan struct{} // says that the state or the key is another
}

// New makes a node: it reads the attester's registers, refuses a configuration
// that the host handed over, and makes the first TLS key.
func New(ctx context.Context, config Config) (*Node, error) {
	if config.Attester == nil {
		return nil, errors.New("a node needs an attester")
	}
	if config.Logger == nil {
		return nil, errors.New("a node needs a logger")
	}
	if err := checkUpstream(config.Upstream); err != nil {
		return nil, err
	}
	lifetime := config.KeyLifetime
	if lifetime == 0 {
		lifetime = MaxKeyLifetime
	}
	if lifetime < minKeyLifetime || lifetime > MaxKeyLifetime {
		return nil, fmt.Errorf("a TLS key may not live for %v: give %v to %v", lifetime, minKeyLifetime, MaxKeyLifetime)
	}
	maxOpen := config.MaxConnections
	if maxOpen == 0 {
		maxOpen = defaultMaxOpen
	}
	if maxOpen < 0 {
		return nil, fmt.Errorf("a node cannot hold %d connections", maxOpen)
	}
	now := config.Now
	if now == nil {
		now = time.Now
	}
	n := &Node{
		attester: config.Attester,
		platform: config.Attester.Platform(),
		forward:  newForwarder(config.Upstream, config.Logger),
		logger:   config.Logger,
		maxOpen:  maxOpen,
		turn:     make(chan struct{}, 1),
		slots:    make(chan struct{}, maxEvidenceRequests),
		answers:  make(chan struct{}, maxEvidenceAnswers),
		parsing:  make(chan struct{}, maxPushes),
		changed:  make(chan struct{}, 1),

		pushTimeout:   pushTimeout,
		uploadTimeout: uploadTimeout,
		clientStall:   clientStall,
	}
	n.state.Store(&state{})
	registers, err := n.registers(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the registers of this %s machine: %w", n.platform, err)
	}
	if err := refuseHostConfiguration(n.platform, registers); err != nil {
		return nil, err
	}
	if n.keys, err = newKeyring(now, lifetime); err != nil {
		return nil, err
	}
	return n, nil
}

// Serve answers clients on public and the sidecar on push until the context is
// done, and returns nil then; it owns both listeners. It may be called once.
func (n *Node) Serve(parent context.Context, public, push net.Listener) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)

	publicServer := &http.Server{
		Handler:                      http.HandlerFunc(n.servePublic),
		TLSConfig:                    n.keys.tlsConfig(),
		ConnContext:                  withConnection,
		ReadHeaderTimeout:            headerTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxRequestHeaderBytes,
		DisableGeneralOptionsHandler: true, // all answers are the handler's
		ErrorLog:                     slog.NewLogLogger(n.logger.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerStream:     maxStreamBytes,
			MaxReceiveBufferPerConnection: maxConnBytes,
			MaxReadFrameSize:              maxFrameBytes,
			WriteByteTimeout:              clientStall,
		},
	}
	pushServer := &http.Server{
		Handler:           http.HandlerFunc(n.servePush),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       n.pushTimeout,
		WriteTimeout:      2 * n.pushTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxPushHeaderBytes,
		ErrorLog:          slog.NewLogLogger(n.logger.Handler(), slog.LevelDebug),
	}

	var running sync.WaitGroup
	start := func(what string, run func() error) {
		running.Go(func() {
			if err := run(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	start("serving clients", func() error {
		return publicServer.ServeTLS(newListener(public, n.maxOpen), "", "")
	})
	start("serving the sidecar", func() error {
		return pushServer.Serve(newListener(push, maxPushConnections))
	})
	start("replacing the TLS key", func() error { return n.keys.run(ctx, n.announce) })
	start("dating evidence", func() error { n.refresh(ctx); return nil })

	<-ctx.Done()
	cause := context.Cause(ctx)
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer stop()
	_ = pushServer.Close() // a push that was not answered is sent again
	if err := publicServer.Shutdown(grace); err != nil {
		_ = publicServer.Close()
	}
	running.Wait()
	n.forward.transport.CloseIdleConnections()
	if parent.Err() != nil {
		return nil
	}
	return cause
}

// servePublic answers a client.
func (n *Node) servePublic(rw http.ResponseWriter, r *http.Request) {
	w, r := bound(rw, r, n.uploadTimeout, n.clientStall)
	defer w.finish()
	c, id := connectionOf(r)
	if id == nil {
		writeError(w, errAttester("the connection has no TLS key of the node's"))
		return
	}
	// If a newer key has taken over, the client's next request uses it.
	w.last = id != n.keys.current.Load()
	switch {
	case !plainTarget(r):
		writeError(w, errNotFound())
	case r.URL.Path == evidence.Path:
		n.serveEvidence(w, r, c, id)
	case reserved(r.URL.Path):
		writeError(w, errNotFound())
	default:
		n.forward.forward(w, r)
	}
}

// plainTarget reports whether a request's target is one that can be written
// into a request line again: a path, or a URL with one (RFC 9112, §3.2). Go
// takes more than that: a space in HTTP/2's :path would end the target early
// in the upstream's eyes and let the client choose what follows it.
func plainTarget(r *http.Request) bool {
	for _, c := range []byte(r.RequestURI) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	if r.URL.Path == "" {
		return r.URL.Opaque == "" && r.URL.Host != ""
	}
	return r.URL.Path[0] == '/'
}

// reserved reports whether a path is the node's, also in a spelling that an
// upstream might take for the same: nobody else answers there.
func reserved(requested string) bool {
	return strings.HasPrefix(path.Clean(requested)+"/", wellKnown)
}

// announce says that the newest evidence is out of date.
func (n *Node) announce() {
	select {
	case n.changed <- struct{}{}:
	default: // it has been said already
	}
}
