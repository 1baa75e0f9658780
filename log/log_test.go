package log_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/internal/logtest"
	"github.com/vitrine-dev/vitrine/log/statement"
)

func TestMain(m *testing.M) { logtest.Main(m) }

// opened opens a world's log for a client that has stored what every test
// release names.
func opened(t testing.TB, w *logtest.World) (c *log.Client, url string, stop func()) {
	t.Helper()
	_, url, stop = w.Open()
	c = log.NewClient(url, w.Policy, nil)
	putAddenda(t, c)
	return c, url, stop
}

// publish adds a release.
func publish(t testing.TB, c *log.Client, version string) *statement.Signed {
	t.Helper()
	release := logtest.Sign(t, logtest.Release(version, ""), "publisher")
	if _, _, err := c.Add(t.Context(), release.Leaf); err != nil {
		t.Fatal(err)
	}
	return release
}

// putAddenda stores what every test release names.
func putAddenda(t testing.TB, c *log.Client) {
	t.Helper()
	for _, data := range [][]byte{logtest.Recipe, logtest.Lock} {
		d, err := c.PutAddendum(context.Background(), bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if d != statement.DigestOf(data) {
			t.Fatalf("stored under %v", d)
		}
	}
}

// code gives the code of an *log.Error, or what else the error is.
func code(err error) log.Code {
	var e *log.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return log.Code(fmt.Sprint(err))
}

func TestAddIsAnsweredWithAReceipt(t *testing.T) {
	w := logtest.NewWorld(t, 2)
	c, _, _ := opened(t, w)

	release := logtest.Sign(t, logtest.Release("1.0.0", ""), "publisher")
	tr, index, err := c.Add(t.Context(), release.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	if index != 0 || !bytes.Equal(tr.Leaf, release.Leaf) {
		t.Errorf("index %d, leaf %s", index, tr.Leaf)
	}
	// An independent reader of the same policy and proof agrees.
	policy, err := torchwood.ParsePolicy([]byte(w.Policy.Text()))
	if err != nil {
		t.Fatal(err)
	}
	if err := torchwood.VerifyProof(policy, tlog.RecordHash(tr.Leaf), []byte(tr.Receipts[0])); err != nil {
		t.Errorf("torchwood does not accept the receipt: %v", err)
	}

	for i, s := range []*statement.Signed{
		logtest.Sign(t, logtest.Rebuild(release, "a"), "rebuilder"),
		logtest.Sign(t, logtest.Channel(1, release), "channel"),
		logtest.Sign(t, logtest.Withdrawal(release, "a test"), "withdrawer"),
		logtest.Sign(t, logtest.LargeRelease("2.0.0", 30<<10), "publisher"),
	} {
		tr, index, err := c.Add(t.Context(), s.Leaf)
		if err != nil {
			t.Fatalf("statement %d: %v", i, err)
		}
		if index != int64(i)+1 {
			t.Errorf("statement %d is at index %d", i, index)
		}
		r, err := w.Policy.Verify(tr.Leaf, []byte(tr.Receipts[0]), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if age := time.Since(r.Freshness); age > 30*time.Second {
			t.Errorf("the receipt is %v old", age)
		}
	}
}

// TestAddRefuses posts what must not get in, and shows beside each the twin that
// does.
func TestAddRefuses(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	l, url, _ := w.Open()
	c := log.NewClient(url, w.Policy, nil)
	release := logtest.Sign(t, logtest.Release("1.0.0", ""), "publisher")
	if _, _, err := c.Add(t.Context(), release.Leaf); code(err) != log.MissingAddenda {
		t.Errorf("a release without addenda: %v", err)
	}
	putAddenda(t, c)
	if _, _, err := c.Add(t.Context(), release.Leaf); err != nil {
		t.Errorf("the same with addenda: %v", err)
	}

	foreign := logtest.Release("1.0.0", "")
	foreign.Predicate.(*statement.Release).Product = "another-product"
	forged := logtest.Sign(t, logtest.Release("1.1.0", ""), "publisher")
	for name, c := range map[string]struct {
		leaf []byte
		code log.Code
	}{
		"nothing":               {nil, log.Malformed},
		"not JSON":              {[]byte("leaf"), log.Malformed},
		"not canonical":         {append([]byte(" "), release.Leaf...), log.Malformed},
		"too long":              {bytes.Repeat([]byte("x"), statement.MaxLeafBytes+1), log.TooLarge},
		"unknown key":           {logtest.Sign(t, logtest.Release("1.1.0", ""), "stranger").Leaf, log.NotAdmitted},
		"another role's key":    {logtest.Sign(t, logtest.Release("1.1.0", ""), "rebuilder").Leaf, log.NotAdmitted},
		"publisher's rebuild":   {logtest.Sign(t, logtest.Rebuild(release, "a"), "publisher").Leaf, log.NotAdmitted},
		"another product":       {logtest.Sign(t, foreign, "publisher").Leaf, log.NotAdmitted},
		"signature changed":     {changeSignature(t, forged.Leaf), log.NotAdmitted},
		"same version, changed": {logtest.Sign(t, logtest.Release("1.0.0", "changed"), "publisher").Leaf, log.Conflict},
	} {
		_, err := l.Add(t.Context(), c.leaf)
		if code(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
		// The same over HTTP, with the status.
		resp, err := http.Post(url+"/add", "application/octet-stream", bytes.NewReader(c.leaf))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		want := map[log.Code]int{log.Malformed: 400, log.TooLarge: 413, log.NotAdmitted: 403, log.Conflict: 409}[c.code]
		if resp.StatusCode != want || !strings.Contains(string(body), `"code":"`+string(c.code)+`"`) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
	checkpoint, err := c.Checkpoint(t.Context())
	if err != nil || checkpoint.Size != 1 {
		t.Errorf("the log has %+v, %v; want one entry", checkpoint, err)
	}
}

// changeSignature changes a bit of the signature and leaves the leaf canonical.
func changeSignature(t *testing.T, leaf []byte) []byte {
	t.Helper()
	at := bytes.Index(leaf, []byte(`"sig":"`)) + len(`"sig":"`)
	changed := bytes.Clone(leaf)
	if changed[at] == 'A' {
		changed[at] = 'B'
	} else {
		changed[at] = 'A'
	}
	if _, err := statement.Parse(changed); err != nil {
		t.Fatal(err)
	}
	return changed
}

// TestKnownPayload: whatever bundle a payload comes in, the first entry answers.
func TestKnownPayload(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	// Two publishers, who sign the same payload.
	second, err := statement.NewPublicKey(logtest.Key("second").Public())
	if err != nil {
		t.Fatal(err)
	}
	w.Admission += fmt.Sprintf("  - {name: second, key: %q, roles: [publisher], products: [%s]}\n", second.PEM(), logtest.Product)
	c, _, stop := opened(t, w)
	first := publish(t, c, "1.0.0")
	other := logtest.Sign(t, logtest.Release("1.0.0", ""), "second")
	again := func(when string) {
		t.Helper()
		for _, s := range []*statement.Signed{first, other} {
			tr, index, err := c.Add(t.Context(), s.Leaf)
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if index != 0 || !bytes.Equal(tr.Leaf, first.Leaf) {
				t.Errorf("%s: answered with index %d and leaf %.60s", when, index, tr.Leaf)
			}
		}
		if checkpoint, err := c.Checkpoint(t.Context()); err != nil || checkpoint.Size != 1 {
			t.Errorf("%s: the log has %+v, %v", when, checkpoint, err)
		}
	}
	again("in the same run")
	stop()
	_, url, _ := w.Open()
	c = log.NewClient(url, w.Policy, nil)
	again("after opening again")
	conflict := logtest.Sign(t, logtest.Release("1.0.0", "changed"), "publisher")
	if _, _, err := c.Add(t.Context(), conflict.Leaf); code(err) != log.Conflict {
		t.Errorf("another payload for the version after opening again: %v", err)
	}
}

// TestTwoRebuilders: what two rebuilders say in the same words is two entries,
// since a policy may demand both; said again, each is answered with its own.
func TestTwoRebuilders(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	second, err := statement.NewPublicKey(logtest.Key("second").Public())
	if err != nil {
		t.Fatal(err)
	}
	w.Admission += fmt.Sprintf("  - {name: second, key: %q, roles: [rebuilder], products: [%s]}\n", second.PEM(), logtest.Product)
	c, _, stop := opened(t, w)
	release := publish(t, c, "1.0.0")
	said := []*statement.Signed{
		logtest.Sign(t, logtest.Rebuild(release, "1"), "rebuilder"),
		logtest.Sign(t, logtest.Rebuild(release, "1"), "second"),
	}
	if said[0].ID != said[1].ID {
		t.Fatal("the two do not say the same")
	}
	all := func(when string) {
		t.Helper()
		for i, s := range said {
			tr, index, err := c.Add(t.Context(), s.Leaf)
			if err != nil {
				t.Fatalf("%s: rebuilder %d: %v", when, i, err)
			}
			if index != int64(1+i) || !bytes.Equal(tr.Leaf, s.Leaf) {
				t.Errorf("%s: rebuilder %d is answered with entry %d and leaf %.60s", when, i, index, tr.Leaf)
			}
		}
	}
	all("first")
	all("again")
	if _, _, err := c.Add(t.Context(), logtest.Sign(t, logtest.Rebuild(release, "1"), "stranger").Leaf); code(err) != log.NotAdmitted {
		t.Errorf("a stranger with the same words: %v", err)
	}
	stop()
	_, url, _ := w.Open()
	c = log.NewClient(url, w.Policy, nil)
	all("after opening again")
}

// TestConcurrentAdds: of two payloads for one version one wins, and a payload
// sent many times at once becomes one entry.
func TestConcurrentAdds(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	c, _, _ := opened(t, w)
	const versions, copies = 6, 4
	var mu sync.Mutex
	winners := make(map[string]map[string]int64) // version -> payload -> index
	var wg sync.WaitGroup
	for v := range versions {
		version := fmt.Sprintf("1.%d.0", v)
		winners[version] = make(map[string]int64)
		for _, seed := range []string{"one", "other"} {
			s := logtest.Sign(t, logtest.Release(version, seed), "publisher")
			for range copies {
				wg.Go(func() {
					_, index, err := c.Add(t.Context(), s.Leaf)
					if err != nil {
						if code(err) != log.Conflict {
							t.Errorf("%s: %v", version, err)
						}
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if i, ok := winners[version][s.ID.String()]; ok && i != index {
						t.Errorf("%s: one payload at %d and %d", version, i, index)
					}
					winners[version][s.ID.String()] = index
				})
			}
		}
	}
	wg.Wait()
	for version, won := range winners {
		if len(won) != 1 {
			t.Errorf("%s: %d payloads won", version, len(won))
		}
	}
	if checkpoint, err := c.Checkpoint(t.Context()); err != nil || checkpoint.Size != versions {
		t.Errorf("the log has %+v, %v; want %d entries", checkpoint, err, versions)
	}
}

// TestWitnessDown: without the quorum there is an entry and no receipt; when the
// witness is back the same bytes get the receipt of the same entry.
func TestWitnessDown(t *testing.T) {
	w := logtest.NewWorld(t, 2)
	w.ReceiptTimeout = 700 * time.Millisecond
	c, url, stop := opened(t, w)
	first := logtest.Sign(t, logtest.Release("1.0.0", ""), "publisher")
	for range 20 { // the timeout is short, and the machine may be busy
		if _, _, err := c.Add(t.Context(), first.Leaf); err == nil {
			break
		} else if code(err) != log.NoReceipt {
			t.Fatal(err)
		}
	}
	before, err := c.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	w.Witnesses[1].Kill()
	second := logtest.Sign(t, logtest.Release("1.1.0", ""), "publisher")
	for range 2 {
		_, index, err := c.Add(t.Context(), second.Leaf)
		if code(err) != log.NoReceipt || index != 1 {
			t.Fatalf("with a witness down: index %d, %v", index, err)
		}
	}
	resp, err := http.Post(url+"/add", "", bytes.NewReader(second.Leaf))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted || !strings.Contains(string(body), `"code":"log/no-receipt"`) || !strings.Contains(string(body), `"index":1`) {
		t.Errorf("over HTTP: %d %s", resp.StatusCode, body)
	}
	if after, err := c.Checkpoint(t.Context()); err != nil || !bytes.Equal(after.Note, before.Note) {
		t.Errorf("a checkpoint without the quorum was published: %v", err)
	}

	// The log may even be opened again in between.
	stop()
	_, url, _ = w.Open()
	c = log.NewClient(url, w.Policy, nil)
	if _, index, err := c.Add(t.Context(), second.Leaf); code(err) != log.NoReceipt || index != 1 {
		t.Fatalf("opened again with the witness down: index %d, %v", index, err)
	}
	w.Witnesses[1].Restart()
	deadline := time.Now().Add(20 * time.Second)
	for {
		tr, index, err := c.Add(t.Context(), second.Leaf)
		if err == nil {
			if index != 1 || !bytes.Equal(tr.Leaf, second.Leaf) {
				t.Errorf("the witness is back: index %d", index)
			}
			break
		}
		if code(err) != log.NoReceipt || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestNewLogWithWitnessDown: a log may be made before its witnesses.
func TestNewLogWithWitnessDown(t *testing.T) {
	w := logtest.NewWorld(t, 1)
	w.ReceiptTimeout = 500 * time.Millisecond
	w.Witnesses[0].Kill()
	c, _, _ := opened(t, w)
	if _, err := c.Checkpoint(t.Context()); !log.IsNotFound(err) {
		t.Errorf("the checkpoint of a log that was never cosigned: %v", err)
	}
	release := logtest.Sign(t, logtest.Release("1.0.0", ""), "publisher")
	if _, _, err := c.Add(t.Context(), release.Leaf); code(err) != log.NoReceipt {
		t.Fatalf("before any checkpoint: %v", err)
	}
	w.Witnesses[0].Restart()
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, _, err := c.Add(t.Context(), release.Leaf)
		if err == nil {
			break
		}
		if code(err) != log.NoReceipt || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestIdleLogStaysFresh: without new entries the tree is cosigned anew.
func TestIdleLogStaysFresh(t *testing.T) {
	w := logtest.NewWorld(t, 2)
	w.RepublishInterval = time.Second
	c, _, _ := opened(t, w)
	release := publish(t, c, "1.0.0")
	_, first, err := c.Receipt(t.Context(), 0, release.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, r, err := c.Receipt(t.Context(), 0, release.Leaf)
		if err != nil {
			t.Fatal(err)
		}
		if r.Size != 1 || r.Root != first.Root {
			t.Fatalf("the idle log is now of size %d", r.Size)
		}
		if r.Freshness.After(first.Freshness) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still as fresh as %v", r.Freshness)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestOpenRefuses(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	c, _, stop := opened(t, w)
	publish(t, c, "1.0.0")
	if _, err := log.Open(t.Context(), w.Config()); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a second opener: %v", err)
	}
	stop()

	open := func(c log.Config) error {
		l, err := log.Open(t.Context(), c)
		if err == nil {
			l.Close(context.Background())
		}
		return err
	}
	for name, change := range map[string]func(*log.Config){
		"no folder":        func(c *log.Config) { c.Dir = "" },
		"no signer":        func(c *log.Config) { c.Signer = nil },
		"no policy":        func(c *log.Config) { c.Policy = nil },
		"no admission":     func(c *log.Config) { c.Admission = nil },
		"no republishing":  func(c *log.Config) { c.RepublishInterval = 0 },
		"rare republish":   func(c *log.Config) { c.RepublishInterval = time.Millisecond },
		"hasty checkpoint": func(c *log.Config) { c.CheckpointInterval = time.Millisecond },
		"another signer": func(c *log.Config) {
			c.Signer = logtest.WitnessSigner(t, "w1")
		},
		"folder is a file": func(c *log.Config) { c.Dir = filepath.Join(c.Dir, "checkpoint") },
	} {
		c := w.Config()
		change(&c)
		if err := open(c); err == nil {
			t.Errorf("%s: the log opened", name)
		}
	}
	if err := open(w.Config()); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	// A tree smaller than the checkpoint means entries were lost.
	state := filepath.Join(w.Dir, ".state", "treeState")
	kept, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, []byte(`{"size":0,"root":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := open(w.Config()); err == nil || !strings.Contains(err.Error(), "must not forget") {
		t.Errorf("with a tree smaller than the checkpoint: %v", err)
	}
	if err := os.WriteFile(state, kept, 0o644); err != nil {
		t.Fatal(err)
	}
	// A changed entry is found out.
	bundle := filepath.Join(w.Dir, "tile", "entries", "000.p", "1")
	if _, err := os.Stat(bundle); err != nil {
		t.Fatal(err)
	}
	other := logtest.Sign(t, logtest.Release("1.0.0", "another"), "publisher")
	data, err := torchwood.AppendTileEntry(nil, other.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bundle, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := open(w.Config()); err == nil || !strings.Contains(err.Error(), "not those of the checkpoint") {
		t.Errorf("with another entry in the bundle: %v", err)
	}
}

// TestManyEntries crosses the width of a tile, with the log opened again in
// between, and reads everything back.
func TestManyEntries(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	c, _, stop := opened(t, w)
	release := publish(t, c, "1.0.0")
	const total = 600
	sent := map[int64][]byte{0: release.Leaf}
	var mu sync.Mutex
	add := func(from, to int) {
		var wg sync.WaitGroup
		work := make(chan *statement.Signed)
		for range 64 {
			wg.Go(func() {
				for s := range work {
					_, index, err := c.Add(t.Context(), s.Leaf)
					if err != nil {
						t.Error(err)
						continue
					}
					mu.Lock()
					sent[index] = s.Leaf
					mu.Unlock()
				}
			})
		}
		for i := from; i < to; i++ {
			work <- logtest.Sign(t, logtest.Rebuild(release, fmt.Sprint(i)), "rebuilder")
		}
		close(work)
		wg.Wait()
	}
	add(1, 250)
	small, err := c.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	add(250, 300)
	stop()
	_, url, _ := w.Open()
	c = log.NewClient(url, w.Policy, nil)
	add(300, total)

	checkpoint, err := c.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if checkpoint.Size != total || len(sent) != total {
		t.Fatalf("%d entries, %d were sent", checkpoint.Size, len(sent))
	}
	for _, from := range []int64{0, 1, 255, 256, 300, total} {
		next := from
		for e, err := range c.Entries(t.Context(), checkpoint, from) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Index != next || !bytes.Equal(e.Leaf, sent[e.Index]) {
				t.Fatalf("entry %d, want %d: %.50s", e.Index, next, e.Leaf)
			}
			next++
		}
		if next != total {
			t.Errorf("from %d the walk ended at %d", from, next)
		}
	}
	for range 1 {
		for e, err := range c.Entries(t.Context(), checkpoint, total+1) {
			if err == nil {
				t.Errorf("an entry past the end: %v", e)
			}
		}
	}
	if err := c.Consistency(t.Context(), small, checkpoint); err != nil {
		t.Errorf("consistency from %d to %d: %v", small.Size, checkpoint.Size, err)
	}
	// A reader with a former checkpoint is served too, though the partial tiles
	// of its tree are removed after a while.
	for _, dir := range []string{"tile/0/000.p", "tile/entries/000.p"} {
		if err := os.RemoveAll(filepath.Join(w.Dir, dir)); err != nil {
			t.Fatal(err)
		}
	}
	n := int64(0)
	for e, err := range c.Entries(t.Context(), small, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(e.Leaf, sent[e.Index]) {
			t.Fatalf("entry %d of the former tree differs", e.Index)
		}
		n++
	}
	if n != small.Size {
		t.Errorf("%d entries of the former tree, which has %d", n, small.Size)
	}
	if _, r, err := c.ReceiptAt(t.Context(), small, 100, sent[100]); err != nil || r.Index != 100 {
		t.Errorf("a receipt under the former checkpoint: %v", err)
	}
	if _, _, err := c.ReceiptAt(t.Context(), checkpoint, 101, sent[100]); err == nil {
		t.Error("a receipt for a leaf at another's index")
	}
}
