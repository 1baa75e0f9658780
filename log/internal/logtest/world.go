package logtest

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/vectors"
)

// Origin is the name of every World's log.
const Origin = "vitrine.example/log"

// Product is the product that the writers of a World write about.
const Product = "hello-inference"

// Key gives the test key of that name, always the same.
func Key(name string) ed25519.PrivateKey { return vectors.Key(name) }

// LogKey gives the log's key as x/mod's note package encodes it.
func LogKey(t testing.TB) (skey, vkey string) {
	t.Helper()
	key := Key("log")
	vkey, err := note.NewEd25519VerifierKey(Origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.Split(vkey, "+")[1]
	return fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", Origin, hash, base64.StdEncoding.EncodeToString(append([]byte{1}, key.Seed()...))), vkey
}

// LogSigner signs as the log.
func LogSigner(t testing.TB) note.Signer {
	t.Helper()
	skey, _ := LogKey(t)
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A World is a log's folder, its policy, and its witnesses, each a process. The
// log itself is started by Open or Process.
type World struct {
	t         testing.TB
	Dir       string
	Policy    *receipt.Policy
	Witnesses []*Process

	// Set before the log is started.
	Admission          string
	CheckpointInterval time.Duration
	RepublishInterval  time.Duration
	ReceiptTimeout     time.Duration
	WitnessTimeout     time.Duration
	AddendaQuota       int64
	Logger             *slog.Logger
}

// NewWorld starts n witnesses, all of which the policy demands. With none the
// policy is unwitnessed.
func NewWorld(t testing.TB, n int) *World {
	t.Helper()
	_, vkey := LogKey(t)
	w := &World{
		t: t, Dir: filepath.Join(t.TempDir(), "log"), Admission: Admission(t),
		CheckpointInterval: 100 * time.Millisecond, RepublishInterval: time.Hour, ReceiptTimeout: 20 * time.Second, WitnessTimeout: time.Second,
	}
	policy := "log " + vkey + "\n"
	var names []string
	for i := range n {
		name := fmt.Sprintf("w%d", i+1)
		w.Witnesses = append(w.Witnesses, start(t, process{Witness: &witnessProcess{
			Dir: t.TempDir(), Name: name + ".example", KeyName: name, Logs: []string{vkey},
		}}))
		policy += fmt.Sprintf("witness %s %s %s\n", name, WitnessVKey(t, name), w.Witnesses[i].URL)
		names = append(names, name)
	}
	if n == 0 {
		policy += "quorum none\n"
	} else {
		policy += "group all-of-them all " + strings.Join(names, " ") + "\nquorum all-of-them\n"
	}
	var err error
	if w.Policy, err = receipt.ParsePolicy(policy, n == 0); err != nil {
		t.Fatal(err)
	}
	return w
}

// WitnessVKey is the vkey of the witness of that name.
func WitnessVKey(t testing.TB, name string) string {
	t.Helper()
	return WitnessSigner(t, name).Verifier().String()
}

// WitnessSigner signs as the witness of that name.
func WitnessSigner(t testing.TB, name string) *torchwood.CosignatureSigner {
	t.Helper()
	s, err := torchwood.NewCosignatureSigner(name+".example", Key(name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *World) process() *logProcess {
	skey, _ := LogKey(w.t)
	return &logProcess{
		Dir: w.Dir, Key: skey, Policy: w.Policy.Text(), Admission: w.Admission, Unwitnessed: w.Policy.Unwitnessed(),
		Checkpoint: w.CheckpointInterval, Republish: w.RepublishInterval, Wait: w.ReceiptTimeout, Witnesses: w.WitnessTimeout,
	}
}

// Config is what the log is opened with.
func (w *World) Config() log.Config {
	w.t.Helper()
	c, err := w.process().config()
	if err != nil {
		w.t.Fatal(err)
	}
	c.Logger = w.Logger
	c.AddendaQuota = w.AddendaQuota
	return c
}

// Process starts the log as a process of its own.
func (w *World) Process() *Process {
	w.t.Helper()
	return start(w.t, process{Log: w.process()})
}

// Open opens the log in this process and serves it. stop ends it; it is called
// at the end of the test if not before.
func (w *World) Open() (l *log.Log, url string, stop func()) {
	w.t.Helper()
	l, err := log.Open(w.t.Context(), w.Config())
	if err != nil {
		w.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx, ln) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-served; err != nil {
			w.t.Errorf("serving the log: %v", err)
		}
		if err := l.Close(context.Background()); err != nil {
			w.t.Errorf("closing the log: %v", err)
		}
	}
	w.t.Cleanup(stop)
	return l, "http://" + ln.Addr().String(), stop
}

// Admission is an admission file with a writer for each role, whose key has the
// role's name.
func Admission(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("vitrine: admission/v1\nwriters:\n")
	for _, role := range []log.Role{log.RolePublisher, log.RoleRebuilder, log.RoleChannel, log.RoleWithdrawer} {
		key, err := statement.NewPublicKey(Key(string(role)).Public())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "  - {name: %s, key: %q, roles: [%s], products: [%s]}\n", role, key.PEM(), role, Product)
	}
	return b.String()
}

// Sign makes a leaf of a statement, signed by the key of that name.
func Sign(t testing.TB, s *statement.Statement, keyName string) *statement.Signed {
	t.Helper()
	return SignWith(t, s, Key(keyName))
}

// SignWith makes a leaf of a statement.
func SignWith(t testing.TB, s *statement.Statement, key crypto.Signer) *statement.Signed {
	t.Helper()
	signed, err := s.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
