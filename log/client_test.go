package log_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/internal/logtest"
	"github.com/vitrine-dev/vitrine/log/receipt"
)

// TestFork: a log goes on from a copy of its folder in two ways, with its real
// key. Whoever has seen both has the proof.
func TestFork(t *testing.T) {
	one := logtest.NewWorld(t, 0)
	c, _, stop := opened(t, one)
	publish := func(c *log.Client, version string) *receipt.Checkpoint {
		t.Helper()
		publish(t, c, version)
		checkpoint, err := c.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return checkpoint
	}
	common := publish(c, "1.0.0")
	stop()
	two := logtest.NewWorld(t, 0)
	if err := os.CopyFS(two.Dir, os.DirFS(one.Dir)); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	_, url, _ := one.Open()
	c1 := log.NewClient(url, one.Policy, nil)
	_, url, _ = two.Open()
	c2 := log.NewClient(url, two.Policy, nil)
	one2 := publish(c1, "1.1.0")
	two2 := publish(c2, "1.1.0-fork")
	one3 := publish(c1, "1.2.0")
	two3 := publish(c2, "1.2.0")

	for name, s := range map[string]struct {
		c        *log.Client
		old, new *receipt.Checkpoint
		fork     bool
	}{
		"common, one":              {c1, common, one3, false},
		"common, other":            {c2, common, two3, false},
		"one with itself":          {c1, one2, one3, false},
		"one, backwards":           {c1, one3, one2, false},
		"the same":                 {c1, one3, one3, false},
		"same size":                {c2, one2, two2, true},
		"one, then other":          {c2, one2, two3, true},
		"other, then one":          {c1, two2, one3, true},
		"one, then other, reverse": {c2, two3, one2, true},
	} {
		err := s.c.Consistency(t.Context(), s.old, s.new)
		var fork *log.ForkError
		if errors.As(err, &fork) != s.fork || err != nil && !s.fork {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s.fork {
			notes := [][]byte{fork.Old.Note, fork.New.Note}
			for _, want := range [][]byte{s.old.Note, s.new.Note} {
				if !bytes.Equal(notes[0], want) && !bytes.Equal(notes[1], want) {
					t.Errorf("%s: the error does not hold both notes", name)
				}
			}
		}
	}
	// A log that serves the tiles of its other side has not proven a fork.
	var fork *log.ForkError
	if err := c1.Consistency(t.Context(), common, two3); err == nil || errors.As(err, &fork) {
		t.Errorf("with the tiles of another tree: %v", err)
	}
}

// A tampering is a proxy that changes answers.
func tampering(t *testing.T, to string, change func(path string, status int, body []byte) (int, []byte)) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), r.Method, to+r.URL.RequestURI(), r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		status, body := change(r.URL.Path, resp.StatusCode, body)
		w.WriteHeader(status)
		w.Write(body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestClientBelievesNothing puts a liar between the client and an honest log.
// Each lie is refused, and the same path without it is not.
func TestClientBelievesNothing(t *testing.T) {
	w := logtest.NewWorld(t, 1)
	honest, url, _ := opened(t, w)
	first := logtest.Sign(t, logtest.Release("1.0.0", ""), "publisher")
	second := logtest.Sign(t, logtest.Release("1.1.0", ""), "publisher")
	tr, _, err := honest.Add(t.Context(), first.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	firstAnswer, err := tr.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := honest.Add(t.Context(), second.Leaf); err != nil {
		t.Fatal(err)
	}

	add := func(ctx context.Context, c *log.Client) error {
		_, _, err := c.Add(ctx, second.Leaf)
		return err
	}
	checkpoint := func(ctx context.Context, c *log.Client) error {
		_, err := c.Checkpoint(ctx)
		return err
	}
	walk := func(ctx context.Context, c *log.Client) error {
		checkpoint, err := c.Checkpoint(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, err := range c.Entries(ctx, checkpoint, 0) {
			if err != nil {
				return err
			}
			n++
		}
		if n != 2 {
			return fmt.Errorf("%d entries", n)
		}
		return nil
	}
	prove := func(ctx context.Context, c *log.Client) error {
		_, _, err := c.Receipt(ctx, 1, second.Leaf)
		return err
	}
	addendum := func(ctx context.Context, c *log.Client) error {
		d, err := c.PutAddendum(ctx, bytes.NewReader(logtest.Recipe))
		if err == nil {
			_, err = c.Addendum(ctx, d, 1000)
		}
		return err
	}
	on := func(prefix string, lie func([]byte) []byte) func(string, int, []byte) (int, []byte) {
		return func(path string, status int, body []byte) (int, []byte) {
			if strings.HasPrefix(path, prefix) {
				return status, lie(body)
			}
			return status, body
		}
	}
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
		return b
	}
	unsigned := func(b []byte) []byte { return b[:bytes.LastIndex(bytes.TrimSpace(b), []byte("\n"))+1] }
	long := func([]byte) []byte { return make([]byte, 20<<20) }
	for name, s := range map[string]struct {
		do  func(context.Context, *log.Client) error
		lie func(string, int, []byte) (int, []byte)
	}{
		"add: the receipt of another payload": {add, on("/add", func([]byte) []byte { return firstAnswer })},
		"add: the receipt changed":            {add, on("/add", func(b []byte) []byte { return bytes.Replace(b, []byte("index 1"), []byte("index 0"), 1) })},
		"add: no transparent statement":       {add, on("/add", func([]byte) []byte { return []byte("{}") })},
		"add: endless":                        {add, on("/add", long)},
		"checkpoint: changed":                 {checkpoint, on("/checkpoint", flip)},
		"checkpoint: without the cosignature": {checkpoint, on("/checkpoint", unsigned)},
		"checkpoint: endless":                 {checkpoint, on("/checkpoint", long)},
		"walk: an entry changed":              {walk, on("/tile/entries/", flip)},
		"walk: an entry too many":             {walk, on("/tile/entries/", func(b []byte) []byte { return append(b[:len(b):len(b)], 0, 0) })},
		"walk: an entry too few":              {walk, on("/tile/entries/", func(b []byte) []byte { return b[:len(b)/3] })},
		"walk: a hash changed":                {walk, on("/tile/0/", flip)},
		"walk: a tile too long":               {walk, on("/tile/0/", long)},
		"proof: a hash changed":               {prove, on("/tile/0/", flip)},
		"proof: no tiles": {prove, func(p string, s int, b []byte) (int, []byte) {
			return map[bool]int{true: 500, false: s}[p != "/checkpoint"], b
		}},
		"addendum: changed":                   {addendum, on("/addenda/", flip)},
		"addendum: endless":                   {addendum, on("/addenda/", long)},
		"addendum: stored under another name": {addendum, on("/addenda", func([]byte) []byte { return []byte(`{"digest":{"sha256":"00"}}`) })},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		liar := log.NewClient(tampering(t, url, s.lie), w.Policy, nil)
		if err := s.do(ctx, liar); err == nil {
			t.Errorf("%s: believed", name)
		} else if ctx.Err() != nil {
			t.Errorf("%s: noticed too late: %v", name, err)
		}
		truth := log.NewClient(tampering(t, url, func(_ string, status int, b []byte) (int, []byte) { return status, b }), w.Policy, nil)
		if err := s.do(ctx, truth); err != nil {
			t.Errorf("%s: without the lie: %v", name, err)
		}
		cancel()
	}
}

// TestSilentLog: a log that accepts connections and says nothing keeps nobody
// past the timeout of the client that was given.
func TestSilentLog(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	silent := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-silent }))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(silent) })
	c := log.NewClient(srv.URL, w.Policy, &http.Client{Timeout: 100 * time.Millisecond})
	began := time.Now()
	if _, err := c.Checkpoint(t.Context()); err == nil {
		t.Error("silence was a checkpoint")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v to notice", took)
	}
}

// TestServedByAnyFileServer: readers need nothing but the folder.
func TestServedByAnyFileServer(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	c, _, stop := opened(t, w)
	release := publish(t, c, "1.0.0")
	stop()
	srv := httptest.NewServer(http.FileServer(http.Dir(w.Dir)))
	defer srv.Close()
	c = log.NewClient(srv.URL+"/", w.Policy, nil)
	if _, r, err := c.Receipt(t.Context(), 0, release.Leaf); err != nil || r.Index != 0 {
		t.Errorf("receipt: %v", err)
	}
	r, _ := release.Statement.Release()
	if data, err := c.Addendum(t.Context(), r.Recipe.Digest, 100); err != nil || !bytes.Equal(data, logtest.Recipe) {
		t.Errorf("addendum: %q, %v", data, err)
	}
}
