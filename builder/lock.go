package builder

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// LockFormat is the value of the member "format" in a lock.
const LockFormat = "https://vitrine.dev/image-lock/v1"

const (
	maxLockBytes = 256 << 10
	// MaxLocalBytes is the largest local input in bytes: a log stores no larger
	// addendum (docs/formats.md, "Names and sizes").
	MaxLocalBytes   = 64 << 20
	maxPackageBytes = 2 << 30
	maxLocked       = 1024
)

// Lock names every input of one recipe (image.lock).
type Lock struct {
	Format string `json:"format"`
	// Recipe is the digest of the recipe that was locked, in hex.
	Recipe string `json:"recipe"`
	// Go is the version of the toolchain as `go env GOVERSION` prints it.
	Go       string          `json:"go"`
	Packages []LockedPackage `json:"packages"`
	Modules  []LockedModule  `json:"modules"`
	Files    []LockedFile    `json:"files"`

	sha256 string
}

// LockedPackage is a Debian package for amd64.
type LockedPackage struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Path is relative to the archive, "pool/main/...": it holds on every
	// mirror and for as long as some suite has the package.
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// LockedModule is a Go module, packed by PackModule: the files that its used
// packages are compiled from, without its dependencies.
type LockedModule struct {
	Folder string `json:"folder"` // as in the recipe
	Module string `json:"module"` // module path
	H1     string `json:"h1"`     // dirhash of the zip, as in go.sum
	SHA256 string `json:"sha256"` // of the zip
	Size   int64  `json:"size"`
}

// LockedFile is a file beside the recipe.
type LockedFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// SHA256 is the digest of the lock's bytes in hex; "" until Marshal or
// ParseLock has seen them.
func (l *Lock) SHA256() string { return l.sha256 }

// Marshal gives the one encoding of a lock: indented JSON, members in order,
// lists sorted.
func (l *Lock) Marshal() ([]byte, error) {
	l.Format = LockFormat
	slices.SortFunc(l.Packages, func(a, b LockedPackage) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(l.Modules, func(a, b LockedModule) int { return strings.Compare(a.Folder, b.Folder) })
	slices.SortFunc(l.Files, func(a, b LockedFile) int { return strings.Compare(a.Path, b.Path) })
	b, err := json.Marshal(l, jsontext.WithIndent("  "), jsontext.EscapeForHTML(false))
	if err != nil {
		return nil, fmt.Errorf("encoding the lock: %w", err)
	}
	b = append(b, '\n')
	parsed, err := ParseLock("image.lock", b)
	if err != nil {
		return nil, fmt.Errorf("encoding the lock: %w", err)
	}
	l.sha256 = parsed.sha256
	return b, nil
}

// ParseLock reads a lock of at most 256 KiB. Unknown, missing and repeated
// members and values of another form are a *FormatError with name as its file.
func ParseLock(name string, b []byte) (*Lock, error) {
	fail := func(offset int64, format string, args ...any) (*Lock, error) {
		line := 1 + bytes.Count(b[:max(0, min(offset, int64(len(b))))], []byte("\n"))
		return nil, &FormatError{File: name, Line: line, Detail: fmt.Sprintf(format, args...)}
	}
	if len(b) > maxLockBytes {
		return fail(0, "%d bytes, more than %d: make the lock anew", len(b), maxLockBytes)
	}
	l := &Lock{}
	if err := json.Unmarshal(b, l, json.RejectUnknownMembers(true)); err != nil {
		var semantic *json.SemanticError
		var syntactic *jsontext.SyntacticError
		switch {
		case errors.As(err, &semantic):
			what := "a value of another kind"
			if semantic.Err != nil {
				what = semantic.Err.Error()
			}
			return fail(semantic.ByteOffset, "%q: %s: a lock is made by a program and not edited; make it anew", semantic.JSONPointer, what)
		case len(bytes.TrimSpace(b)) == 0:
			return fail(0, "the lock is empty: make it anew")
		case errors.Is(err, io.ErrUnexpectedEOF):
			return fail(int64(len(b)), "the lock ends too early; the rest is missing: make it anew")
		case errors.As(err, &syntactic):
			return fail(syntactic.ByteOffset, "%q: %v: a lock is made by a program and not edited; make it anew", syntactic.JSONPointer, syntactic.Err)
		}
		return fail(0, "not a lock: %v", err)
	}
	if where, err := l.check(); err != nil {
		return fail(find(b, where), "%v: make the lock anew", err)
	}
	sum := sha256.Sum256(b)
	l.sha256 = hex.EncodeToString(sum[:])
	return l, nil
}

// find gives the offset of the line that holds text, for an error message.
func find(b []byte, text string) int64 {
	quoted, err := jsontext.AppendQuote(nil, text)
	if err != nil {
		return 0
	}
	return int64(max(0, bytes.Index(b, quoted)))
}

// check validates every value; where is a string that stands near the fault.
func (l *Lock) check() (where string, err error) {
	if l.Format != LockFormat {
		return l.Format, fmt.Errorf("format %q is unknown: this program reads %q", l.Format, LockFormat)
	}
	if err := statement.CheckSHA256(l.Recipe); err != nil {
		return l.Recipe, fmt.Errorf("recipe: %w", err)
	}
	if err := checkGoVersion(l.Go); err != nil {
		return l.Go, fmt.Errorf("go: %w", err)
	}
	if len(l.Packages) > maxLocked || len(l.Modules) > maxLocked || len(l.Files) > maxLocked {
		return "", fmt.Errorf("more than %d packages, modules or files", maxLocked)
	}
	seen := map[string]bool{}
	unique := func(kind, key string) error {
		if seen[kind+key] {
			return fmt.Errorf("%s %q stands here twice", kind, key)
		}
		seen[kind+key] = true
		return nil
	}
	for _, p := range l.Packages {
		if err := errors.Join(checkPackage(p.Name), checkDebianVersion(p.Version), checkPoolPath(p.Path), checkLocked(p.SHA256, p.Size, maxPackageBytes), unique("package", p.Name)); err != nil {
			return p.Name, fmt.Errorf("package %q: %w", p.Name, first(err))
		}
	}
	for _, m := range l.Modules {
		if err := errors.Join(checkModuleFolder(m.Folder), checkModulePath(m.Module), checkH1(m.H1), checkLocked(m.SHA256, m.Size, MaxLocalBytes), unique("module", m.Folder)); err != nil {
			return m.Folder, fmt.Errorf("module %q: %w", m.Folder, first(err))
		}
	}
	for _, f := range l.Files {
		if err := errors.Join(checkLocalPath(f.Path), checkLocked(f.SHA256, f.Size, MaxLocalBytes), unique("file", f.Path)); err != nil {
			return f.Path, fmt.Errorf("file %q: %w", f.Path, first(err))
		}
	}
	return "", nil
}

// first gives the first of joined errors: one sentence is enough.
func first(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()[0]
	}
	return err
}

