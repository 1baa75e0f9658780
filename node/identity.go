package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"time"
)

// clockSkew is how far a client's clock may be behind the node's when it reads
// a new certificate.
const clockSkew = 5 * time.Minute

// identity is one TLS key of the node's, for as long as it lives.
type identity struct {
	key  *ecdsa.PrivateKey
	spki []byte // DER SubjectPublicKeyInfo
	// notBefore and notAfter bound every certificate for the key.
	notBefore, notAfter time.Time

	certificate atomic.Pointer[tls.Certificate]
	dated       dated // evidence for the newest checkpoint

	mu          sync.Mutex
	expired     bool
	connections map[*connection]struct{}
}

// newIdentity makes a key that lives from now for the given time.
func newIdentity(now time.Time, lifetime time.Duration) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a TLS key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding the public part of a TLS key: %w", err)
	}
	id := &identity{
		key:         key,
		spki:        spki,
		notBefore:   now.Add(-clockSkew),
		notAfter:    now.Add(lifetime),
		connections: make(map[*connection]struct{}),
	}
	bare, err := id.sign(nil)
	if err != nil {
		return nil, err
	}
	id.certificate.Store(bare)
	return id, nil
}

// sign makes a self-signed certificate for the identity's key. Nobody is asked
// to believe its names: a client compares the key with the attested one.
func (id *identity) sign(extensions []pkix.Extension) (*tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("choosing a certificate's serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)), // RFC 5280, §4.1.2.2: positive
		Subject:               pkix.Name{CommonName: "vitrine node"},
		NotBefore:             id.notBefore,
		NotAfter:              id.notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		ExtraExtensions:       extensions,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, id.key.Public(), id.key)
	if err != nil {
		return nil, fmt.Errorf("signing the node's certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: id.key}, nil
}

// adopt remembers that c was opened under the identity.
func (id *identity) adopt(c *connection) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.expired {
		return errors.New("the node's TLS key has come to the end of its life; connect again")
	}
	c.identity.Store(id)
	id.connections[c] = struct{}{}
	return nil
}

func (id *identity) forget(c *connection) {
	id.mu.Lock()
	defer id.mu.Unlock()
	delete(id.connections, c)
}

// expire ends the identity and every connection that was opened under it.
func (id *identity) expire() {
	id.mu.Lock()
	id.expired = true
	open := make([]*connection, 0, len(id.connections))
	for c := range id.connections {
		open = append(open, c)
	}
	id.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

// keyring holds the identity that new connections get. One is replaced at half
// of its life, so that a connection always has the other half before it ends.
type keyring struct {
	now      func() time.Time
	lifetime time.Duration
	current  atomic.Pointer[identity]
}

func newKeyring(now func() time.Time, lifetime time.Duration) (*keyring, error) {
	id, err := newIdentity(now(), lifetime)
	if err != nil {
		return nil, err
	}
	k := &keyring{now: now, lifetime: lifetime}
	k.current.Store(id)
	return k, nil
}

// run replaces identities until ctx is done, and calls replaced after each. It
// returns early only if no key can be made. Whoever stops it closes the
// connections that are left.
func (k *keyring) run(ctx context.Context, replaced func()) error {
	ticker := time.NewTicker(k.lifetime / 2)
	defer ticker.Stop()
	var retired *identity // has half of its life left
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		id, err := newIdentity(k.now(), k.lifetime)
		if err != nil {
			return err
		}
		if retired != nil {
			retired.expire()
		}
		retired = k.current.Swap(id)
		replaced()
	}
}

// tlsConfig is the public server's: TLS 1.3 and nothing that would let a
// session outlive its handshake. A ticket or early data would carry a prompt
// over a connection whose key nobody compared with the attested one.
func (k *keyring) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		// Hybrid first: a recorded conversation stays closed to a later
		// quantum computer. crypto/tls prefers it whatever the order here.
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519},
		NextProtos:       []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, ok := hello.Conn.(*connection)
			if !ok {
				return nil, errors.New("the connection was not accepted by the node's listener")
			}
			id := k.current.Load()
			if err := id.adopt(c); err != nil {
				return nil, err
			}
			return id.certificate.Load(), nil
		},
	}
}
