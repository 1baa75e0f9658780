package monitor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/builder"
	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/witness"
)

// A realLog is one of this module, with two witnesses that are both the quorum.
type realLog struct {
	url    string
	policy *receipt.Policy
	asleep atomic.Bool // the second witness
}

func newRealLog(t *testing.T, product string) *realLog {
	t.Helper()
	signer, vkey := logKeys(t, "log")
	l := &realLog{}
	text := "log " + vkey + "\n"
	for i := range 2 {
		name := fmt.Sprintf("w%d", i+1)
		w, err := witness.Open(filepath.Join(t.TempDir(), name), witness.Config{Name: name + ".example", Key: testKey(name), Logs: []string{vkey}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if i == 1 && l.asleep.Load() {
				http.Error(rw, "asleep", http.StatusServiceUnavailable)
				return
			}
			w.ServeHTTP(rw, r)
		}))
		t.Cleanup(srv.Close)
		text += fmt.Sprintf("witness %s %s %s\n", name, w.VerifierKey(), srv.URL)
	}
	var err error
	if l.policy, err = receipt.ParsePolicy(text+"group both all w1 w2\nquorum both\n", false); err != nil {
		t.Fatal(err)
	}
	admitted := "vitrine: admission/v1\nwriters:\n"
	for name, role := range map[string]log.Role{"publisher": log.RolePublisher, "channel": log.RoleChannel, "monitor": log.RoleRebuilder} {
		admitted += fmt.Sprintf("  - {name: %s, key: %q, roles: [%s], products: [%s]}\n", name, publicKey(name).PEM(), role, product)
	}
	admission, err := log.ParseAdmission("admission.yaml", []byte(admitted))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := log.Open(t.Context(), log.Config{
		Dir: filepath.Join(t.TempDir(), "log"), Signer: signer, Policy: l.policy, Admission: admission,
		CheckpointInterval: 100 * time.Millisecond, RepublishInterval: time.Hour, ReceiptTimeout: time.Second, WitnessTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- opened.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := opened.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	l.url = "http://" + ln.Addr().String()
	return l
}

// publish puts a statement into the log, with what has to lie beside it.
func (l *realLog) publish(t *testing.T, s *statement.Statement, key string, addenda ...[]byte) *statement.Signed {
	t.Helper()
	c := log.NewClient(l.url, l.policy, nil)
	for _, b := range addenda {
		if _, err := c.PutAddendum(t.Context(), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	signed := sign(t, s, key)
	if _, _, err := c.Add(t.Context(), signed.Leaf); err != nil {
		t.Fatal(err)
	}
	return signed
}

// words are the outcomes in the log by the monitor's key, by version, each
// verified as a client would.
func (l *realLog) words(t *testing.T) map[string][]statement.Outcome {
	t.Helper()
	c := log.NewClient(l.url, l.policy, nil)
	checkpoint, err := c.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	words := map[string][]statement.Outcome{}
	for entry, err := range c.Entries(t.Context(), checkpoint, 0) {
		if err != nil {
			t.Fatal(err)
		}
		signed, err := statement.Parse(entry.Leaf)
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := signed.Rebuild(); ok {
			if _, err := signed.VerifyAny([]*statement.PublicKey{publicKey("monitor")}); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.ReceiptAt(t.Context(), checkpoint, entry.Index, entry.Leaf); err != nil {
				t.Fatal(err)
			}
			words[r.Version] = append(words[r.Version], r.Outcome)
		}
	}
	return words
}

// TestRealLog runs a monitor beside a real log with real witnesses, from zero.
func TestRealLog(t *testing.T) {
	l := newRealLog(t, testProduct)
	recipe, lock := []byte("a recipe\n"), []byte("a lock\n")
	first := l.publish(t, releaseOf("1.0.0", ""), "publisher", recipe, lock)
	l.publish(t, releaseOf("1.1.0", ""), "publisher")
	l.publish(t, channelOf(2, first), "channel")
	w := newWatch(t, l.url, testPolicy(l.policy), outcomes{"1.1.0": notReproduced, "1.2.0": couldNotBuild}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.m.Run(ctx, 50*time.Millisecond) }()
	published := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); len(w.reported("published")) < n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("it reported %+v", w.events)
			}
		}
	}
	published(2)
	// A witness sleeps: what is said is in the log, and nobody can show it yet.
	l.publish(t, releaseOf("1.2.0", ""), "publisher")
	l.asleep.Store(true)
	published(3)
	l.asleep.Store(false)
	// The log takes what is in the right form, by the right key; what it says is
	// for a monitor to judge.
	l.publish(t, channelOf(1, first), "channel")
	l.publish(t, releaseOf("0.9.0", "", withEpoch(2)), "publisher")
	l.publish(t, releaseOf("0.9.1", "", withEpoch(1)), "publisher")
	published(5)
	confirmed := func() bool {
		w.m.mu.Lock()
		defer w.m.mu.Unlock()
		for _, r := range w.m.state.Rebuilds {
			if !r.Confirmed {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(30 * time.Second); !confirmed(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not every statement was found in the log")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	got := l.words(t)
	want := map[string][]statement.Outcome{
		"1.0.0": {statement.Reproduced}, "1.1.0": {statement.NotReproduced}, "1.2.0": {statement.CouldNotBuild},
		"0.9.0": {statement.Reproduced}, "0.9.1": {statement.Reproduced},
	}
	for version, outcomes := range want {
		if !slices.Equal(got[version], outcomes) {
			t.Errorf("of %s the log says %v, not %v", version, got[version], outcomes)
		}
	}
	w.expect(NotReproduced, ChannelRollback, EpochDecreased)

	// Another monitor begins at the first entry and finds the same.
	w.kill()
	other := newWatch(t, l.url, w.c.Policy, w.c.Rebuilder, nil)
	other.step()
	raised := other.raised()
	slices.Sort(raised)
	if want := []Code{ChannelRollback, EpochDecreased, NotReproduced}; !slices.Equal(raised, want) {
		t.Errorf("from zero, the alerts are %v", raised)
	}
	if again := l.words(t); len(again) != len(want) || len(again["1.0.0"]) != 1 {
		t.Errorf("the same words by the same key were added again: %v", again)
	}
}

// builds is the builder, with one cache of compiled packages for the test.
type builds struct{ tools builder.Toolchain }

func (b builds) Rebuild(ctx context.Context, release *statement.Signed, addenda builder.Addenda, dir string) (*builder.Rebuilt, error) {
	return builder.Rebuild(ctx, release, addenda, nil, builder.Options{OutDir: filepath.Join(dir, "image"), WorkDir: dir, Toolchain: b.tools})
}

// TestRealBuild publishes an image that was built from a recipe, the same
// recipe with another image's digests, and one whose module is not to be had;
// and a monitor, which knows only the log, builds all three.
func TestRealBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles the standard library")
	}
	l := newRealLog(t, "tiny")
	tools := builder.Toolchain{Cache: filepath.Join(t.TempDir(), "gocache")}
	tinyOf := func(version string, change ...string) *tiny {
		return buildTiny(t, tools, func(dir string) {
			edit(t, filepath.Join(dir, "image.yaml"), `version: "1.0"`, `version: "`+version+`"`)
			if change != nil {
				edit(t, filepath.Join(dir, change[0]), change[1], change[2])
			}
		})
	}
	honest := tinyOf("1.0")
	l.publish(t, honest.release(t, honest), "publisher", honest.addenda...)
	shown, hidden := tinyOf("1.1"), tinyOf("1.1", "image.yaml", `content: "hello\n"`, `content: "planted\n"`)
	l.publish(t, shown.release(t, hidden), "publisher", append(shown.addenda, hidden.addenda...)...)
	rotten := tinyOf("1.2", "program/embedded/text.txt", "embedded", "vanished")
	l.publish(t, rotten.release(t, rotten), "publisher", rotten.in.Recipe, rotten.in.Lock)

	p := testPolicy(l.policy)
	p.Product = "tiny"
	w := newWatch(t, l.url, p, builds{tools}, nil)
	w.step()
	w.step()
	w.expect(NotReproduced)
	got := l.words(t)
	for version, want := range map[string]statement.Outcome{"1.0": statement.Reproduced, "1.1": statement.NotReproduced, "1.2": statement.CouldNotBuild} {
		if !slices.Equal(got[version], []statement.Outcome{want}) {
			t.Errorf("%s: the log says %v, not %s: %+v", version, got[version], want, w.reported("rebuilt"))
		}
	}
	a := w.alerts()[0]
	if !strings.Contains(a.Detail, "etc/motd") {
		t.Errorf("the alert does not name the file that differs: %s", a.Detail)
	}
	explanation, err := os.ReadFile(filepath.Join(w.c.Dir, a.Evidence[0]))
	if err != nil || !bytes.Contains(explanation, []byte("etc/motd")) {
		t.Errorf("the evidence is %.200q: %v", explanation, err)
	}
	if _, err := log.NewClient(l.url, l.policy, nil).Addendum(t.Context(), statement.DigestOf(explanation), 1<<20); err != nil {
		t.Errorf("the explanation is not beside the log: %v", err)
	}
}

// A tiny is an image of builder's smallest recipe, and what is published of it.
type tiny struct {
	out          *builder.Output
	in           builder.Inputs
	measurements []statement.Measurement
	addenda      [][]byte
}

func buildTiny(t *testing.T, tools builder.Toolchain, change func(dir string)) *tiny {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "recipe")
	if err := os.CopyFS(dir, os.DirFS("../builder/testdata/tiny")); err != nil {
		t.Fatal(err)
	}
	change(dir)
	recipe, err := os.ReadFile(filepath.Join(dir, "image.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cache := builder.Cache{Dir: t.TempDir()}
	lock, err := builder.LockRecipe(t.Context(), dir, recipe, builder.LockOptions{Toolchain: tools, Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	text, err := lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b := &tiny{in: builder.Inputs{Recipe: recipe, Lock: text, Fetchers: []builder.Fetcher{cache}}}
	if b.out, err = builder.Build(t.Context(), b.in, builder.Options{OutDir: filepath.Join(t.TempDir(), "out"), Toolchain: tools}); err != nil {
		t.Fatal(err)
	}
	if b.measurements, err = b.out.Measurements(t.Context(), b.in, cache); err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(b.out.Path(builder.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	b.addenda = [][]byte{recipe, text, manifest}
	for _, input := range lock.Local() {
		r, err := cache.Fetch(t.Context(), input)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		b.addenda = append(b.addenda, data)
	}
	return b
}

// release says of a recipe that it gives an image, which may be another's.
func (b *tiny) release(t *testing.T, image *tiny) *statement.Statement {
	t.Helper()
	claimed := *image.out.Manifest
	claimed.Recipe, claimed.Lock = b.out.Manifest.Recipe, b.out.Manifest.Lock
	s, err := builder.ReleaseStatement(&builder.Output{Dir: image.out.Dir, Artefacts: image.out.Artefacts, Manifest: &claimed}, b.in, builder.Version, image.measurements)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func edit(t *testing.T, name, old, new string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil || !bytes.Contains(b, []byte(old)) {
		t.Fatalf("%s has no %q: %v", name, old, err)
	}
	if err := os.WriteFile(name, bytes.ReplaceAll(b, []byte(old), []byte(new)), 0o644); err != nil {
		t.Fatal(err)
	}
}
