package node

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/vitrine-dev/vitrine/node/certificate"
	"github.com/vitrine-dev/vitrine/node/evidence"
)

const (
	// maxEvidenceRequests bounds how many clients wait for the attester. A TPM
	// takes some tenths of a second for a quote, so the last in the queue waits
	// for about ten seconds.
	maxEvidenceRequests = 64
	// maxEvidenceAnswers bounds how many documents are held for clients, those
	// that are slow to read theirs included.
	maxEvidenceAnswers = 256
	// maxEvidencePerConnection keeps one HTTP/2 connection from taking up
	// either alone: what it asks for beyond that waits for its own.
	maxEvidencePerConnection = 4
	// evidenceTimeout is for one client's document to be made, queues included.
	evidenceTimeout = 30 * time.Second
	// refreshPause is between two certificates with new evidence.
	refreshPause = time.Second
	// maxQueryBytes is above the length of nonce=, 43 characters of base64url
	// and what a client may have escaped of them.
	maxQueryBytes = 256
)

// dated is evidence whose challenge is a checkpoint. One quote or report serves
// every client that brings no nonce, until the node has a newer checkpoint.
type dated struct {
	mu          sync.Mutex
	key         datedKey
	attestation *Attestation
}

type datedKey struct {
	challenge evidence.Challenge
	leafHash  [32]byte
}

func (d *dated) get(key datedKey) *Attestation {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.key != key {
		return nil
	}
	return d.attestation
}

func (d *dated) put(key datedKey, a *Attestation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.key, d.attestation = key, a
}

// serveEvidence answers a request for the evidence document.
func (n *Node) serveEvidence(w http.ResponseWriter, r *http.Request, c *connection, id *identity) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		writeError(w, errMethod(http.MethodGet))
		return
	}
	nonce, err := readNonce(r.URL.RawQuery)
	if err != nil {
		writeError(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), evidenceTimeout)
	defer cancel()
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		writeError(w, errBusy())
		return
	}
	select {
	case n.answers <- struct{}{}:
		defer func() { <-n.answers }()
	default:
		writeError(w, errBusy())
		return
	}
	body, err := n.evidence(ctx, id, nonce)
	if err != nil {
		writeError(w, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	_, _ = w.Write(body)
}

// evidence returns the evidence document for a client, as it is sent.
func (n *Node) evidence(ctx context.Context, id *identity, nonce *[32]byte) ([]byte, error) {
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	default:
		return nil, errBusy()
	}
	document, err := n.document(ctx, id, nonce)
	if err != nil {
		return nil, err
	}
	body, err := document.Marshal()
	if err != nil {
		n.logger.Error("the evidence document cannot be written", "error", err)
		return nil, errAttester("the evidence document cannot be written")
	}
	return body, nil
}

// readNonce returns a query's nonce, or nil if the query is empty. Nothing else
// may stand in the query.
func readNonce(query string) (*[32]byte, error) {
	if query == "" {
		return nil, nil
	}
	if len(query) > maxQueryBytes {
		return nil, errBadNonce()
	}
	values, err := url.ParseQuery(query)
	if err != nil || len(values) != 1 || len(values[evidence.NonceParameter]) != 1 {
		return nil, errBadNonce()
	}
	nonce, err := evidence.ParseNonce(values[evidence.NonceParameter][0])
	if err != nil {
		return nil, err
	}
	return &nonce, nil
}

// document makes the evidence document for a client on a connection under id.
func (n *Node) document(ctx context.Context, id *identity, nonce *[32]byte) (*evidence.Document, error) {
	held := n.state.Load()
	if nonce == nil {
		if err := held.datable(n.platform); err != nil {
			return nil, err
		}
		a, err := n.datedAttestation(ctx, id, held)
		if err != nil {
			return nil, err
		}
		return held.document(n.platform, id, evidence.ChallengeSource{Checkpoint: held.checkpoint}, a), nil
	}
	if err := held.presentable(n.platform); err != nil {
		return nil, err
	}
	leave, err := n.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	a, err := n.attest(ctx, id, evidence.NonceChallenge(*nonce), held.release.leafHash)
	if err != nil {
		return nil, err
	}
	return held.document(n.platform, id, evidence.ChallengeSource{Nonce: nonce[:]}, a), nil
}

