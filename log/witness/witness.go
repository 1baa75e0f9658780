package witness

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/internal/serve"
)

// Config is what a witness is.
type Config struct {
	// Name is the witness's key name, as it stands in its vkey and in front of
	// its cosignatures: a URL without a scheme, by convention.
	Name string
	// Key is an Ed25519 key that signs nothing else: the cosigned message does
	// not say the name (https://c2sp.org/tlog-cosignature, "Ed25519 signed
	// message").
	Key crypto.Signer
	// Logs are the vkeys (https://c2sp.org/signed-note, "Verifier keys") of the
	// logs to be witnessed. The name in a vkey is the log's origin; several keys
	// with one name are keys of one log.
	Logs []string
	// Logger is told of refusals and, as an error, of forks. It may be nil.
	Logger *slog.Logger
}

// sameKey reports whether a vkey holds the public part of an Ed25519 key, under
// whatever name and algorithm. A log that knows a witness's key could write its
// cosignatures.
func sameKey(vkey string, key crypto.Signer) bool {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return false
	}
	// <name>+<hash>+<base64>: base64 has plus signs of its own, a name has none.
	parts := strings.SplitN(vkey, "+", 3)
	b, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	// One byte names the algorithm (https://c2sp.org/signed-note).
	return err == nil && len(b) == 1+ed25519.PublicKeySize && public.Equal(ed25519.PublicKey(b[1:]))
}

// A Witness cosigns checkpoints. It is an [http.Handler] that answers
// POST /add-checkpoint.
type Witness struct {
	dir    string
	signer *torchwood.CosignatureSigner
	logs   map[string]*witnessedLog
	logger *slog.Logger
	mux    *http.ServeMux
	unlock func() error
}

// A witnessedLog is what the witness knows of one origin.
type witnessedLog struct {
	origin string
	keys   note.Verifiers

	// mu is held from the comparison with the last checkpoint until the new one
	// is on disk, without which two requests could each extend the same tree
	// (tlog-witness, "add-checkpoint", the race at its end).
	mu     sync.Mutex
	last   tlog.Tree
	signed []byte // nil before the first cosignature
}

// Open starts a witness that keeps its memory in dir, which it makes if needed
// and holds until Close.
func Open(dir string, c Config) (*Witness, error) {
	if c.Key == nil {
		return nil, errors.New("opening the witness: it has no key")
	}
	signer, err := torchwood.NewCosignatureSigner(c.Name, c.Key)
	if err != nil {
		return nil, fmt.Errorf("opening the witness %q: %w", c.Name, err)
	}
	if len(c.Logs) == 0 {
		return nil, errors.New("opening the witness: no log is named; give the vkey of one")
	}
	keys := make(map[string][]note.Verifier)
	for _, vkey := range c.Logs {
		v, err := note.NewVerifier(vkey)
		if err != nil {
			return nil, fmt.Errorf("opening the witness: %q is not the vkey of a log: %w", vkey, err)
		}
		if sameKey(vkey, c.Key) {
			return nil, fmt.Errorf("opening the witness: its key is that of the log %q; make one of its own", v.Name())
		}
		for _, other := range keys[v.Name()] {
			if other.KeyHash() == v.KeyHash() {
				return nil, fmt.Errorf("opening the witness: the log key %q is named twice", vkey)
			}
		}
		keys[v.Name()] = append(keys[v.Name()], v)
	}

	w := &Witness{dir: dir, signer: signer, logs: make(map[string]*witnessedLog), logger: c.Logger, mux: http.NewServeMux()}
	if w.logger == nil {
		w.logger = slog.New(slog.DiscardHandler)
	}
	w.mux.HandleFunc("POST /add-checkpoint", w.serveAddCheckpoint)

	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the witness: %w", err)
	}
	if w.unlock, err = durable.Lock(dir); err != nil {
		return nil, fmt.Errorf("opening the witness: %w", err)
	}
	if err := durable.Sweep(dir); err != nil {
		w.unlock()
		return nil, fmt.Errorf("opening the witness: %w", err)
	}
	for origin, vs := range keys {
		l := &witnessedLog{origin: origin, keys: note.VerifierList(vs...)}
		if l.last, l.signed, err = load(dir, origin); err != nil {
			w.unlock()
			return nil, fmt.Errorf("opening the witness: %w", err)
		}
		w.logs[origin] = l
	}
	return w, nil
}

// Close gives the folder back. Requests in flight must have ended.
func (w *Witness) Close() error { return w.unlock() }

// VerifierKey is the witness's vkey, for a policy (https://c2sp.org/tlog-policy).
func (w *Witness) VerifierKey() string { return w.signer.Verifier().String() }

// ServeHTTP implements [http.Handler].
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) { w.mux.ServeHTTP(rw, r) }

// requestTimeout bounds a request; a checkpoint and its proof are small.
const requestTimeout = 15 * time.Second

