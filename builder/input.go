package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/vitrine-dev/vitrine/log/durable"
)

// InputKind says where an input comes from.
type InputKind string

// The kinds of inputs.
const (
	DebianPackage InputKind = "debian package" // Name is its path in the archive
	GoModule      InputKind = "go module"      // Name is its folder as in the recipe
	LocalFile     InputKind = "file"           // Name is its path beside the recipe
)

// Input is one file that a build needs, as the lock names it.
type Input struct {
	Kind   InputKind
	Name   string
	SHA256 string // hex
	Size   int64  // bytes
}

// Inputs gives all inputs that the lock names.
func (l *Lock) Inputs() []Input {
	var all []Input
	for _, p := range l.Packages {
		all = append(all, Input{DebianPackage, p.Path, p.SHA256, p.Size})
	}
	return append(all, l.Local()...)
}

// Local gives the inputs that no public mirror has: packed modules and files
// beside the recipe. A publisher stores them as addenda of the log.
func (l *Lock) Local() []Input {
	var all []Input
	for _, m := range l.Modules {
		all = append(all, Input{GoModule, m.Folder, m.SHA256, m.Size})
	}
	for _, f := range l.Files {
		all = append(all, Input{LocalFile, f.Path, f.SHA256, f.Size})
	}
	return all
}

// Fetcher gets the bytes of an input. It need not check them: whoever asks
// compares them with the lock. The error wraps ErrUnavailable if the fetcher
// does not have the input.
type Fetcher interface {
	Fetch(ctx context.Context, in Input) (io.ReadCloser, error)
}

// FetchFunc is a Fetcher made of a function.
type FetchFunc func(ctx context.Context, in Input) (io.ReadCloser, error)

// Fetch calls f.
func (f FetchFunc) Fetch(ctx context.Context, in Input) (io.ReadCloser, error) { return f(ctx, in) }

// ErrUnavailable says that an input could not be had from anywhere: a mirror
// dropped it, a network is down. Nothing was substituted.
var ErrUnavailable = errors.New("it cannot be fetched")

// ErrChanged says that the bytes that came for an input are not those of the
// lock, and that nothing else offered the right ones.
var ErrChanged = errors.New("it is not what the lock names")

// InputError is an input that could not be had. It wraps ErrUnavailable or
// ErrChanged.
type InputError struct {
	Input Input
	Err   error
}

func (e *InputError) Error() string {
	return fmt.Sprintf("getting the %s %s (SHA-256 %s): %v", e.Input.Kind, e.Input.Name, e.Input.SHA256, e.Err)
}

func (e *InputError) Unwrap() error { return e.Err }

// Public is the error without what the sources said, which names them.
func (e *InputError) Public() string {
	kind := ErrUnavailable
	if errors.Is(e.Err, ErrChanged) {
		kind = ErrChanged
	}
	return (&InputError{e.Input, kind}).Error()
}

// Cache is a folder of inputs under their digests. It is safe for concurrent
// use, also by several processes.
type Cache struct{ Dir string }

// Path is where an input of that digest lies, or would.
func (c Cache) Path(digest string) string { return filepath.Join(c.Dir, digest) }

// Fetch gives an input that an earlier build has left.
func (c Cache) Fetch(_ context.Context, in Input) (io.ReadCloser, error) {
	f, err := os.Open(c.Path(in.SHA256))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrUnavailable
	}
	return f, err
}

// Get leaves an input in the cache and gives its path: from the cache itself,
// or from the first fetcher that offers the right bytes. A file in the cache
// that is not what its name says is fetched again.
func (c Cache) Get(ctx context.Context, in Input, fetchers []Fetcher) (string, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return "", fmt.Errorf("making the folder for inputs: %w", err)
	}
	var reasons []string
	changed := false
	for i, f := range append([]Fetcher{c}, alternatives(fetchers)...) {
		err := c.take(ctx, in, f, i == 0)
		if err == nil {
			return c.Path(in.SHA256), nil
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("getting the %s %s: %w", in.Kind, in.Name, ctx.Err())
		}
		if i > 0 {
			changed = changed || errors.Is(err, ErrChanged)
			if !errors.Is(err, ErrUnavailable) || err != ErrUnavailable {
				reason := strings.TrimPrefix(err.Error(), ErrUnavailable.Error()+": ")
				reasons = append(reasons, strings.TrimPrefix(reason, ErrChanged.Error()+": "))
			}
		}
	}
	kind := ErrUnavailable
	if changed {
		kind = ErrChanged
	}
	if len(reasons) == 0 {
		return "", &InputError{in, fmt.Errorf("%w: no source has it", kind)}
	}
	return "", &InputError{in, fmt.Errorf("%w: %s", kind, strings.Join(reasons, "; "))}
}

// take gets an input from one fetcher and checks it. check only: it is in the
// cache already and stays there.
func (c Cache) take(ctx context.Context, in Input, f Fetcher, checkOnly bool) error {
	r, err := f.Fetch(ctx, in)
	if err != nil {
		return err
	}
	defer r.Close()
	if checkOnly {
		return compare(in, r, io.Discard)
	}
	return durable.Write(c.Path(in.SHA256), 0o600, func(w io.Writer) error { return compare(in, r, w) })
}

// put stores bytes under their digest.
func (c Cache) put(b []byte) (digest string, err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return "", fmt.Errorf("making the folder for inputs: %w", err)
	}
	sum := sha256.Sum256(b)
	digest = hex.EncodeToString(sum[:])
	return digest, durable.WriteFile(c.Path(digest), b, 0o600)
}

// compare copies r to w and reads one byte more than the input has, never all
// that an endless source sends.
func compare(in Input, r io.Reader, w io.Writer) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, in.Size+1))
	switch got := hex.EncodeToString(h.Sum(nil)); {
	case err != nil:
		return fmt.Errorf("%w: after %d bytes: %v", ErrUnavailable, n, err)
	case n > in.Size:
		return fmt.Errorf("%w: more than %d bytes came", ErrChanged, in.Size)
	case n < in.Size:
		return fmt.Errorf("%w: %d bytes came, not %d", ErrChanged, n, in.Size)
	case got != in.SHA256:
		return fmt.Errorf("%w: bytes with SHA-256 %s came", ErrChanged, got)
	}
	return nil
}