func checkLocked(digest string, size, most int64) error {
	if err := statement.CheckSHA256(digest); err != nil {
		return err
	}
	if size < 0 || size > most {
		return fmt.Errorf("size %d is not from 0 to %d bytes", size, most)
	}
	return nil
}

func checkDebianVersion(s string) error {
	if s == "" || len(s) > 128 {
		return fmt.Errorf("%q is not the version of a Debian package", s)
	}
	for _, c := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-~:", c) {
			return fmt.Errorf("%q is not the version of a Debian package", s)
		}
	}
	return nil
}

// checkPoolPath keeps a fetch inside the archive of a mirror.
func checkPoolPath(s string) error {
	if err := checkPath(s); err != nil {
		return err
	}
	if path.Clean(s) != s || !strings.HasPrefix(s, "pool/") || !strings.HasSuffix(s, ".deb") || strings.ContainsAny(s, "?#%") {
		return fmt.Errorf("%q is not the path of a package in a Debian archive, pool/....deb", s)
	}
	return nil
}

// matchRecipe refuses a lock that was made for another recipe, or lacks an
// input of it, or has one too many: a lock says exactly what goes in.
func (l *Lock) matchRecipe(r *Recipe) error {
	const mend = "run vitrine lock"
	if l.Recipe != r.sha256 {
		return fmt.Errorf("the lock was made for a recipe with SHA-256 %s, and this one has %s: %s", l.Recipe, r.sha256, mend)
	}
	folders, _ := r.modules()
	var locked []string
	for _, m := range l.Modules {
		locked = append(locked, m.Folder)
	}
	if slices.Sort(locked); !slices.Equal(locked, folders) {
		return fmt.Errorf("the lock has the modules %q, and the recipe uses %q: %s", locked, folders, mend)
	}
	locked = nil
	for _, f := range l.Files {
		locked = append(locked, f.Path)
	}
	if slices.Sort(locked); !slices.Equal(locked, r.files()) {
		return fmt.Errorf("the lock has the files %q, and the recipe uses %q: %s", locked, r.files(), mend)
	}
	left := slices.Clone(l.Packages)
	for _, pattern := range r.packages() {
		i := slices.IndexFunc(left, func(p LockedPackage) bool { return matchPattern(pattern, p.Name) })
		if i < 0 {
			return fmt.Errorf("the lock has no Debian package for %q: %s", pattern, mend)
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		return fmt.Errorf("the lock has the Debian package %q, which the recipe does not use: %s", left[0].Name, mend)
	}
	return nil
}

// packages gives the patterns of the Debian packages that the recipe needs.
func (r *Recipe) packages() []string {
	var all []string
	if r.Kernel.Package != "" {
		all = append(all, r.Kernel.Package)
	}
	if r.Stub != "" {
		all = append(all, r.Stub)
	}
	for _, s := range r.Shapes {
		if p := s.Firmware.Package; p != "" && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// matchPattern is a match of the whole name in which * stands for any text. It
// takes the leftmost match of every part, which needs no backtracking.
func matchPattern(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, p := range parts[1:last] {
		i := strings.Index(name, p)
		if i < 0 {
			return false
		}
		name = name[i+len(p):]
	}
	return strings.HasSuffix(name, parts[last])
}

// debian gives the locked package that stands for a pattern of the recipe.
func (l *Lock) debian(pattern string) LockedPackage {
	i := slices.IndexFunc(l.Packages, func(p LockedPackage) bool { return matchPattern(pattern, p.Name) })
	return l.Packages[i]
}
