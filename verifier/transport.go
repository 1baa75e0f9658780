package verifier

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// DefaultInterval is how long a verdict stands for the connections that it was
// given for.
const DefaultInterval = 5 * time.Minute

// maxHosts bounds the hosts that a Transport remembers.
const maxHosts = 256

// TransportOptions are what a Transport rests on.
type TransportOptions struct {
	// Options are those of the verdicts. Options.Policy is required.
	Options
	// Fetch says how evidence is got. Its Now is that of Options.
	Fetch FetchOptions
	// Interval is how long a verdict stands; after it, new requests go over
	// new connections, which are appraised anew. Zero is [DefaultInterval].
	Interval time.Duration
	// OnVerdict, if set, is told of each verdict before any request is sent
	// on it: the node's address, and what Appraise returned. It may be called
	// by several goroutines at once.
	OnVerdict func(address string, v *Verdict, err error)
}

// Transport is an [http.RoundTripper] that sends requests only into machines
// that its policy accepts.
//
// Each connection is TLS 1.3 by X25519MLKEM768, without resumption. Before one
// carries a request, the key that it ends with has been appraised: on the first
// connection with a key, evidence is asked for over that very connection, with
// a nonce of its own; a further connection is used at once only if it ends with
// a key that was appraised within the interval, and is appraised like the first
// otherwise. A host that another one redirects to gets no trust from that: it
// is appraised for itself. No proxy is asked, whatever the environment says.
// Requests go over HTTP/1.1, one at a time on each connection.
//
// When the answer is no, RoundTrip returns an error in which [errors.As] finds
// the [*hardware.Rejection].
type Transport struct {
	opts TransportOptions

	mu    sync.Mutex
	hosts map[string]*generation // by address
}

// NewTransport returns a Transport.
func NewTransport(opts TransportOptions) (*Transport, error) {
	if opts.Policy == nil {
		return nil, hardware.Refuse("policy/missing", "an attested transport needs a policy")
	}
	if opts.Interval < 0 {
		return nil, errors.New("the interval of an attested transport is negative")
	}
	if opts.Interval == 0 {
		opts.Interval = DefaultInterval
	}
	return &Transport{opts: opts, hosts: map[string]*generation{}}, nil
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	addr, err := address(req.URL)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, hardware.Refuse("connection/not-attested", "a request to %s://%s cannot be attested: %v", req.URL.Scheme, req.URL.Host, err)
	}
	return t.generation(addr, req.URL.Host).transport.RoundTrip(req)
}

// CloseIdleConnections closes the connections that carry no request.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.hosts {
		g.transport.CloseIdleConnections()
	}
}

// generation is the connections to one host whose verdicts stand. When its time
// is over no request begins on them any more; those that stream may end.
type generation struct {
	t         *Transport
	addr      string
	host      string // as requests name it
	made      time.Time
	transport *http.Transport

	turn chan struct{} // held by whoever appraises
	mu   sync.Mutex
	keys map[[sha256.Size]byte]bool // appraised and accepted, by SPKI
}

// stands reports whether verdicts since made still count. Both of a machine's
// clocks have to say so: the monotonic one stands still while the machine
// sleeps, and the other can be set back.
func stands(made, now time.Time, interval time.Duration) bool {
	for _, age := range []time.Duration{now.Sub(made), now.Round(0).Sub(made.Round(0))} {
		if age < 0 || age >= interval {
			return false
		}
	}
	return true
}

func (t *Transport) generation(addr, host string) *generation {
	now := t.opts.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.hosts[addr]; g != nil {
		if stands(g.made, now, t.opts.Interval) {
			return g
		}
		g.retire()
	}
	if len(t.hosts) >= maxHosts {
		for a, g := range t.hosts {
			g.retire()
			delete(t.hosts, a)
		}
	}
	g := &generation{
		t: t, addr: addr, host: host,
		made: now,
		turn: make(chan struct{}, 1),
		keys: map[[sha256.Size]byte]bool{},
	}
	g.transport = &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return g.dial(ctx) },
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, hardware.Refuse("connection/not-attested", "a connection without TLS cannot be attested")
		},
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 alone
		DisableCompression:  true,                                                   // answers stream
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     min(90*time.Second, t.opts.Interval),
	}
	t.hosts[addr] = g
	return g
}

// retire closes the idle connections, and those that are in use as soon as they
// are idle.
func (g *generation) retire() {
	g.transport.CloseIdleConnections()
}

// dial returns a connection that may carry requests.
func (g *generation) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout,
		fmt.Errorf("connecting to %s and appraising it took longer than %s", g.addr, connectTimeout))
	defer cancel()
	conn, spki, err := g.connect(ctx)
	if err != nil {
		return nil, err
	}
	if g.accepted(spki) {
		return conn, nil
	}

	// One at a time: the connections that wait will most likely find their
	// key accepted.
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		conn.Close()
		return nil, context.Cause(ctx)
	}
	if g.accepted(spki) {
		return conn, nil
	}
	reusable, err := g.appraise(ctx, conn, spki)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if reusable {
		return conn, nil
	}
	// The node ended the connection after its evidence. The verdict is about
	// its key, so that another connection will do if it ends with that key.
	conn.Close()
	conn, again, err := g.connect(ctx)
	if err != nil {
		return nil, err
	}
	if !g.accepted(again) {
		conn.Close()
		return nil, hardware.Refuse("connection/key-changed", "%s ended one connection with key %s and the next with %s", g.addr, keyID(spki), keyID(again))
	}
	return conn, nil
}

func (g *generation) connect(ctx context.Context) (*tls.Conn, []byte, error) {
	return connect(ctx, g.t.opts.Fetch.Dial, g.addr, g.t.opts.now())
}

func (g *generation) accepted(spki []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.keys[sha256.Sum256(spki)]
}

// appraise asks for evidence over conn, which ends with the key spki, and
// accepts that key if the policy does.
func (g *generation) appraise(ctx context.Context, conn *tls.Conn, spki []byte) (reusable bool, err error) {
	nonce, err := g.t.opts.Fetch.nonce()
	if err != nil {
		return false, err
	}
	raw, reusable, err := ask(ctx, conn, g.host, nonce)
	if err != nil {
		return false, err
	}
	d, err := evidence.ParseDocument(raw)
	if err != nil {
		return false, documentRejection(err)
	}
	v, err := Appraise(ctx, Input{Document: d, Nonce: nonce, SPKI: spki}, g.t.opts.Options)
	if g.t.opts.OnVerdict != nil {
		g.t.opts.OnVerdict(g.addr, v, err)
	}
	if err != nil {
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys[sha256.Sum256(spki)] = true
	return reusable, nil
}
