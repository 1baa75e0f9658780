package log_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/internal/logtest"
	"github.com/vitrine-dev/vitrine/log/statement"
)

func get(t *testing.T, url string) (int, http.Header, []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

// TestStaticFiles: what is served is what lies in the folder, of the published
// tree and the addenda, and nothing else of it.
func TestStaticFiles(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	c, url, _ := opened(t, w)
	for i := range 3 {
		publish(t, c, fmt.Sprintf("1.%d.0", i))
	}
	d := statement.DigestOf(logtest.Recipe).SHA256
	addendum := "addenda/" + d[:2] + "/" + d[2:4] + "/" + d
	// A tile that no checkpoint covers, as a crash may leave it.
	unpublished := filepath.Join(w.Dir, "tile", "entries", "000.p", "4")
	if err := os.WriteFile(unpublished, []byte("left behind"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"checkpoint":                     200,
		"tile/0/000.p/3":                 200,
		"tile/entries/000.p/3":           200,
		addendum:                         200,
		"tile/entries/000.p/4":           404,
		"tile/0/000":                     404,
		"tile/1/000.p/1":                 404,
		"tile/8/000.p/1":                 404,
		"tile/0/x000/000.p/3":            404,
		"tile/0/":                        404,
		"tile/":                          404,
		"":                               404,
		"lock":                           404,
		".state/treeState":               404,
		".staging/":                      404,
		"tile/%2e%2e/.state/treeState":   404,
		"addenda.v1":                     404,
		"addenda/":                       404,
		strings.ToUpper(addendum):        404,
		"addenda/00/00/" + d:             404,
		"addenda/" + d[:2] + "/%2e%2e/x": 404,
	} {
		status, header, body := get(t, url+"/"+path)
		if status != want {
			t.Errorf("GET /%s: %d, want %d", path, status, want)
			continue
		}
		if status != 200 {
			continue
		}
		file, err := os.ReadFile(filepath.Join(w.Dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(body, file) {
			t.Errorf("GET /%s is not what lies in the folder", path)
		}
		if immutable := strings.Contains(header.Get("Cache-Control"), "immutable"); immutable != (path != "checkpoint") {
			t.Errorf("GET /%s: Cache-Control is %q", path, header.Get("Cache-Control"))
		}
	}
	for _, path := range []string{"/add", "/addenda?sha256=" + d} {
		if status, _, _ := get(t, url+path); status != http.StatusMethodNotAllowed && status != http.StatusNotFound {
			t.Errorf("GET %s: %d", path, status)
		}
	}
}

func TestAddenda(t *testing.T) {
	w := logtest.NewWorld(t, 0)
	w.AddendaQuota = 4 * 4096 // two small files: a block for the bytes of each, and one for its name
	_, url, stop := w.Open()
	c := log.NewClient(url, w.Policy, nil)
	data := bytes.Repeat([]byte("a"), 600)
	d, err := c.PutAddendum(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Addendum(t.Context(), d, 600); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back %d bytes, %v", len(got), err)
	}
	if _, err := c.Addendum(t.Context(), d, 599); err == nil {
		t.Error("more was read than asked for")
	}
	if _, err := c.Addendum(t.Context(), statement.DigestOf([]byte("never stored")), 600); !log.IsNotFound(err) {
		t.Errorf("an addendum that is not there: %v", err)
	}
	if _, err := c.Addendum(t.Context(), statement.Digest{SHA256: "../../lock"}, 600); err == nil || log.IsNotFound(err) {
		t.Errorf("a digest that is a path: %v", err)
	}

	// The store is bounded, and knows so after opening again too.
	other := bytes.Repeat([]byte("b"), 4097)
	for range 2 {
		if _, err := c.PutAddendum(t.Context(), bytes.NewReader(other)); code(err) != log.Unavailable {
			t.Errorf("past the quota: %v", err)
		}
		if _, err := c.PutAddendum(t.Context(), bytes.NewReader(data)); err != nil {
			t.Errorf("what is stored already: %v", err)
		}
		stop()
		_, url, stop = w.Open()
		c = log.NewClient(url, w.Policy, nil)
	}

	post := func(query string, body io.Reader) (int, string) {
		t.Helper()
		resp, err := http.Post(url+"/addenda"+query, "", body)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	small := statement.DigestOf([]byte("small")).SHA256
	for name, c := range map[string]struct {
		query string
		body  io.Reader
		want  int
		code  log.Code
	}{
		"no digest":         {"", strings.NewReader("small"), 400, log.Malformed},
		"a short digest":    {"?sha256=" + small[:60], strings.NewReader("small"), 400, log.Malformed},
		"in upper case":     {"?sha256=" + strings.ToUpper(small), strings.NewReader("small"), 400, log.Malformed},
		"two digests":       {"?sha256=" + small + "&sha256=" + small, strings.NewReader("small"), 400, log.Malformed},
		"another parameter": {"?sha256=" + small + "&x=y", strings.NewReader("small"), 400, log.Malformed},
		"other bytes":       {"?sha256=" + small, strings.NewReader("smaller"), 400, log.Malformed},
		"too large":         {"?sha256=" + small, bytes.NewReader(make([]byte, log.MaxAddendumBytes+1)), 413, log.TooLarge},
		"too large, chunked": {"?sha256=" + small,
			struct{ io.Reader }{bytes.NewReader(make([]byte, log.MaxAddendumBytes+1))}, 413, log.TooLarge},
	} {
		status, body := post(c.query, c.body)
		if status != c.want || !strings.Contains(body, string(c.code)) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, body := post("?sha256="+small, strings.NewReader("small")); status != 200 || body != `{"digest":{"sha256":"`+small+`"}}` {
		t.Errorf("the right bytes: %d %s", status, body)
	}
	if status, body := post("?sha256="+statement.DigestOf([]byte("x")).SHA256, strings.NewReader("x")); status != 503 {
		t.Errorf("one byte more, in a file of its own: %d %s", status, body)
	}
	if left, err := os.ReadDir(filepath.Join(w.Dir, ".staging")); err != nil || len(left) > 0 {
		t.Errorf("left half-written: %v, %v", left, err)
	}
}
