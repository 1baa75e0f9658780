package builder

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log/durable"
)

// Mirrors are the archives that this machine's apt uses: their base URLs, such
// as http://deb.debian.org/debian. A locked package is looked for on each.
type Mirrors struct {
	URLs   []string
	Client *http.Client // nil: http.DefaultClient

	stall time.Duration // zero: stallTimeout
}

const maxSourcesBytes = 1 << 20

// AptMirrors reads the base URLs out of an apt configuration: sources.list and
// sources.list.d/*.{list,sources} in dir, usually /etc/apt. Only http and https
// count. Suites and components do not: the lock names a place in the pool,
// which is the same in each.
func AptMirrors(dir string) (*Mirrors, error) {
	names := []string{filepath.Join(dir, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(dir, "sources.list.d", pattern))
		if err != nil {
			return nil, fmt.Errorf("reading apt's sources in %s: %w", dir, err)
		}
		names = append(names, more...)
	}
	m := &Mirrors{}
	for _, name := range names {
		b, err := durable.ReadFile(name, maxSourcesBytes)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading apt's sources: %w", err)
		}
		uris := sourcesListURIs(string(b))
		if strings.HasSuffix(name, ".sources") {
			uris = deb822URIs(string(b))
		}
		for _, u := range uris {
			m.add(u)
		}
	}
	if len(m.URLs) == 0 {
		return nil, fmt.Errorf("reading apt's sources in %s: none has a URI with http or https: add a Debian mirror, such as \"deb http://deb.debian.org/debian bookworm main\"", dir)
	}
	return m, nil
}

func (m *Mirrors) add(uri string) {
	// "mirror+file:" and others name a list of mirrors; such a list is read when
	// it lies on this machine.
	if list, ok := strings.CutPrefix(uri, "mirror+file:"); ok {
		b, err := durable.ReadFile("/"+strings.TrimLeft(list, "/"), maxSourcesBytes)
		if err == nil {
			for line := range strings.Lines(string(b)) {
				if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(fields[0], "mirror+") {
					m.add(fields[0])
				}
			}
		}
		return
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return
	}
	base := strings.TrimRight(u.String(), "/")
	if !slices.Contains(m.URLs, base) {
		m.URLs = append(m.URLs, base)
	}
}

// sourcesListURIs reads sources.list(5), one-line style.
func sourcesListURIs(s string) []string {
	var uris []string
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "deb" {
			continue
		}
		rest := fields[1:]
		if strings.HasPrefix(rest[0], "[") {
			end := slices.IndexFunc(rest, func(f string) bool { return strings.HasSuffix(f, "]") })
			if end < 0 || end+1 >= len(rest) {
				continue
			}
			rest = rest[end+1:]
		}
		uris = append(uris, rest[0])
	}
	return uris
}

// deb822URIs reads sources.list(5), deb822 style.
func deb822URIs(s string) []string {
	var uris []string
	for _, stanza := range stanzas(s) {
		if slices.Contains(strings.Fields(stanza["types"]), "deb") && !strings.EqualFold(strings.TrimSpace(stanza["enabled"]), "no") {
			uris = append(uris, strings.Fields(stanza["uris"])...)
		}
	}
	return uris
}

// stanzas reads deb822(5): fields by lower-case name, continuation lines joined
// by newlines, comment lines left out.
func stanzas(s string) []map[string]string {
	var all []map[string]string
	var current map[string]string
	last := ""
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			current = nil
		case line[0] == ' ' || line[0] == '\t':
			if current != nil && last != "" {
				current[last] += "\n" + strings.TrimSpace(line)
			}
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				continue
			}
			if current == nil {
				current = map[string]string{}
				all = append(all, current)
			}
			last = strings.ToLower(name)
			current[last] = strings.TrimSpace(value)
		}
	}
	return all
}

// alternatives takes Mirrors apart, so that wrong bytes from one of them, or
// none, do not keep the others from being asked.
func alternatives(fetchers []Fetcher) []Fetcher {
	var all []Fetcher
	for _, f := range fetchers {
		m, ok := f.(*Mirrors)
		if !ok {
			all = append(all, f)
			continue
		}
		for _, base := range m.URLs {
			all = append(all, &Mirrors{URLs: []string{base}, Client: m.Client, stall: m.stall})
		}
	}
	return all
}

// Fetch gets a Debian package from the first mirror that has it in the locked
// size.
func (m *Mirrors) Fetch(ctx context.Context, in Input) (io.ReadCloser, error) {
	if in.Kind != DebianPackage {
		return nil, ErrUnavailable
	}
	var reasons []string
	for _, base := range m.URLs {
		body, length, err := m.open(ctx, base+"/"+escapePath(in.Name))
		if err != nil {
			reasons = append(reasons, err.Error())
			continue
		}
		if length >= 0 && length != in.Size {
			body.Close()
			reasons = append(reasons, fmt.Sprintf("%s has %d bytes there, not %d", redacted(base), length, in.Size))
			continue
		}
		return body, nil
	}
	return nil, fmt.Errorf("%w from apt's mirrors: %s", ErrUnavailable, strings.Join(reasons, "; "))
}

// escapePath keeps a path of the pool what it is: "~" and "+" stay, since some
// mirrors compare them literally.
func escapePath(p string) string { return (&url.URL{Path: p}).EscapedPath() }

// redacted is an address to be shown: apt's sources may hold a password.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "a mirror"
	}
	return u.Redacted()
}

// stallTimeout is how long a mirror may send nothing: then the next is asked.
const stallTimeout = time.Minute

// open begins a GET; length is -1 if it is not known.
func (m *Mirrors) open(ctx context.Context, address string) (_ io.ReadCloser, length int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stall := m.stall
	if stall == 0 {
		stall = stallTimeout
	}
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("%s sent nothing for %v", redacted(address), stall)) })
	defer func() {
		if err != nil {
			watch.Stop()
			err = cmp.Or(context.Cause(ctx), err)
			cancel(nil)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, err
	}
	// An encoding added on the way would change length and bytes.
	req.Header.Set("Accept-Encoding", "identity")
	client := m.Client
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, 0, fmt.Errorf("%s answers %s", redacted(address), res.Status)
	}
	return &watched{res.Body, ctx, cancel, watch, stall}, res.ContentLength, nil
}

// watched is a body whose request is cancelled when nothing comes for too long.
type watched struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	watch  *time.Timer
	stall  time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	w.watch.Reset(w.stall)
	n, err := w.ReadCloser.Read(p)
	w.watch.Stop() // whoever reads may take its time
	if err != nil && !errors.Is(err, io.EOF) {
		err = cmp.Or(context.Cause(w.ctx), err)
	}
	return n, err
}

func (w *watched) Close() error {
	w.watch.Stop()
	err := w.ReadCloser.Close()
	w.cancel(nil)
	return err
}

// get gets at most limit bytes.
func (m *Mirrors) get(ctx context.Context, address string, limit int64) ([]byte, error) {
	body, _, err := m.open(ctx, address)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", redacted(address), err)
	case n > limit:
		return nil, fmt.Errorf("reading %s: more than %d bytes", redacted(address), limit)
	}
	return b.Bytes(), nil
}
