package log

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// MaxAddendumBytes bounds one addendum; docs/formats.md, "Names and sizes".
const MaxAddendumBytes = 64 << 20

// addenda keeps what is too large for an entry, under its digest, where
// https://c2sp.org/tlog-addenda says. The bytes are anybody's: only a digest in
// an entry says that they matter.
type addenda struct {
	dir     string // holds addenda/
	staging string // on the same file system
	quota   int64

	mu   sync.Mutex
	used int64
}

// addendumPath is where an addendum is below the log's root, with slashes.
func addendumPath(d statement.Digest) string {
	return "addenda/" + d.SHA256[0:2] + "/" + d.SHA256[2:4] + "/" + d.SHA256
}

// parseDigest reads 64 lower-case hex digits.
func parseDigest(s string) (statement.Digest, error) {
	if err := statement.CheckSHA256(s); err != nil {
		return statement.Digest{}, err
	}
	return statement.Digest{SHA256: s}, nil
}

func openAddenda(dir, staging string, quota int64) (*addenda, error) {
	a := &addenda{dir: dir, staging: staging, quota: quota}
	root := filepath.Join(dir, "addenda")
	if err := durable.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	err := filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			a.used += charge(info.Size())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("counting the addenda: %w", err)
	}
	return a, nil
}

// charge is what an addendum of n bytes takes of the quota: whole blocks, and one
// more for its name and inode. The store is for whoever asks, and would be full
// of files of one byte long before their bytes were many.
func charge(n int64) int64 {
	const block = 4096
	return (n+block-1)/block*block + block
}

func (a *addenda) path(d statement.Digest) string {
	return filepath.Join(a.dir, filepath.FromSlash(addendumPath(d)))
}

// has reports whether an addendum is there and will be after a power cut.
func (a *addenda) has(d statement.Digest) (bool, error) {
	a.mu.Lock() // an upload that is being synced is seen before that is done
	defer a.mu.Unlock()
	return a.there(d)
}

// there is has for whoever holds mu.
func (a *addenda) there(d statement.Digest) (bool, error) {
	switch _, err := os.Stat(a.path(d)); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, fmt.Errorf("looking for an addendum: %w", err)
	}
}

// put stores what r gives, if its digest is d. Errors are *Error, or the
// storage's.
func (a *addenda) put(d statement.Digest, r io.Reader) error {
	if known, err := a.has(d); known || err != nil {
		return err
	}
	f, err := durable.Beside(filepath.Join(a.staging, "addendum"))
	if err != nil {
		return err
	}
	defer f.Discard()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, MaxAddendumBytes+1))
	if err != nil {
		return errorf(Malformed, "the addendum could not be read whole: %v", err)
	}
	if n > MaxAddendumBytes {
		return errorf(TooLarge, "the addendum has more than %d bytes", MaxAddendumBytes)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != d.SHA256 {
		return errorf(Malformed, "the SHA-256 of the %d bytes received is %s, not %s", n, got, d.SHA256)
	}
	// One at a time: a folder that another upload has just made may not be on
	// disk yet, and the same bytes may have come twice.
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, err := a.there(d); known || err != nil {
		return err
	}
	if a.used+charge(n) > a.quota {
		return errorf(Unavailable, "the addenda store is full: %d of %d bytes are used", a.used, a.quota)
	}
	path := a.path(d)
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := f.Commit(path, 0o644); err != nil {
		return err
	}
	a.used += charge(n)
	return nil
}