// Serve answers on ln until ctx ends. It returns nil when ctx ended it.
func (w *Witness) Serve(ctx context.Context, ln net.Listener) error {
	return serve.HTTP(ctx, ln, w, requestTimeout, w.logger)
}

// A refusal is an answer other than a cosignature, with the status that
// tlog-witness prescribes for it.
type refusal struct {
	status int
	detail string
	// known is the size of the last cosigned checkpoint, to be sent with a 409;
	// -1 where none is to be sent.
	known int64
}

func (r *refusal) Error() string { return r.detail }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, detail: fmt.Sprintf(format, args...), known: -1}
}

// addCheckpoint decides one request. It returns the cosignature line, or a
// *refusal, or another error if the witness itself failed.
func (w *Witness) addCheckpoint(body []byte) ([]byte, error) {
	req, err := parseRequest(body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	l, ok := w.logs[req.origin]
	if !ok {
		return nil, refuse(http.StatusNotFound, "the log %q is not witnessed here", req.origin)
	}
	n, err := note.Open(req.note, l.keys)
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified), errors.As(err, &invalid):
		return nil, refuse(http.StatusForbidden, "the checkpoint is not signed by a key of %q that is trusted here", req.origin)
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "the checkpoint is not a signed note")
	}
	c, err := torchwood.ParseCheckpoint(n.Text)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the note is not a checkpoint")
	}
	if req.oldSize > c.N {
		return nil, refuse(http.StatusBadRequest, "the old size %d is larger than the checkpoint's %d", req.oldSize, c.N)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.extends(c.Tree, req.oldSize, req.proof); err != nil {
		if r := new(refusal); errors.As(err, &r) && r.status == http.StatusConflict && r.known < 0 {
			w.reportFork(l, onlyVerified(n))
		}
		return nil, err
	}
	// An idle log is cosigned again, with a new time, and there is nothing new to
	// remember.
	if l.signed == nil || c.Tree != l.last {
		signed := onlyVerified(n)
		if err := store(w.dir, l.origin, signed); err != nil {
			// Whichever of the two is on disk now, only the former has been
			// cosigned, so either is safe to go on from.
			return nil, err
		}
		l.last, l.signed = c.Tree, signed
	}
	return w.cosign(n.Text)
}

// extends checks that tree extends the last one cosigned, by the rules of
// tlog-witness in their order. l.mu is held.
func (l *witnessedLog) extends(tree tlog.Tree, oldSize int64, proof tlog.TreeProof) error {
	if oldSize != l.last.N {
		return &refusal{
			status: http.StatusConflict,
			detail: fmt.Sprintf("the last checkpoint cosigned for %q has size %d, not %d", l.origin, l.last.N, oldSize),
			known:  l.last.N,
		}
	}
	if tree.N == 0 && tree.Hash != emptyRoot {
		return refuse(http.StatusUnprocessableEntity, "the root of an empty tree is the hash of nothing")
	}
	if tree.N == oldSize && oldSize > 0 && tree.Hash != l.last.Hash {
		return refuse(http.StatusConflict, "another root was cosigned for %q at size %d", l.origin, oldSize)
	}
	if tree.N == oldSize || oldSize == 0 {
		// Nothing extends everything, and a tree extends itself.
		if len(proof) > 0 {
			return refuse(http.StatusUnprocessableEntity, "the consistency proof from %d to %d must be empty", oldSize, tree.N)
		}
		return nil
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, l.last.N, l.last.Hash); err != nil {
		return refuse(http.StatusUnprocessableEntity, "the consistency proof from %d to %d does not verify", oldSize, tree.N)
	}
	return nil
}

// emptyRoot is the root of the tree without leaves (RFC 6962, section 2.1).
var emptyRoot = tlog.Hash(sha256.Sum256(nil))

// cosign gives the cosignature line over a checkpoint's text.
func (w *Witness) cosign(text string) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: text}, w.signer)
	if err != nil {
		return nil, fmt.Errorf("cosigning: %w", err)
	}
	// The text ends with a newline; an empty line follows it.
	return signed[len(text)+1:], nil
}

// onlyVerified serialises n with the signatures that verified.
func onlyVerified(n *note.Note) []byte {
	signed, err := note.Sign(&note.Note{Text: n.Text, Sigs: n.Sigs})
	if err != nil {
		// The note was opened from these very parts.
		panic("witness: a note that opens cannot be written: " + err.Error())
	}
	return signed
}

func (w *Witness) reportFork(l *witnessedLog, theirs []byte) {
	err := keepFork(w.dir, l.origin, l.signed, theirs)
	w.logger.Error("the log has signed two trees of one size", "origin", l.origin, "size", l.last.N,
		"evidence", forkFile(w.dir, l.origin), "cosigned", string(l.signed), "refused", string(theirs), "keeping", err)
}
