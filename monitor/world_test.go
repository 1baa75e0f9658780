package monitor

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/builder"
	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/policies"
)

const (
	testOrigin  = "vitrine.example/log"
	testProduct = "hello-inference"
)

// testKey gives the key of that name, always the same.
func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("vitrine test key, not secret: " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func publicKey(name string) *statement.PublicKey {
	key, err := statement.NewPublicKey(testKey(name).Public())
	if err != nil {
		panic(err) // Ed25519 keys can always be used
	}
	return key
}

func logKeys(t testing.TB, name string) (signer note.Signer, vkey string) {
	t.Helper()
	key := testKey(name)
	vkey, err := note.NewEd25519VerifierKey(testOrigin, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.Split(vkey, "+")[1]
	signer, err = note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", testOrigin, hash, base64.StdEncoding.EncodeToString(append([]byte{1}, key.Seed()...))))
	if err != nil {
		t.Fatal(err)
	}
	return signer, vkey
}

func witnessSigner(t testing.TB, name string) *torchwood.CosignatureSigner {
	t.Helper()
	s, err := torchwood.NewCosignatureSigner(name+".example", testKey(name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A handmadeLog is a log whose keys, and whose witness's, the test holds: it
// takes whatever it is given, and what it serves can be changed behind its
// readers' backs. It is honest for as long as nobody does.
type handmadeLog struct {
	t      testing.TB
	url    string
	policy *receipt.Policy

	mu      sync.Mutex
	served  *history
	addenda map[string][]byte
	down    bool
	added   [][]byte // every leaf that was sent to /add
	// answer, if set, answers an addition in place of the log.
	answer func(w http.ResponseWriter, leaf []byte) bool
	// refuse is an answer to every addition, or addendum, of that path.
	refuse map[string]*log.Error
}

// A history is a tree of entries. A log with two of them has forked.
type history struct {
	t       testing.TB
	signer  note.Signer
	witness *torchwood.CosignatureSigner
	leaves  [][]byte
	hashes  []tlog.Hash // as package tlog stores them
	signed  []byte      // the newest checkpoint
}

func (h *history) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		if i >= int64(len(h.hashes)) {
			return nil, fmt.Errorf("there is no hash %d", i)
		}
		out = append(out, h.hashes[i])
	}
	return out, nil
}

func (h *history) append(leaf []byte) int64 {
	index := int64(len(h.leaves))
	stored, err := tlog.StoredHashes(index, leaf, h)
	if err != nil {
		h.t.Error(err)
	}
	h.leaves, h.hashes = append(h.leaves, leaf), append(h.hashes, stored...)
	h.publish()
	return index
}

// publish signs and cosigns the tree as it is.
func (h *history) publish() {
	size := int64(len(h.leaves))
	root, err := tlog.TreeHash(size, h)
	if err != nil {
		h.t.Error(err)
	}
	text := torchwood.Checkpoint{Origin: testOrigin, Tree: tlog.Tree{N: size, Hash: root}}.String()
	if h.signed, err = note.Sign(&note.Note{Text: text}, h.signer, h.witness); err != nil {
		h.t.Error(err)
	}
}

// branch is a second history with the same beginning.
func (h *history) branch() *history {
	b := *h
	b.leaves, b.hashes = slices.Clone(h.leaves), slices.Clone(h.hashes)
	return &b
}

func (h *history) receipt(index int64) ([]byte, error) {
	proof, err := tlog.ProveRecord(int64(len(h.leaves)), index, h)
	if err != nil {
		return nil, err
	}
	return receipt.FormatProof(index, proof, h.signed), nil
}

// newHandmadeLog serves a log without entries, cosigned by one witness, which is
// the quorum.
func newHandmadeLog(t testing.TB) *handmadeLog {
	t.Helper()
	signer, vkey := logKeys(t, "log")
	h := &history{t: t, signer: signer, witness: witnessSigner(t, "w1")}
	h.publish()
	l := &handmadeLog{t: t, served: h, addenda: map[string][]byte{}, refuse: map[string]*log.Error{}}
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	l.url, l.policy = srv.URL, tlogPolicy(t, vkey)
	return l
}

// tlogPolicy names a log and the one witness that is its quorum.
func tlogPolicy(t testing.TB, vkey string) *receipt.Policy {
	t.Helper()
	p, err := receipt.ParsePolicy(fmt.Sprintf("log %s\nwitness w1 %s\nquorum w1\n", vkey, witnessSigner(t, "w1").Verifier()), false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (l *handmadeLog) append(leaves ...[]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, leaf := range leaves {
		l.served.append(leaf)
	}
}

// with runs f while the log answers nobody.
func (l *handmadeLog) with(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// entries are the statements in the log by that key.
func (l *handmadeLog) entries(key *statement.PublicKey) []*statement.Signed {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*statement.Signed
	for _, leaf := range l.served.leaves {
		signed, err := statement.Parse(leaf)
		if err != nil {
			continue
		}
		if _, err := signed.VerifyAny([]*statement.PublicKey{key}); err == nil {
			all = append(all, signed)
		}
	}
	return all
}

func (l *handmadeLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil || l.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	if e := l.refuse[r.URL.Path]; e != nil {
		refuseWith(w, e)
		return
	}
	switch path := strings.TrimPrefix(r.URL.Path, "/"); {
	case path == "checkpoint":
		w.Write(l.served.signed)
	case strings.HasPrefix(path, "tile/"):
		l.serveTile(w, path)
	case path == "add":
		l.added = append(l.added, body)
		if l.answer == nil || !l.answer(w, body) {
			l.serveAdd(w, body)
		}
	case path == "addenda":
		d := statement.DigestOf(body)
		l.addenda[d.SHA256] = body
		json.NewEncoder(w).Encode(map[string]any{"digest": d})
	case strings.HasPrefix(path, "addenda/"):
		b, ok := l.addenda[filepath.Base(path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(b)
	default:
		http.NotFound(w, r)
	}
}

var statusOf = map[log.Code]int{log.NotAdmitted: http.StatusForbidden, log.NoReceipt: http.StatusAccepted, log.Unavailable: http.StatusServiceUnavailable}

func refuseWith(w http.ResponseWriter, e *log.Error) {
	answer := map[string]any{"code": e.Code, "detail": e.Detail}
	if e.Code == log.NoReceipt {
		answer["index"] = e.Index
	}
	w.WriteHeader(statusOf[e.Code])
	json.NewEncoder(w).Encode(answer)
}

func (l *handmadeLog) serveTile(w http.ResponseWriter, path string) {
	tile, err := torchwood.ParseTilePath(path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if tile.L >= 0 {
		data, err := tlog.ReadTileData(tile, l.served)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Write(data)
		return
	}
	first := tile.N * torchwood.TileWidth
	if first+int64(tile.W) > int64(len(l.served.leaves)) {
		http.Error(w, "not there", http.StatusNotFound)
		return
	}
	var data []byte
	for _, leaf := range l.served.leaves[first : first+int64(tile.W)] {
		if data, err = torchwood.AppendTileEntry(data, leaf); err != nil {
			l.t.Error(err)
		}
	}
	w.Write(data)
}

// serveAdd takes a leaf as the log of this module does, for anybody: a known
// payload is answered with its first entry.
func (l *handmadeLog) serveAdd(w http.ResponseWriter, leaf []byte) {
	sent, err := statement.Parse(leaf)
	if err != nil {
		refuseWith(w, &log.Error{Code: log.Malformed, Detail: err.Error()})
		return
	}
	index := int64(slices.IndexFunc(l.served.leaves, func(b []byte) bool {
		s, err := statement.Parse(b)
		return err == nil && s.ID == sent.ID
	}))
	if index < 0 {
		index = l.served.append(leaf)
	}
	l.serveTransparent(w, l.served, index)
}

func (l *handmadeLog) serveTransparent(w http.ResponseWriter, h *history, index int64) {
	proof, err := h.receipt(index)
	if err != nil {
		l.t.Error(err)
	}
	t := &receipt.Transparent{Leaf: h.leaves[index], Receipts: []string{string(proof)}}
	b, err := t.Marshal()
	if err != nil {
		l.t.Error(err)
	}
	w.Write(b)
}

// testPolicy is what a client of the product would demand. The monitors' keys
// are "monitor" and "other monitor".
func testPolicy(l *receipt.Policy) *policies.Policy {
	key := func(names ...string) []policies.Key {
		var keys []policies.Key
		for _, name := range names {
			keys = append(keys, policies.Key{Name: name, PublicKey: publicKey(name)})
		}
		return keys
	}
	return &policies.Policy{
		Name: "test", Product: testProduct, Logs: []*receipt.Policy{l},
		Publishers:  key("publisher"),
		Receipt:     policies.ReceiptAges{MaxAge: time.Hour},
		Rebuilders:  policies.Rebuilders{Threshold: 1, Keys: key("monitor", "other monitor")},
		Channel:     policies.Channel{Name: "stable", MaxAge: 24 * time.Hour, Keys: key("channel")},
		Withdrawers: policies.Withdrawers{Keys: key("withdrawer")},
	}
}

// A watch is a monitor of a test, that can be killed and opened again.
type watch struct {
	t      testing.TB
	c      Config
	m      *Monitor
	disk   disk
	mu     sync.Mutex
	events []Event
}

// newWatch opens a monitor of a log. Releases come out as r says, or the same
// bits if it is nil. change, if not nil, sees the configuration first.
func newWatch(t testing.TB, url string, p *policies.Policy, r Rebuilder, change func(*Config)) *watch {
	t.Helper()
	if r == nil {
		r = outcomes{}
	}
	w := &watch{t: t}
	w.c = Config{
		Dir: filepath.Join(t.TempDir(), "monitor"), Log: log.NewClient(url, p.Logs[0], nil), Policy: p,
		Signer: testKey("monitor"), Rebuilder: r,
		Report: func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	}
	w.disk = folder(w.c.Dir)
	if change != nil {
		change(&w.c)
	}
	w.open()
	t.Cleanup(func() { w.m.Close() })
	return w
}

func (w *watch) open() {
	w.t.Helper()
	m, err := open(w.c, w.disk)
	if err != nil {
		w.t.Fatal(err)
	}
	w.m = m
}

// kill has another process take over: what was in memory is gone.
func (w *watch) kill() {
	w.t.Helper()
	w.m.Close()
	w.open()
}

func (w *watch) step() {
	w.t.Helper()
	if err := w.m.Step(w.t.Context()); err != nil {
		w.t.Fatalf("a step: %v", err)
	}
}

// failStep takes a step that has to fail in those words.
func (w *watch) failStep(words string) {
	w.t.Helper()
	if err := w.m.Step(w.t.Context()); err == nil || !strings.Contains(err.Error(), words) {
		w.t.Fatalf("a step: %v, which does not say %q", err, words)
	}
}

// alerts reads what is in the alerts file, and checks that the numbers are whole.
func (w *watch) alerts() []Alert {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.c.Dir, alertsFile))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	var all []Alert
	for line := range strings.Lines(string(b)) {
		var a Alert
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			w.t.Fatalf("a line of the alerts is %q: %v", line, err)
		}
		all = append(all, a)
		if a.Number != int64(len(all)) {
			w.t.Errorf("alert %d has the number %d", len(all), a.Number)
		}
		if _, ok := a.Code.Info(); !ok {
			w.t.Errorf("alert %d has the code %q, which is not in the list", len(all), a.Code)
		}
	}
	return all
}

// raised are the codes in the alerts file.
func (w *watch) raised() []Code {
	w.t.Helper()
	var codes []Code
	for _, a := range w.alerts() {
		codes = append(codes, a.Code)
	}
	return codes
}

func (w *watch) expect(codes ...Code) {
	w.t.Helper()
	if got := w.raised(); !slices.Equal(got, codes) {
		w.t.Errorf("the alerts are %v, not %v", w.alerts(), codes)
	}
}

// reported are the events of that kind.
func (w *watch) reported(kind string) []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []Event
	for _, e := range w.events {
		if e.Event == kind {
			all = append(all, e)
		}
	}
	return all
}

// outcomes is a rebuilder that builds nothing and gives, for each version, what
// the test says: the same bits if it says nothing.
type outcomes map[string]func(ctx context.Context, release *statement.Signed) (*builder.Rebuilt, error)

func (o outcomes) Rebuild(ctx context.Context, release *statement.Signed, _ builder.Addenda, dir string) (*builder.Rebuilt, error) {
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		return nil, fmt.Errorf("the folder is not an empty one: %v, %v", left, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "object.o"), []byte("left behind"), 0o600); err != nil {
		return nil, err
	}
	r, _ := release.Release()
	if f := o[r.Version]; f != nil {
		return f(ctx, release)
	}
	return reproduced(ctx, release)
}

func reproduced(context.Context, *statement.Signed) (*builder.Rebuilt, error) {
	return &builder.Rebuilt{Outcome: statement.Reproduced}, nil
}

func notReproduced(_ context.Context, release *statement.Signed) (*builder.Rebuilt, error) {
	return &builder.Rebuilt{
		Outcome:     statement.NotReproduced,
		Output:      &builder.Output{Artefacts: []builder.Artefact{{Name: "uki.efi", SHA256: hexOf(32, "other bits")}}},
		Differences: []builder.Difference{{Artefact: "uki.efi"}},
		Explanation: []byte(`{"because":"` + release.ID.String() + `"}`),
	}, nil
}

func couldNotBuild(context.Context, *statement.Signed) (*builder.Rebuilt, error) {
	return &builder.Rebuilt{Outcome: statement.CouldNotBuild, Reason: "the mirror answers 404"}, nil
}

func hexOf(n int, s string) string {
	var out []byte
	for len(out) < n {
		sum := sha256.Sum256(append(out, s...))
		out = append(out, sum[:]...)
	}
	return hex.EncodeToString(out[:n])
}

// releaseOf is a release of the product. The seed makes other artefacts.
func releaseOf(version, seed string, change ...func(*statement.Statement, *statement.Release)) *statement.Statement {
	registers := make(map[string]statement.Register)
	for _, name := range statement.MandatoryRegisters("tpm") {
		n, _ := statement.RegisterBytes("tpm", name)
		registers[name] = statement.Register{OneOf: []string{hexOf(n, seed+name)}}
	}
	r := &statement.Release{
		Product: testProduct, Version: version, SecurityEpoch: 1,
		Source:       statement.Source{URI: "https://git.example/hello", Commit: hexOf(20, "commit")},
		Recipe:       statement.Reference{Name: "image.yaml", Digest: statement.DigestOf([]byte("a recipe\n"))},
		Lock:         statement.Reference{Name: "image.lock", Digest: statement.DigestOf([]byte("a lock\n"))},
		Builder:      statement.Builder{ID: statement.BuilderID, Version: "0.1.0"},
		Volumes:      []statement.Volume{},
		Measurements: []statement.Measurement{{Platform: "tpm", Shape: "qemu-q35", Registers: registers}},
		NotCovered:   []statement.NotCovered{},
	}
	s := &statement.Statement{
		Subjects:  []statement.Subject{{Name: "uki.efi", Digest: statement.DigestOf([]byte(version + seed))}},
		Predicate: r,
	}
	for _, c := range change {
		c(s, r)
	}
	return s
}

func withEpoch(epoch int64) func(*statement.Statement, *statement.Release) {
	return func(_ *statement.Statement, r *statement.Release) { r.SecurityEpoch = epoch }
}

func ofProduct(product string) func(*statement.Statement, *statement.Release) {
	return func(_ *statement.Statement, r *statement.Release) { r.Product = product }
}

// rebuildOf is what a rebuilder says of a release.
func rebuildOf(release *statement.Signed, outcome statement.Outcome) *statement.Statement {
	r, _ := release.Release()
	p := &statement.Rebuild{
		Product: r.Product, Version: r.Version, Release: statement.ReleaseRef{Digest: release.ID.Digest()},
		Builder: statement.Builder{ID: statement.BuilderID, Version: "another's"}, Outcome: outcome,
	}
	switch outcome {
	case statement.NotReproduced:
		d := statement.DigestOf([]byte("explanation"))
		p.Explanation, p.Got = &d, []statement.Reference{{Name: "uki.efi", Digest: statement.DigestOf([]byte("other"))}}
	case statement.CouldNotBuild:
		p.Reason = "no compiler"
	}
	return &statement.Statement{Predicate: p, Subjects: append(slices.Clone(release.Statement.Subjects),
		statement.Subject{Name: statement.ReleaseSubject, Digest: release.ID.Digest()})}
}

func channelOf(sequence int64, releases ...*statement.Signed) *statement.Statement {
	s := &statement.Statement{Predicate: &statement.Channel{
		Product: testProduct, Channel: "stable", Sequence: sequence,
		IssuedAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 3, 8, 0, 0, 0, 0, time.UTC),
	}}
	for _, signed := range releases {
		r, _ := signed.Release()
		s.Subjects = append(s.Subjects, statement.Subject{Name: r.Version, Digest: signed.ID.Digest()})
	}
	return s
}

// withdrawalOf withdraws a release, or takes that back, since a day.
func withdrawalOf(day int, reinstates bool, release *statement.Signed, registers ...statement.RegisterValue) *statement.Statement {
	r, _ := release.Release()
	if registers == nil {
		registers = []statement.RegisterValue{}
	}
	return &statement.Statement{
		Subjects: []statement.Subject{{Name: r.Version, Digest: release.ID.Digest()}},
		Predicate: &statement.Withdrawal{
			Product: testProduct, Registers: registers, Reason: "it reads prompts", Reinstates: reinstates,
			Since: time.Date(2026, 3, day, 0, 0, 0, 0, time.UTC),
		},
	}
}

// sign makes an entry of a statement, by the key of that name.
func sign(t testing.TB, s *statement.Statement, keyName string) *statement.Signed {
	t.Helper()
	payload, err := s.Payload()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := statement.Sign(payload, testKey(keyName))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := statement.Parse(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// forge spoils the signature of an entry, and leaves its form.
func forge(t testing.TB, s *statement.Signed) []byte {
	t.Helper()
	text := string(s.Leaf)
	at := strings.Index(text, `"sig":"`) + len(`"sig":"`)
	other := "A"
	if text[at] == 'A' {
		other = "B"
	}
	forged := []byte(text[:at] + other + text[at+1:])
	if _, err := statement.Parse(forged); err != nil {
		t.Fatal(err)
	}
	return forged
}
