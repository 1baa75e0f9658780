// Package certificate puts evidence into the certificate of a node's TLS key,
// so that a client which has the rest from an earlier connection can appraise a
// node within the handshake.
//
// It holds what changes with each key and checkpoint: the report or quote, the
// challenge, and hashes of all else that the hardware was given. It is as much
// a claim as any evidence is until it was appraised; that the certificate
// signs it says nothing.
package certificate

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/vitrine-dev/vitrine/log/ijson"
	"github.com/vitrine-dev/vitrine/node/evidence"
)

// MaxBytes bounds a certificate with evidence. A bigger one costs round trips
// at the beginning of each connection, and breaks some peers.
const MaxBytes = 8 << 10

// Format is the format string of the extension's JSON.
const Format = "https://vitrine.dev/certificate-evidence/v1"

// OID names the extension. It stands under the arc that Microsoft gives away
// for object identifiers made of a random UUID
// (1.2.840.113556.1.8000.2554.<UUID in seven numbers>), and the UUID is
// c1f9d837-2113-45a3-93fe-563085479536. The usual arc for a UUID, 2.25, has one
// number of 128 bits, which many X.509 parsers refuse.
var OID = asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 49657, 55351, 8467, 17827, 37886, 5648517, 4691254, 1}

// ErrAbsent says that a certificate carries no evidence.
var ErrAbsent = errors.New("the certificate carries no evidence")

// Evidence is what the extension holds.
type Evidence struct {
	// Platform is as in the evidence document.
	Platform string
	// Challenge is that of the node's newest checkpoint: a certificate is made
	// before anybody could give a nonce.
	Challenge evidence.Challenge
	// Report or Quote, whichever the platform has.
	Report []byte
	Quote  *evidence.Quote
	// Release is the leaf hash of the release statement.
	Release [32]byte
}

// body is the extension's value: canonical JSON.
type body struct {
	Format    string          `json:"format"`
	Platform  string          `json:"platform"`
	Challenge []byte          `json:"challenge"`
	Report    []byte          `json:"report,omitempty"`
	Quote     *evidence.Quote `json:"quote,omitempty"`
	Release   string          `json:"release"` // hex
}

// Extension returns the certificate extension that holds e. It is not critical:
// a client that does not know it has to ask for the document.
func (e *Evidence) Extension() (pkix.Extension, error) {
	b := body{
		Format:    Format,
		Platform:  e.Platform,
		Challenge: e.Challenge[:],
		Report:    e.Report,
		Quote:     e.Quote,
		Release:   hex.EncodeToString(e.Release[:]),
	}
	if err := b.check(); err != nil {
		return pkix.Extension{}, fmt.Errorf("writing evidence for a certificate: %w", err)
	}
	value, err := ijson.Marshal(b)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("writing evidence for a certificate: %w", err)
	}
	return pkix.Extension{Id: OID, Value: value}, nil
}

// Read returns the evidence that a certificate carries, [ErrAbsent] if it
// carries none. It checks the form alone.
func Read(c *x509.Certificate) (*Evidence, error) {
	var value []byte
	for _, extension := range c.Extensions {
		// crypto/x509 refuses a certificate in which one stands twice.
		if extension.Id.Equal(OID) {
			value = extension.Value
		}
	}
	if value == nil {
		return nil, ErrAbsent
	}
	if len(c.Raw) > MaxBytes {
		return nil, fmt.Errorf("the certificate has %d bytes, more than %d", len(c.Raw), MaxBytes)
	}
	e, err := parse(value)
	if err != nil {
		return nil, fmt.Errorf("reading the evidence in a certificate: %w", err)
	}
	return e, nil
}

func parse(value []byte) (*Evidence, error) {
	var b body
	if err := ijson.Unmarshal(value, &b, MaxBytes); err != nil {
		return nil, err
	}
	if err := ijson.CheckCanonical(value); err != nil {
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	release, err := hex.DecodeString(b.Release)
	if err != nil {
		return nil, ijson.Errorf("/release", "not hex: %v", err)
	}
	return &Evidence{
		Platform:  b.Platform,
		Challenge: evidence.Challenge(b.Challenge),
		Report:    b.Report,
		Quote:     b.Quote,
		Release:   [32]byte(release),
	}, nil
}

// checkpointChallenge is the first byte of a challenge by checkpoint.
const checkpointChallenge = 0x02

func (b *body) check() error {
	switch {
	case b.Format != Format:
		return ijson.Errorf("/format", "not %s", Format)
	case len(b.Challenge) != len(evidence.Challenge{}) || b.Challenge[0] != checkpointChallenge:
		return ijson.Errorf("/challenge", "not the %d bytes of a challenge by checkpoint", len(evidence.Challenge{}))
	case len(b.Release) != 64 || strings.ToLower(b.Release) != b.Release:
		return ijson.Errorf("/release", "not a leaf hash: 64 lower-case hex digits")
	case b.Platform == evidence.TPM && (b.Quote == nil || b.Report != nil):
		return ijson.Errorf("", "the platform %s has a quote, and nothing else", evidence.TPM)
	case b.Platform != evidence.TPM && (b.Quote != nil || b.Report == nil):
		return ijson.Errorf("", "each platform but %s has a report, and nothing else", evidence.TPM)
	}
	for _, platform := range []string{evidence.SEVSNP, evidence.TDX, evidence.Nitro, evidence.TPM} {
		if b.Platform == platform {
			return nil
		}
	}
	return ijson.Errorf("/platform", "not a known platform")
}
