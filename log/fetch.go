package log

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"
)

const (
	// maxAnswerBytes bounds a refusal, and other short answers.
	maxAnswerBytes = 16 << 10
	// maxFetches is how many tiles are fetched at once.
	maxFetches = 8
)

// A fetcher gets a log's files over HTTP. It is a [torchwood.TileReader].
// Torchwood's own TileFetcher bounds neither what it reads nor, with its retries
// of up to two minutes, how long a dead log keeps its reader; and it takes a
// partial tile that the log has dropped for a missing one.
type fetcher struct {
	base string // without a slash at the end
	hc   *http.Client
}

var _ torchwood.TileReader = (*fetcher)(nil)

// A statusError is an answer other than 200.
type statusError struct {
	url    string
	status int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("getting %s: the log answered %d %s", e.url, e.status, http.StatusText(e.status))
}

// IsNotFound reports whether the error of a [Client] says that the log does not
// have what was asked for.
func IsNotFound(err error) bool {
	var e *statusError
	return errors.As(err, &e) && e.status == http.StatusNotFound
}

func (f *fetcher) get(ctx context.Context, path string, limit int64) ([]byte, error) {
	url := f.base + "/" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", url, err)
	}
	resp, err := f.hc.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &statusError{url: url, status: resp.StatusCode}
	}
	data, err := readAll(resp.Body, limit)
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", url, err)
	}
	return data, nil
}

// post sends a body and gives the answer to it. A refusal is an *Error.
func (f *fetcher) post(ctx context.Context, path string, body io.Reader, length, limit int64) ([]byte, error) {
	url := f.base + "/" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return nil, fmt.Errorf("posting to %s: %w", url, err)
	}
	req.ContentLength = length
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := f.hc.Do(req)
	if err != nil {
		return nil, fmt.Errorf("writing to the log: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		data, err := readAll(resp.Body, limit)
		if err != nil {
			return nil, fmt.Errorf("posting to %s: %w", url, err)
		}
		return data, nil
	}
	data, err := readAll(resp.Body, maxAnswerBytes)
	if err == nil {
		if e := parseRefusal(resp.StatusCode, data); e != nil {
			return nil, e
		}
	}
	return nil, fmt.Errorf("posting to %s: the answer is %d %s", url, resp.StatusCode, http.StatusText(resp.StatusCode))
}

// parseRefusal reads an *Error as the log sends it, or gives nil. What stands
// between us and the log may answer anything.
func parseRefusal(answered int, data []byte) *Error {
	var r refusal
	if err := json.Unmarshal(data, &r); err != nil || status[r.Code] != answered || !utf8.Valid(data) {
		return nil
	}
	e := &Error{Code: r.Code, Detail: r.Detail}
	if (r.Index != nil) != (r.Code == NoReceipt) {
		return nil
	}
	if r.Index != nil {
		if *r.Index < 0 {
			return nil
		}
		e.Index = *r.Index
	}
	return e
}

// ReadTiles implements [torchwood.TileReader].
func (f *fetcher) ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxFetches)
	for i, t := range tiles {
		g.Go(func() error {
			var err error
			data[i], err = f.tile(ctx, t)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return data, nil
}

// tile fetches a tile or, if a partial one is not there, the part of the full
// one (tlog-tiles, "Partial Tiles").
func (f *fetcher) tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	limit := int64(maxTileBytes)
	if t.L < 0 {
		limit = maxBundleBytes
	}
	data, err := f.get(ctx, torchwood.TilePath(t), limit)
	if t.W == torchwood.TileWidth || err != nil && !IsNotFound(err) {
		return data, err
	}
	if err != nil {
		full := t
		full.W = torchwood.TileWidth
		var fullErr error
		if data, fullErr = f.get(ctx, torchwood.TilePath(full), limit); fullErr != nil {
			return nil, err
		}
		if data, err = cut(t, data); err != nil {
			return nil, fmt.Errorf("%s: %w", torchwood.TilePath(full), err)
		}
	}
	return data, nil
}

// SaveTiles implements [torchwood.TileReader] and does nothing.
func (f *fetcher) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadEndpoint implements [torchwood.TileReader].
func (f *fetcher) ReadEndpoint(ctx context.Context, path string) ([]byte, error) {
	return f.get(ctx, path, maxBundleBytes)
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	return data, nil
}
