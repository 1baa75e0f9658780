package builder

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/statement"
)

const (
	// DebianKeyring holds the keys of the Debian archive on a Debian machine.
	DebianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

	securitySuffix = "-security"

	maxReleaseBytes = 4 << 20
	maxIndexBytes   = 128 << 20 // compressed
	maxIndexPlain   = 1 << 30
	maxStanzaBytes  = 1 << 20
)

// resolve finds, for each pattern, the package for amd64 with the highest
// version in a Debian release and its updates, on all mirrors. What a mirror
// says counts only under the signature of a key in keyring.
//
// apt's sources name archives of others, too, and mirrors that are down, so one
// that has nothing to say is passed over. But each of the three suites has to
// come from somewhere: whoever can hide the security suite could otherwise have
// a package with known holes locked without a word.
func (m *Mirrors) resolve(ctx context.Context, release, keyring string, now time.Time, patterns []string) ([]LockedPackage, error) {
	suites := []string{release, release + "-updates", release + securitySuffix}
	had := map[string]bool{}
	var candidates []LockedPackage
	var reasons []string
	var lock sync.Mutex
	var wg sync.WaitGroup
	for _, base := range m.URLs {
		for _, suite := range suites {
			wg.Go(func() {
				found, err := m.search(ctx, base+"/dists/", suite, keyring, now, patterns)
				lock.Lock()
				defer lock.Unlock()
				if err != nil {
					reasons = append(reasons, err.Error())
					return
				}
				had[suite] = true
				candidates = append(candidates, found...)
			})
		}
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("locking: looking for Debian packages: %w", ctx.Err())
	}
	slices.Sort(reasons)
	for _, suite := range suites {
		if !had[suite] {
			return nil, fmt.Errorf("locking: %w: no mirror of apt's sources has the suite %s: add one that does, such as http://deb.debian.org/debian and http://deb.debian.org/debian-security: %s", ErrUnavailable, suite, strings.Join(reasons, "; "))
		}
	}
	best := make([]LockedPackage, len(patterns))
	for i, pattern := range patterns {
		for _, p := range candidates {
			if matchPattern(pattern, p.Name) && (best[i].Name == "" || newer(p, best[i])) {
				best[i] = p
			}
		}
		if best[i].Name == "" {
			return nil, fmt.Errorf("locking: Debian %s has no package %q for amd64: correct the name", release, pattern)
		}
	}
	return best, nil
}

// newer orders candidates for one pattern. The path decides between equals, so
// that the answer does not depend on which mirror was the fastest.
func newer(a, b LockedPackage) bool {
	if c := compareVersions(a.Version, b.Version); c != 0 {
		return c > 0
	}
	if a.Name != b.Name {
		return a.Name > b.Name
	}
	return a.Path < b.Path
}

// search reads the package index of the suite of that name.
func (m *Mirrors) search(ctx context.Context, dists, name, keyring string, now time.Time, patterns []string) ([]LockedPackage, error) {
	suite := dists + name
	signed, err := m.get(ctx, suite+"/InRelease", maxReleaseBytes)
	if err != nil {
		return nil, err
	}
	release, err := openRelease(ctx, signed, keyring)
	if err != nil {
		return nil, fmt.Errorf("%s/InRelease: %w", redacted(suite), err)
	}
	index, err := parseRelease(release, name, now)
	if err != nil {
		return nil, fmt.Errorf("%s/InRelease: %w", redacted(suite), err)
	}
	// The place by digest stays the same while the mirror is being updated.
	packed, err := m.get(ctx, suite+"/main/binary-amd64/by-hash/SHA256/"+index.sha256, index.size)
	if err != nil {
		if packed, err = m.get(ctx, suite+"/"+index.path, index.size); err != nil {
			return nil, err
		}
	}
	if sum := sha256.Sum256(packed); hex.EncodeToString(sum[:]) != index.sha256 {
		return nil, fmt.Errorf("%s/%s is not what the signed Release file names: try again when the mirror is up to date", redacted(suite), index.path)
	}
	plain, err := decompressIndex(index.path, packed)
	if err != nil {
		return nil, fmt.Errorf("expanding %s/%s: %w", redacted(suite), index.path, err)
	}
	found, err := parsePackages(plain, patterns)
	if err != nil {
		return nil, fmt.Errorf("reading %s/%s: %w", redacted(suite), index.path, err)
	}
	return found, nil
}

