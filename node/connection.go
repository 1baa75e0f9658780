package node

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// listener wraps the public listener, so that each connection knows the
// identity that it was opened under: evidence shown on a connection must bind
// that connection's key, also after the node has made itself a newer one.
type listener struct {
	net.Listener
	slots chan struct{} // one for each connection that may be open
}

func newListener(l net.Listener, maxConnections int) *listener {
	return &listener{Listener: l, slots: make(chan struct{}, maxConnections)}
}

// Accept returns the next connection. One above the limit is closed at once: a
// client that sees a closed connection tries again, one that waits in the
// kernel's queue does not know why.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &connection{
				Conn:    c,
				release: sync.OnceFunc(func() { <-l.slots }),
				asking:  make(chan struct{}, maxEvidencePerConnection),
			}, nil
		default:
			_ = c.Close()
		}
	}
}

// connection is an accepted connection, below TLS.
type connection struct {
	net.Conn
	release  func()
	identity atomic.Pointer[identity]
	asking   chan struct{} // one for each request for evidence being answered
}

// Close closes the connection and forgets it.
func (c *connection) Close() error {
	c.release()
	if id := c.identity.Load(); id != nil {
		id.forget(c)
	}
	return c.Conn.Close()
}

// CloseWrite half-closes, so that a client which still sends can read an early
// answer (http.Server looks for this method).
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type connectionKey struct{}

// withConnection is the http.Server's ConnContext.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connectionKey{}, c)
}

// connectionOf returns r's connection and the identity that it was opened
// under, or nil if r did not come over a connection of the public server.
func connectionOf(r *http.Request) (*connection, *identity) {
	c, ok := r.Context().Value(connectionKey{}).(*connection)
	if !ok {
		return nil, nil
	}
	return c, c.identity.Load()
}
