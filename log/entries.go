package log

import (
	"context"
	"fmt"
	"iter"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

// An Entry is a leaf and where it stands.
type Entry struct {
	Index int64
	Leaf  []byte
}

// entries walks over the entries of a tree from the index from to its end,
// checking each against the tree. It ends with the first error, if any.
//
// It reads one entry bundle at a time: torchwood's own Entries reads fifty, and
// a hostile log may fill each with 16 MiB before the first hash is compared.
func entries(ctx context.Context, tr torchwood.TileReader, tree tlog.Tree, from int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if from < 0 || from > tree.N {
			yield(Entry{}, fmt.Errorf("reading entries: there is no position %d in a tree of size %d", from, tree.N))
			return
		}
		tr := newTreeCache(tr)
		for from < tree.N {
			if err := ctx.Err(); err != nil {
				yield(Entry{}, err)
				return
			}
			bundle := bundleOf(from, tree.N)
			leaves, err := readBundle(ctx, tr, tree, bundle)
			if err != nil {
				yield(Entry{}, fmt.Errorf("reading the entries from %d on: %w", from, err))
				return
			}
			first := bundle.N * torchwood.TileWidth
			for _, leaf := range leaves[from-first:] {
				if !yield(Entry{Index: from, Leaf: leaf}, nil) {
					return
				}
				from++
			}
		}
	}
}

// bundleOf names the entry bundle in which index stands, in a tree of size.
func bundleOf(index, size int64) tlog.Tile {
	n := index / torchwood.TileWidth
	return tlog.Tile{H: torchwood.TileHeight, L: -1, N: n, W: int(min(torchwood.TileWidth, size-n*torchwood.TileWidth))}
}

// readBundle gives the leaves of an entry bundle, having checked each against
// the tree.
func readBundle(ctx context.Context, tr torchwood.TileReader, tree tlog.Tree, bundle tlog.Tile) ([][]byte, error) {
	data, err := tr.ReadTiles(ctx, []tlog.Tile{bundle})
	if err != nil {
		return nil, err
	}
	indexes := make([]int64, bundle.W)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, bundle.N*torchwood.TileWidth+int64(i))
	}
	hashes, err := torchwood.TileHashReaderWithContext(ctx, tree, tr).ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	leaves, err := splitBundle(data[0], bundle.W)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", torchwood.TilePath(bundle), err)
	}
	for i, leaf := range leaves {
		if tlog.RecordHash(leaf) != hashes[i] {
			return nil, fmt.Errorf("%s: entry %d is not the one in the tree", torchwood.TilePath(bundle), bundle.N*torchwood.TileWidth+int64(i))
		}
	}
	return leaves, nil
}

// splitBundle takes an entry bundle of exactly n entries apart.
func splitBundle(data []byte, n int) ([][]byte, error) {
	leaves := make([][]byte, 0, n)
	for range n {
		leaf, rest, err := torchwood.ReadTileEntry(data)
		if err != nil {
			return nil, fmt.Errorf("entry %d of the bundle: %w", len(leaves), err)
		}
		leaves, data = append(leaves, leaf), rest
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("there are %d bytes after the last entry of the bundle", len(data))
	}
	return leaves, nil
}