// openRelease gives the text that is signed in an InRelease file. It asks gpgv,
// as apt does on Debian 12: OpenPGP is nothing to write anew, and no maintained
// library for it would be needed elsewhere.
func openRelease(ctx context.Context, signed []byte, keyring string) ([]byte, error) {
	const begin = "-----BEGIN PGP SIGNED MESSAGE-----\n"
	// One message from the first byte: text around it, or a second message, would
	// not be under the signature that is found good.
	if !bytes.HasPrefix(signed, []byte(begin)) || bytes.Count(signed, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) != 1 {
		return nil, errors.New("checking the signature: it is not one signed message")
	}
	if _, err := os.Stat(keyring); err != nil {
		return nil, fmt.Errorf("checking the signature: %w: install debian-archive-keyring", err)
	}
	tool, err := exec.LookPath("gpgv")
	if err != nil {
		return nil, fmt.Errorf("checking the signature: %w: install gpgv", err)
	}
	dir, err := os.MkdirTemp("", "vitrine-release-*")
	if err != nil {
		return nil, fmt.Errorf("checking the signature: %w", err)
	}
	defer os.RemoveAll(dir)
	in, plain := filepath.Join(dir, "InRelease"), filepath.Join(dir, "Release")
	if err := os.WriteFile(in, signed, 0o600); err != nil {
		return nil, fmt.Errorf("checking the signature: %w", err)
	}
	cmd := exec.CommandContext(ctx, tool, "--weak-digest", "SHA1", "--status-fd", "1", "--keyring", keyring, "--output", plain, in)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=" + dir}
	status := &tail{limit: 64 << 10}
	cmd.Stdout = status
	// It fails when one of several keys is not in the keyring, which is so
	// whenever Debian changes keys; its status lines say what did verify.
	_ = cmd.Run()
	if err := judgeStatus(status.String()); err != nil {
		return nil, err
	}
	text, err := durable.ReadFile(plain, maxReleaseBytes)
	if err != nil {
		return nil, fmt.Errorf("checking the signature: %w", err)
	}
	return text, nil
}

// judgeStatus wants one good signature and no bad one (GnuPG, doc/DETAILS).
func judgeStatus(status string) error {
	good := false
	for line := range strings.Lines(status) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "[GNUPG:]" {
			continue
		}
		switch fields[1] {
		case "GOODSIG":
			good = true
		case "BADSIG":
			return errors.New("checking the signature: it is bad")
		}
	}
	if !good {
		return errors.New("checking the signature: it is not by a key of the Debian archive")
	}
	return nil
}

// indexFile is one line of a Release file.
type indexFile struct {
	path, sha256 string
	size         int64
}

// parseRelease finds the package index of main for amd64 in a verified Release
// file.
//
// The archive's key signs every suite of every release. A file of another one,
// put in the place of the security suite, would have packages with known holes
// locked, and so would an old one, replayed: hence it has to be of the suite
// that was asked for, and its Valid-Until, which the security suite always has,
// may not have passed. The main suite of a stable release has none.
func parseRelease(b []byte, suite string, now time.Time) (indexFile, error) {
	all := stanzas(string(b))
	if len(all) == 0 {
		return indexFile{}, errors.New("it is empty")
	}
	if origin, codename := all[0]["origin"], all[0]["codename"]; origin != "Debian" || codename != suite {
		return indexFile{}, fmt.Errorf("it is of suite %q by %q, not of %q by \"Debian\": use another mirror", codename, origin, suite)
	}
	until := all[0]["valid-until"]
	if until == "" && strings.HasSuffix(suite, securitySuffix) {
		return indexFile{}, errors.New("it says nothing of how long it is valid")
	}
	if until != "" {
		t, err := time.Parse("Mon, 02 Jan 2006 15:04:05 MST", until)
		if err != nil {
			return indexFile{}, fmt.Errorf("Valid-Until %q is not a date", until)
		}
		if now.After(t) {
			return indexFile{}, fmt.Errorf("it was valid until %s: check the clock, or use a mirror that is kept up to date", until)
		}
	}
	files := map[string]indexFile{}
	for line := range strings.Lines(all[0]["sha256"]) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		size, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || size < 0 || size > maxIndexBytes || statement.CheckSHA256(f[0]) != nil {
			continue
		}
		files[f[2]] = indexFile{f[2], f[0], size}
	}
	for _, ending := range []string{".gz", ".xz"} { // .gz expands four times faster
		if f, ok := files["main/binary-amd64/Packages"+ending]; ok {
			return f, nil
		}
	}
	return indexFile{}, errors.New("it names no main/binary-amd64/Packages.gz or .xz of a sane size")
}

func decompressIndex(name string, b []byte) (io.Reader, error) {
	var r io.Reader
	var err error
	if strings.HasSuffix(name, ".gz") {
		r, err = gzip.NewReader(bytes.NewReader(b))
	} else {
		r, err = xz.NewReader(bytes.NewReader(b))
	}
	if err != nil {
		return nil, err
	}
	return io.LimitReader(r, maxIndexPlain), nil
}

// parsePackages gives the stanzas of a package index whose name matches one of
// the patterns.
func parsePackages(r io.Reader, patterns []string) ([]LockedPackage, error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxStanzaBytes)
	s.Split(splitStanzas)
	var all []LockedPackage
	for s.Scan() {
		name, ok := strings.CutPrefix(s.Text(), "Package: ")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, "\n")
		matched := false
		for _, p := range patterns {
			matched = matched || matchPattern(p, name)
		}
		if !matched {
			continue
		}
		f := stanzas(s.Text())[0]
		if f["architecture"] != "amd64" && f["architecture"] != "all" {
			continue
		}
		size, err := strconv.ParseInt(f["size"], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("package %s: size %q is not a number", name, f["size"])
		}
		p := LockedPackage{Name: name, Version: f["version"], Path: f["filename"], SHA256: f["sha256"], Size: size}
		probe := Lock{Format: LockFormat, Recipe: p.SHA256, Go: "go1.1", Packages: []LockedPackage{p}}
		if _, err := probe.check(); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, s.Err()
}

// splitStanzas is a bufio.SplitFunc for deb822(5).
func splitStanzas(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.Index(data, []byte("\n\n")); i >= 0 {
		return i + 2, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
