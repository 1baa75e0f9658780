package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func inputOf(b string) Input {
	sum := sha256.Sum256([]byte(b))
	return Input{LocalFile, "a.conf", hex.EncodeToString(sum[:]), int64(len(b))}
}

func serving(b string) Fetcher {
	return FetchFunc(func(context.Context, Input) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(b)), nil })
}

// endless never ends: whoever reads all of it fills the disk.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	if e.n += len(p); e.n > 1<<20 {
		panic("a source was read far past the size of the input")
	}
	return len(p), nil
}

func TestGetInput(t *testing.T) {
	const right = "the right bytes"
	none := FetchFunc(func(context.Context, Input) (io.ReadCloser, error) { return nil, ErrUnavailable })
	down := FetchFunc(func(context.Context, Input) (io.ReadCloser, error) { return nil, errors.New("the network is down") })
	cut := FetchFunc(func(context.Context, Input) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("the ri"), &failing{})), nil
	})
	for name, c := range map[string]struct {
		fetchers []Fetcher
		want     error
		text     string
	}{
		"right":                     {[]Fetcher{serving(right)}, nil, ""},
		"wrong, then right":         {[]Fetcher{serving("the wrong bytes"), serving(right)}, nil, ""},
		"absent, then right":        {[]Fetcher{none, down, serving(right)}, nil, ""},
		"no source":                 {nil, ErrUnavailable, "no source has it"},
		"absent":                    {[]Fetcher{none}, ErrUnavailable, "no source has it"},
		"down":                      {[]Fetcher{none, down}, ErrUnavailable, "the network is down"},
		"cut off":                   {[]Fetcher{cut}, ErrUnavailable, "the cable"},
		"wrong":                     {[]Fetcher{serving("the wrong byte!")}, ErrChanged, "SHA-256"},
		"wrong, and another absent": {[]Fetcher{serving("the wrong byte!"), none}, ErrChanged, "SHA-256"},
		"truncated":                 {[]Fetcher{serving(right[1:])}, ErrChanged, "14 bytes came"},
		"longer":                    {[]Fetcher{serving(right + "!")}, ErrChanged, "more than 15"},
		"endless":                   {[]Fetcher{FetchFunc(func(context.Context, Input) (io.ReadCloser, error) { return io.NopCloser(&endless{}), nil })}, ErrChanged, "more than 15"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := Cache{t.TempDir()}
			in := inputOf(right)
			path, err := cache.Get(t.Context(), in, c.fetchers)
			left, _ := os.ReadDir(cache.Dir)
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				if b, err := os.ReadFile(path); string(b) != right {
					t.Errorf("got %q, %v", b, err)
				}
				if len(left) != 1 {
					t.Errorf("the cache holds %v", left)
				}
				return
			}
			var input *InputError
			if !errors.Is(err, c.want) || !errors.As(err, &input) || input.Input != in || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v and %q", err, c.want, c.text)
			}
			if len(left) != 0 {
				t.Errorf("a failed fetch left %v", left)
			}
		})
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("somebody tripped over the cable") }

func TestCacheIsNotBelieved(t *testing.T) {
	cache := Cache{t.TempDir()}
	in := inputOf("the right bytes")
	if err := os.WriteFile(cache.Path(in.SHA256), []byte("planted by another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Get(t.Context(), in, nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a changed file in the cache gives %v, want ErrUnavailable", err)
	}
	path, err := cache.Get(t.Context(), in, []Fetcher{serving("the right bytes")})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); !bytes.Equal(b, []byte("the right bytes")) {
		t.Errorf("the cache holds %q, %v", b, err)
	}
}

func TestGetInputStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	asked := FetchFunc(func(ctx context.Context, _ Input) (io.ReadCloser, error) { return nil, ctx.Err() })
	if _, err := (Cache{t.TempDir()}).Get(ctx, inputOf("x"), []Fetcher{asked}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
