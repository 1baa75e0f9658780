package verifier

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// Dial opens a TCP connection; nil stands for a [net.Dialer]'s DialContext.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

const (
	connectTimeout = 30 * time.Second // TCP, TLS, evidence and verdict together
	dialTimeout    = 10 * time.Second
	maxHeaderBytes = 64 << 10
)

// tlsConfig asks for TLS 1.3 with the hybrid key exchange and nothing else. The
// names in a node's certificate prove nothing and no authority signs it, so the
// usual verification is off, and VerifyConnection decides in its place: on each
// connection, before a byte of a request can go over it.
func tlsConfig(serverName string, now time.Time) *tls.Config {
	return &tls.Config{
		ServerName:       serverName,
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768},
		NextProtos:       []string{"http/1.1"},
		// No cache of sessions: a resumed one proves no key.
		ClientSessionCache: nil,
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if r := verifyConnection(cs, now); r != nil {
				return r
			}
			return nil
		},
	}
}

// verifyConnection holds what was negotiated against what is demanded, whatever
// the configuration should already have brought about.
func verifyConnection(cs tls.ConnectionState, now time.Time) *hardware.Rejection {
	switch {
	case cs.Version != tls.VersionTLS13:
		return hardware.Refuse("connection/tls-version", "the connection speaks %s, not TLS 1.3", tls.VersionName(cs.Version))
	case cs.CurveID != tls.X25519MLKEM768:
		return hardware.Refuse("connection/group", "the key exchange is %s, not X25519MLKEM768", cs.CurveID)
	case cs.DidResume:
		return hardware.Refuse("connection/resumed", "the connection resumes an earlier session")
	case len(cs.PeerCertificates) != 1:
		return hardware.Refuse("connection/certificate", "the node sent %d certificates; one, signed by its own key, is wanted", len(cs.PeerCertificates))
	}
	c := cs.PeerCertificates[0]
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return hardware.Refuse("connection/certificate", "the node's certificate is not signed by its own key: %v", err)
	}
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return hardware.Refuse("connection/certificate", "the node's certificate is valid from %s to %s, and it is %s",
			c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// connect opens a connection to address that verifyConnection accepts. Nothing
// has been asked over it and nothing is known about its other end but its key.
func connect(ctx context.Context, dial Dial, address string, now time.Time) (conn *tls.Conn, spki []byte, err error) {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, hardware.Refuse("node/unreachable", "%q is not host:port", clip(address))
	}
	raw, err := dial(ctx, "tcp", address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		return nil, nil, hardware.Refuse("node/unreachable", "connecting to %s: %v", address, err)
	}
	conn = tls.Client(raw, tlsConfig(host, now))
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		return nil, nil, handshakeRejection(address, err)
	}
	return conn, conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo, nil
}

// handshakeRejection names what a failed handshake failed for. Alerts of the
// peer have no type of their own in crypto/tls, only their text.
func handshakeRejection(address string, err error) error {
	if r := rejection(err); r != nil {
		return r
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "protocol version"), strings.Contains(text, "unsupported versions"), strings.Contains(text, "selected unsupported version"):
		return hardware.Refuse("connection/tls-version", "%s does not speak TLS 1.3: %v", address, err)
	case strings.Contains(text, "handshake failure"), strings.Contains(text, "unsupported group"), strings.Contains(text, "unsupported curve"):
		return hardware.Refuse("connection/group", "%s does not exchange keys by X25519MLKEM768: %v", address, err)
	}
	return hardware.Refuse("node/unreachable", "opening TLS with %s: %v", address, err)
}

// ask gets the evidence document over a connection. With reusable the
// connection can carry other requests afterwards. No redirection is followed:
// evidence is about the machine that this connection ends in.
func ask(ctx context.Context, conn *tls.Conn, host string, nonce *[32]byte) (document []byte, reusable bool, err error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()

	u := url.URL{Scheme: "https", Host: host, Path: evidence.Path}
	if nonce != nil {
		u.RawQuery = url.Values{evidence.NonceParameter: {evidence.FormatNonce(*nonce)}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, false, fmt.Errorf("asking for evidence: %w", err)
	}
	req.Header.Set("User-Agent", "vitrine")
	req.Header.Set("Accept", "application/json")
	if err := req.Write(conn); err != nil {
		return nil, false, hardware.Refuse("node/unreachable", "asking %s for evidence: %v", host, err)
	}
	// The header is bounded by itself: it is kept line by line, and many short
	// lines take a hundred times their bytes.
	limited := &io.LimitedReader{R: conn, N: maxHeaderBytes}
	r := bufio.NewReader(limited)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, false, hardware.Refuse("node/bad-answer", "%s did not answer in HTTP: %v", host, err)
	}
	defer resp.Body.Close()
	limited.N = 2 * evidence.MaxDocumentBytes // of chunks, with what frames them
	body, err := io.ReadAll(io.LimitReader(resp.Body, evidence.MaxDocumentBytes+1))
	if len(body) > evidence.MaxDocumentBytes {
		return nil, false, hardware.Refuse("evidence/too-large", "%s sent more than %d bytes of evidence", host, evidence.MaxDocumentBytes)
	}
	if err != nil {
		return nil, false, hardware.Refuse("node/bad-answer", "the evidence of %s breaks off: %v", host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, false, nodeError(host, resp.StatusCode, body)
	}
	// Bytes that came without being asked for would be taken for the answer
	// to the next request.
	return body, !resp.Close && r.Buffered() == 0, nil
}

// nodeError is what a node answers in the place of evidence. Its codes are of
// the closed list; any other answer is a code of ours.
func nodeError(host string, status int, body []byte) error {
	if e, err := evidence.ParseError(status, body); err == nil {
		code := hardware.Code(e.Code)
		if _, ok := code.Info(); ok {
			return hardware.Refuse(code, "%s", e.Detail)
		}
	}
	if status == http.StatusNotFound {
		return hardware.Refuse("node/not-found", "%s serves nothing at %s", host, evidence.Path)
	}
	return hardware.Refuse("node/bad-answer", "%s answered the question for evidence with status %d", host, status)
}

// address is where a URL's host listens.
func address(u *url.URL) (string, error) {
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return "", errors.New("a node's address is https://host or https://host:port")
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}
