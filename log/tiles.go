package log

import (
	"context"
	"errors"
	"fmt"

	"filippo.io/torchwood"
	"filippo.io/torchwood/tesserax"
	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// maxBundleBytes is a full entry bundle of the largest entries
	// (https://c2sp.org/tlog-tiles, "Log Entries").
	maxBundleBytes = torchwood.TileWidth * (2 + 1<<16 - 1)
	maxTileBytes   = torchwood.TileWidth * tlog.HashSize
)

// localTiles reads the tiles of the log that this process writes.
type localTiles struct {
	*tesserax.TileReader
}

func newLocalTiles(r tessera.LogReader) localTiles {
	return localTiles{tesserax.NewTileReader(r)}
}

// ReadTiles implements [torchwood.TileReader]. Tessera reads a full tile where
// the partial one was collected as garbage.
func (l localTiles) ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	data, err := l.TileReader.ReadTiles(ctx, tiles)
	if err != nil {
		return nil, err
	}
	for i, t := range tiles {
		if data[i], err = cut(t, data[i]); err != nil {
			return nil, fmt.Errorf("reading %s: %w", torchwood.TilePath(t), err)
		}
	}
	return data, nil
}

// cut gives the part of data that is the tile t, where data may be a wider tile
// of the same place: a log may drop a partial tile once there is a full one
// (tlog-tiles, "Partial Tiles"), and begins with the same bytes. Nothing is
// verified here.
func cut(t tlog.Tile, data []byte) ([]byte, error) {
	if t.L >= 0 {
		if len(data) < t.W*tlog.HashSize {
			return nil, errors.New("the tile is shorter than its width")
		}
		return data[:t.W*tlog.HashSize], nil
	}
	rest := data
	for range t.W {
		var err error
		if _, rest, err = torchwood.ReadTileEntry(rest); err != nil {
			return nil, err
		}
	}
	return data[:len(data)-len(rest)], nil
}

// A treeCache keeps the hash tiles of one tree that were found to belong to it,
// so that a walk over the entries reads the upper tiles once. It must not
// outlive the tree: with the tiles of one, a fork in another would look like a
// damaged tile.
type treeCache struct {
	torchwood.TileReader
	kept map[tlog.Tile][]byte
}

// maxKeptTiles bounds a treeCache to 2 MiB. The walk goes from left to right, so
// what is kept can be dropped all at once.
const maxKeptTiles = 256

func newTreeCache(tr torchwood.TileReader) *treeCache {
	return &treeCache{TileReader: tr, kept: make(map[tlog.Tile][]byte)}
}

func (c *treeCache) ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	var missing []tlog.Tile
	for i, t := range tiles {
		if data[i] = c.kept[t]; data[i] == nil {
			missing = append(missing, t)
		}
	}
	if len(missing) == 0 {
		return data, nil
	}
	read, err := c.TileReader.ReadTiles(ctx, missing)
	if err != nil {
		return nil, err
	}
	for i := range data {
		if data[i] == nil {
			data[i], read = read[0], read[1:]
		}
	}
	return data, nil
}

func (c *treeCache) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	if len(c.kept)+len(tiles) > maxKeptTiles {
		clear(c.kept)
	}
	for i, t := range tiles {
		if t.L >= 0 {
			c.kept[t] = data[i]
		}
	}
	c.TileReader.SaveTiles(tiles, data)
}