// datedAttestation returns the attestation for the newest checkpoint, and makes
// it if nobody has asked since that came.
func (n *Node) datedAttestation(ctx context.Context, id *identity, held *state) (*Attestation, error) {
	key := datedKey{evidence.CheckpointChallenge([]byte(held.checkpoint)), held.release.leafHash}
	if a := id.dated.get(key); a != nil {
		return a, nil
	}
	leave, err := n.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if a := id.dated.get(key); a != nil {
		return a, nil // made by another while this one waited
	}
	a, err := n.attest(ctx, id, key.challenge, key.leafHash)
	if err != nil {
		return nil, err
	}
	id.dated.put(key, a)
	return a, nil
}

// enter waits for the attester and returns what gives it back.
func (n *Node) enter(ctx context.Context) (leave func(), err error) {
	select {
	case n.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, errBusy()
	}
	if ctx.Err() != nil {
		<-n.turn // whoever waits behind still wants it
		return nil, errBusy()
	}
	return func() { <-n.turn }, nil
}

// attest has the hardware vouch for the identity's key. The caller has entered.
func (n *Node) attest(ctx context.Context, id *identity, challenge evidence.Challenge, leafHash [32]byte) (*Attestation, error) {
	h := evidence.UserData(evidence.UserDataInput{
		Platform:  n.platform,
		Challenge: challenge,
		TLSKey:    id.spki,
		LeafHash:  leafHash,
	})
	a, err := n.attester.Attest(ctx, h)
	if err == nil && (a == nil || (a.Report == nil) == (a.Quote == nil)) {
		err = fmt.Errorf("it gave not exactly one of a report and a quote")
	}
	if err != nil {
		n.logger.Error("the attester failed", "error", err)
		return nil, errAttester("the hardware did not vouch for this node; its console has the reason")
	}
	return a, nil
}

// registers reads the hardware's registers.
func (n *Node) registers(ctx context.Context) (map[string]string, error) {
	leave, err := n.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	registers, err := n.attester.Registers(ctx)
	if err != nil {
		return nil, err
	}
	return registers, checkRegisters(n.platform, registers)
}

// refresh keeps the certificate of the newest key carrying evidence for the
// newest checkpoint, until ctx is done.
func (n *Node) refresh(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
		}
		n.certify(ctx, n.keys.current.Load())
		// However fast checkpoints are pushed, the attester is the clients'.
		select {
		case <-ctx.Done():
			return
		case <-time.After(refreshPause):
		}
	}
}

// certify gives an identity a certificate with the newest evidence in it, or
// with none if there is none to show or it does not fit.
func (n *Node) certify(ctx context.Context, id *identity) {
	c, err := id.sign(n.extensions(ctx, id))
	if err == nil && len(c.Certificate[0]) > certificate.MaxBytes {
		n.logger.Warn("the evidence does not fit into the certificate", "bytes", len(c.Certificate[0]), "limit", certificate.MaxBytes)
		c, err = id.sign(nil)
	}
	if err != nil {
		n.logger.Error("the certificate cannot be made anew", "error", err)
		return
	}
	id.certificate.Store(c)
}

// extensions returns the certificate's extension with evidence, or none if
// there is nothing to show.
func (n *Node) extensions(ctx context.Context, id *identity) []pkix.Extension {
	held := n.state.Load()
	if held.datable(n.platform) != nil {
		return nil
	}
	a, err := n.datedAttestation(ctx, id, held)
	if err != nil {
		return nil // attest has said why
	}
	e := &certificate.Evidence{
		Platform:  n.platform,
		Challenge: evidence.CheckpointChallenge([]byte(held.checkpoint)),
		Report:    a.Report,
		Quote:     a.Quote,
		Release:   held.release.leafHash,
	}
	extension, err := e.Extension()
	if err != nil {
		n.logger.Error("the evidence cannot be written into the certificate", "error", err)
		return nil
	}
	return []pkix.Extension{extension}
}
