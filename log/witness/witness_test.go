package witness_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/witness"
)

const origin = "log.example/test"

// witnessKey is one key for all tests: a restarted witness is the same one.
var witnessKey = ed25519.NewKeyFromSeed([]byte("a seed that only the tests know."))

func open(t testing.TB, dir string, vkeys ...string) *witness.Witness {
	t.Helper()
	w, err := witness.Open(dir, witness.Config{Name: "witness.example/w1", Key: witnessKey, Logs: vkeys})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func post(t testing.TB, url, body string) (status int, header http.Header, answer string) {
	t.Helper()
	resp, err := http.Post(url+"/add-checkpoint", "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// cosignedAt checks that answer is the witness's cosignature on checkpoint, and
// gives its time.
func cosignedAt(t testing.TB, vkey, checkpoint, answer string) int64 {
	t.Helper()
	v, err := torchwood.NewCosignatureVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open([]byte(checkpoint+answer), note.VerifierList(v))
	if err != nil {
		t.Fatalf("the answer %q is not a cosignature on the checkpoint: %v", answer, err)
	}
	at, err := torchwood.CosignatureTimestamp(n.Sigs[0])
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(time.Unix(at, 0)); d < -2*time.Second || d > time.Minute {
		t.Fatalf("cosigned %v ago", d)
	}
	return at
}

func TestAddCheckpoint(t *testing.T) {
	log, vkey := newKey(t, origin)
	impostor, _ := newKey(t, origin)
	stranger, _ := newKey(t, "log.example/other")
	genuine := newTree(t, 40, 40, "")
	forked := newTree(t, 40, 10, "fork")

	// Each step goes to one witness, in order: its state is the point.
	steps := []struct {
		name   string
		body   string
		status int
		size   string // in the answer to a stale old size
	}{
		{"nothing", "", 400, ""},
		{"no old size", "\n" + genuine.checkpoint(log, 1), 400, ""},
		{"old size with a leading zero", "old 00\n\n" + genuine.checkpoint(log, 1), 400, ""},
		{"negative old size", "old -1\n\n" + genuine.checkpoint(log, 1), 400, ""},
		{"proof line that is no hash", "old 0\nabc\n\n" + genuine.checkpoint(log, 1), 400, ""},
		{"proof line with a carriage return", "old 0\n" + genuine.root(1).String() + "\r\n\n" + genuine.checkpoint(log, 1), 400, ""},
		{"64 proof lines", body(0, make(tlog.TreeProof, 64), genuine.checkpoint(log, 1)), 400, ""},
		{"no checkpoint", "old 0\n\n", 400, ""},
		{"note that is no checkpoint", body(0, nil, sign(t, log, origin+"\nmany\n")), 400, ""},
		{"note without a signature", body(0, nil, origin+"\n1\n"+genuine.root(1).String()+"\n\n"), 400, ""},
		{"unknown log", body(0, nil, genuine.checkpoint(stranger, 1)), 404, ""},
		{"another key with the log's name", body(0, nil, genuine.checkpoint(impostor, 1)), 403, ""},
		{"the log's key on another text", body(0, nil, strings.Replace(genuine.checkpoint(log, 10), "\n10\n", "\n11\n", 1)), 403, ""},
		{"old size above the checkpoint's", body(9, nil, genuine.checkpoint(log, 8)), 400, ""},
		{"never seen, but an old size", body(5, genuine.proof(5, 8), genuine.checkpoint(log, 8)), 409, "0\n"},
		{"empty tree with a root", body(0, nil, sign(t, log, origin+"\n0\n"+genuine.root(1).String()+"\n")), 422, ""},
		{"empty tree", body(0, nil, genuine.checkpoint(log, 0)), 200, ""},
		{"first with a proof", body(0, genuine.proof(5, 8), genuine.checkpoint(log, 8)), 422, ""},
		{"first", body(0, nil, genuine.checkpoint(log, 8)), 200, ""},
		{"the same again, old size unknown", body(0, nil, genuine.checkpoint(log, 8)), 409, "8\n"},
		{"the same again", body(8, nil, genuine.checkpoint(log, 8)), 200, ""},
		{"the same again with a proof", body(8, genuine.proof(5, 8), genuine.checkpoint(log, 8)), 422, ""},
		{"growth without a proof", body(8, nil, genuine.checkpoint(log, 20)), 422, ""},
		{"growth with another proof", body(8, genuine.proof(7, 20), genuine.checkpoint(log, 20)), 422, ""},
		{"growth", body(8, genuine.proof(8, 20), genuine.checkpoint(log, 20)), 200, ""},
		{"fork of the same size", body(20, nil, forked.checkpoint(log, 20)), 409, ""},
		{"fork that grew", body(20, forked.proof(20, 25), forked.checkpoint(log, 25)), 422, ""},
		{"back to an older size", body(20, nil, genuine.checkpoint(log, 8)), 400, ""},
		{"back to an older size, as its own", body(8, nil, genuine.checkpoint(log, 8)), 409, "20\n"},
		{"extension lines", body(20, nil, sign(t, log, origin+"\n20\n"+genuine.root(20).String()+"\nextension\n")), 200, ""},
		{"growth again", body(20, genuine.proof(20, 40), genuine.checkpoint(log, 40)), 200, ""},
		{"too long", "old 0\n\n" + strings.Repeat("x", 100<<10), 413, ""},
	}
	dir := t.TempDir()
	w := open(t, dir, vkey)
	defer w.Close()
	srv := httptest.NewServer(w)
	defer srv.Close()
	for _, s := range steps {
		status, header, answer := post(t, srv.URL, s.body)
		if status != s.status {
			t.Errorf("%s: status %d (%q), want %d", s.name, status, answer, s.status)
			continue
		}
		if sized := header.Get("Content-Type") == "text/x.tlog.size"; sized != (s.size != "") || sized && answer != s.size {
			t.Errorf("%s: answered %q as %q, want the size %q", s.name, answer, header.Get("Content-Type"), s.size)
		}
		if status == http.StatusOK {
			_, checkpoint, _ := strings.Cut(s.body, "\n\n")
			cosignedAt(t, w.VerifierKey(), checkpoint, answer)
		}
	}
	// Both sides of the fork are kept.
	forks, err := filepath.Glob(filepath.Join(dir, "*.fork"))
	if err != nil || len(forks) != 1 {
		t.Fatalf("want one kept fork, have %v, %v", forks, err)
	}
	kept, err := os.ReadFile(forks[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := genuine.checkpoint(log, 20) + "\n" + forked.checkpoint(log, 20); string(kept) != want {
		t.Errorf("the kept fork is\n%s\nwant\n%s", kept, want)
	}
	if resp, err := http.Get(srv.URL + "/add-checkpoint"); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET gives %v, %v", resp, err)
	}
}

// TestSignedByOneOfTwoKeys: a log that rotates its key signs with both, and
// signatures of strangers are ignored.
func TestSignedByOneOfTwoKeys(t *testing.T) {
	oldKey, oldVkey := newKey(t, origin)
	newKey_, newVkey := newKey(t, origin)
	stranger, _ := newKey(t, "stranger.example")
	w := open(t, t.TempDir(), oldVkey, newVkey)
	defer w.Close()
	srv := httptest.NewServer(w)
	defer srv.Close()
	tr := newTree(t, 3, 3, "")
	old := int64(0)
	for i, signers := range [][]note.Signer{{oldKey}, {oldKey, newKey_, stranger}, {stranger, newKey_}} {
		size := int64(i + 1)
		n, err := note.Sign(&note.Note{Text: torchwood.Checkpoint{Origin: origin, Tree: tlog.Tree{N: size, Hash: tr.root(size)}}.String()}, signers...)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, answer := post(t, srv.URL, body(old, tr.proof(old, size), string(n))); status != 200 {
			t.Fatalf("checkpoint %d: %d %s", size, status, answer)
		}
		old = size
	}
}

func TestIdleLogIsCosignedAnew(t *testing.T) {
	log, vkey := newKey(t, origin)
	w := open(t, t.TempDir(), vkey)
	defer w.Close()
	srv := httptest.NewServer(w)
	defer srv.Close()
	checkpoint := newTree(t, 5, 5, "").checkpoint(log, 5)
	_, _, answer := post(t, srv.URL, body(0, nil, checkpoint))
	first := cosignedAt(t, w.VerifierKey(), checkpoint, answer)
	time.Sleep(1100 * time.Millisecond)
	_, _, answer = post(t, srv.URL, body(5, nil, checkpoint))
	if second := cosignedAt(t, w.VerifierKey(), checkpoint, answer); second <= first {
		t.Errorf("cosigned at %d, then at %d", first, second)
	}
}

// TestConcurrentForks sends both sides of a fork at once, many times: of each
// pair one at most may be cosigned.
func TestConcurrentForks(t *testing.T) {
	log, vkey := newKey(t, origin)
	w := open(t, t.TempDir(), vkey)
	defer w.Close()
	srv := httptest.NewServer(w)
	defer srv.Close()
	const rounds = 30
	sides := []*tree{newTree(t, rounds, 0, "one"), newTree(t, rounds, 0, "other")}
	var mu sync.Mutex
	cosigned := make(map[int64]map[int]bool)
	var wg sync.WaitGroup
	for side, tr := range sides {
		for range 4 {
			wg.Go(func() {
				for old := int64(0); old < rounds-1; old++ {
					if status, _, _ := post(t, srv.URL, body(old, tr.proof(old, old+1), tr.checkpoint(log, old+1))); status == 200 {
						mu.Lock()
						if cosigned[old+1] == nil {
							cosigned[old+1] = make(map[int]bool)
						}
						cosigned[old+1][side] = true
						mu.Unlock()
					}
				}
			})
		}
	}
	wg.Wait()
	if len(cosigned) == 0 {
		t.Fatal("nothing was cosigned")
	}
	winners := make(map[int]bool)
	for _, by := range cosigned {
		for side := range by {
			winners[side] = true
		}
	}
	if len(winners) != 1 {
		t.Errorf("both sides of the fork were cosigned: %v", cosigned)
	}
}

func TestRemembersAcrossRestarts(t *testing.T) {
	log, vkey := newKey(t, origin)
	dir := t.TempDir()
	genuine, forked := newTree(t, 20, 20, ""), newTree(t, 20, 3, "fork")
	w := open(t, dir, vkey)
	srv := httptest.NewServer(w)
	if status, _, answer := post(t, srv.URL, body(0, nil, genuine.checkpoint(log, 10))); status != 200 {
		t.Fatal(status, answer)
	}
	srv.Close()
	if _, err := witness.Open(dir, witness.Config{Name: "witness.example/w1", Key: witnessKey, Logs: []string{vkey}}); !errors.Is(err, durable.ErrLocked) {
		t.Fatalf("a second witness in the folder: %v", err)
	}
	w.Close()

	w = open(t, dir, vkey)
	defer w.Close()
	srv = httptest.NewServer(w)
	defer srv.Close()
	for _, s := range []struct {
		body   string
		status int
	}{
		{body(0, nil, forked.checkpoint(log, 12)), 409},
		{body(10, nil, forked.checkpoint(log, 10)), 409},
		{body(10, forked.proof(10, 12), forked.checkpoint(log, 12)), 422},
		{body(10, genuine.proof(10, 12), genuine.checkpoint(log, 12)), 200},
	} {
		if status, _, answer := post(t, srv.URL, s.body); status != s.status {
			t.Errorf("status %d (%q), want %d for\n%s", status, answer, s.status, s.body)
		}
	}
}

// TestDamagedMemoryIsRefused: with a state file that it cannot read the witness
// must not take the log for a new one.
func TestDamagedMemoryIsRefused(t *testing.T) {
	log, vkey := newKey(t, origin)
	other, _ := newKey(t, "log.example/other")
	tr := newTree(t, 10, 10, "")
	for name, content := range map[string]string{
		"empty":       "",
		"cut":         tr.checkpoint(log, 10)[:40],
		"another log": tr.checkpoint(other, 10),
		"no tree":     sign(t, log, origin+"\nten\n"),
		"too long":    strings.Repeat("x", 200<<10),
	} {
		dir := t.TempDir()
		w := open(t, dir, vkey)
		srv := httptest.NewServer(w)
		post(t, srv.URL, body(0, nil, tr.checkpoint(log, 10)))
		srv.Close()
		w.Close()
		files, err := filepath.Glob(filepath.Join(dir, "*.checkpoint"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		if err := os.WriteFile(files[0], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if w, err := witness.Open(dir, witness.Config{Name: "witness.example/w1", Key: witnessKey, Logs: []string{vkey}}); err == nil {
			w.Close()
			t.Errorf("%s: the witness started", name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	_, vkey := newKey(t, origin)
	own, err := note.NewEd25519VerifierKey(origin, witnessKey.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]witness.Config{
		"log's key":     {Name: "w", Key: witnessKey, Logs: []string{vkey, own}},
		"no key":        {Name: "w", Logs: []string{vkey}},
		"no name":       {Key: witnessKey, Logs: []string{vkey}},
		"name with a +": {Name: "a+b", Key: witnessKey, Logs: []string{vkey}},
		"no log":        {Name: "w", Key: witnessKey},
		"no vkey":       {Name: "w", Key: witnessKey, Logs: []string{"log.example"}},
		"log twice":     {Name: "w", Key: witnessKey, Logs: []string{vkey, vkey}},
	} {
		if w, err := witness.Open(t.TempDir(), c); err == nil {
			w.Close()
			t.Errorf("%s: the witness opened", name)
		}
	}
}

// TestOpenRefusesEveryLogsKey: also where the key's base64 has the sign that
// separates a vkey's parts.
func TestOpenRefusesEveryLogsKey(t *testing.T) {
	seed := make([]byte, ed25519.SeedSize)
	withPlus := 0
	for i := range 64 {
		seed[0] = byte(i)
		key := ed25519.NewKeyFromSeed(seed)
		vkey, err := note.NewEd25519VerifierKey(origin, key.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(vkey, "+") > 2 {
			withPlus++
		}
		if w, err := witness.Open(t.TempDir(), witness.Config{Name: "w", Key: key, Logs: []string{vkey}}); err == nil {
			w.Close()
			t.Errorf("a witness has the key of its log, %s", vkey)
		}
	}
	if withPlus == 0 {
		t.Error("no key here has a plus sign")
	}
}

func Example() {
	dir, _ := os.MkdirTemp("", "witness")
	defer os.RemoveAll(dir)
	w, err := witness.Open(dir, witness.Config{
		Name: "witness.example/w1",
		Key:  witnessKey,
		Logs: []string{"sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close()
	srv := httptest.NewServer(w)
	defer srv.Close()

	resp, err := http.Post(srv.URL+"/add-checkpoint", "text/plain", strings.NewReader("old 0\n\nunknown.example\n0\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 404 Not Found
}
