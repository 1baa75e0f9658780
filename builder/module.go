package builder

import (
	archive "archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"

	"github.com/vitrine-dev/vitrine/log/durable"
)

// listedPackage is what is used of `go list -json`.
type listedPackage struct {
	Dir, ImportPath, Name string
	Module                *listedModule
	GoFiles, SFiles       []string
	HFiles, SysoFiles     []string
	EmbedFiles            []string
}

type listedModule struct {
	Path, Dir string
	Main      bool
}

const listFields = "-json=Dir,ImportPath,Name,Module,GoFiles,SFiles,HFiles,SysoFiles,EmbedFiles"

// packModule packs what packages of the Go module in folder are compiled from:
// go.mod, go.sum and the files of the packages in the module itself, for
// linux/amd64 without cgo. Other modules come from the module proxy, held by
// go.sum. The zip has no times, owners or modes, and the same files give the
// same bytes.
func packModule(ctx context.Context, t Toolchain, home, folder string, packages []string) (zipped []byte, modulePath, h1 string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("packing the Go module %s: %w", folder, err)
		}
	}()
	folder, err = filepath.Abs(folder)
	if err != nil {
		return nil, "", "", err
	}
	// go list would walk up to some other go.mod.
	if err := checkGoMod(folder); err != nil {
		return nil, "", "", err
	}
	out, err := t.run(ctx, home, folder, append([]string{"list", "-deps", listFields, "--"}, packages...)...)
	if err != nil {
		return nil, "", "", err
	}
	root := folder
	names := map[string]bool{"go.mod": true}
	if _, err := os.Stat(filepath.Join(folder, "go.sum")); err == nil {
		names["go.sum"] = true
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p listedPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, "", "", fmt.Errorf("reading what go list printed: %w", err)
		}
		if p.Module == nil { // the standard library
			continue
		}
		if !p.Module.Main {
			continue
		}
		modulePath, root = p.Module.Path, p.Module.Dir
		dir, err := filepath.Rel(root, p.Dir)
		if err != nil || !filepath.IsLocal(dir) {
			return nil, "", "", fmt.Errorf("package %s lies outside its module", p.ImportPath)
		}
		for _, name := range slices.Concat(p.GoFiles, p.SFiles, p.HFiles, p.SysoFiles, p.EmbedFiles) {
			names[path.Join(filepath.ToSlash(dir), filepath.ToSlash(name))] = true
		}
	}
	if modulePath == "" {
		return nil, "", "", errors.New("none of the packages belongs to it")
	}
	// A symbolic link in a stranger's checkout may not have what lies elsewhere on
	// this machine packed, and then published.
	inside, err := os.OpenRoot(root)
	if err != nil {
		return nil, "", "", err
	}
	defer inside.Close()
	var files []zip.File
	for name := range names {
		files = append(files, sourceFile{inside, name})
	}
	slices.SortFunc(files, func(a, b zip.File) int { return strings.Compare(a.Path(), b.Path()) })
	var buf bytes.Buffer
	if err := zip.Create(&buf, moduleVersion(modulePath), files); err != nil {
		return nil, "", "", fmt.Errorf("%w (a module needs a path such as example.org/server)", err)
	}
	if buf.Len() > MaxLocalBytes {
		return nil, "", "", fmt.Errorf("%d bytes, more than the %d that a log stores: embed less", buf.Len(), MaxLocalBytes)
	}
	h1, err = hashZip(buf.Bytes())
	return buf.Bytes(), modulePath, h1, err
}

// hashZip is dirhash.HashZip for bytes in memory.
func hashZip(b []byte) (string, error) {
	z, err := archive.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return "", err
	}
	files := map[string]*archive.File{}
	var names []string
	for _, f := range z.File {
		files[f.Name] = f
		names = append(names, f.Name)
	}
	return dirhash.Hash1(names, func(name string) (io.ReadCloser, error) { return files[name].Open() })
}

// moduleVersion is the version under which modules are packed: it stands in the
// zip's file names and nowhere else.
func moduleVersion(modulePath string) module.Version {
	version := "v0.0.0"
	if _, major, ok := module.SplitPathVersion(modulePath); ok && major != "" {
		version = strings.Trim(major, "/.") + ".0.0"
	}
	return module.Version{Path: modulePath, Version: version}
}

func checkModulePath(s string) error {
	if err := module.Check(s, moduleVersion(s).Version); err != nil {
		return fmt.Errorf("%q is not the path of a Go module", s)
	}
	return nil
}

func checkH1(s string) error {
	if !strings.HasPrefix(s, "h1:") || len(s) != len("h1:")+44 {
		return fmt.Errorf("%q is not a hash as in go.sum", s)
	}
	return nil
}

// sourceFile is a zip.File.
type sourceFile struct {
	root *os.Root
	name string
}

func (f sourceFile) Path() string                 { return f.name }
func (f sourceFile) Lstat() (os.FileInfo, error)  { return f.root.Lstat(filepath.FromSlash(f.name)) }
func (f sourceFile) Open() (io.ReadCloser, error) { return f.root.Open(filepath.FromSlash(f.name)) }

// unpackedSize gives the bytes that a packed module says it expands to, which
// unpackModule holds it to, if they are at most limit.
func unpackedSize(zipFile string, limit int64) (int64, error) {
	z, err := archive.OpenReader(zipFile)
	if err != nil {
		return 0, err
	}
	defer z.Close()
	var size int64
	for _, f := range z.File {
		if f.UncompressedSize64 > uint64(limit-size) {
			return 0, fmt.Errorf("the modules expand to more than %d bytes together: embed less", int64(maxUnpackedBytes))
		}
		size += int64(f.UncompressedSize64)
	}
	return size, nil
}

// unpackModule unpacks a locked module into dir, which must be empty or absent.
// zip.Unzip refuses paths that lead out of dir, links, names that differ only
// in case, and more than 500 MB.
func unpackModule(dir string, m LockedModule, zipFile string) error {
	// First, since it compares sizes with what the zip declares: hashing alone
	// would expand a bomb to its end.
	if err := zip.Unzip(dir, moduleVersion(m.Module), zipFile); err != nil {
		return fmt.Errorf("unpacking the module %s: %w", m.Folder, err)
	}
	h1, err := dirhash.HashZip(zipFile, dirhash.Hash1)
	if err != nil {
		return fmt.Errorf("reading the packed module %s: %w", m.Folder, err)
	}
	if h1 != m.H1 {
		return fmt.Errorf("reading the packed module %s: its hash is %s, and the lock says %s: lock the recipe again", m.Folder, h1, m.H1)
	}
	if err := checkGoMod(dir); err != nil {
		return fmt.Errorf("reading the packed module %s: %w", m.Folder, err)
	}
	return nil
}

// checkGoMod refuses a go.mod that replaces a module by a folder. It would
// compile what lies there on the machine that happens to build.
func checkGoMod(dir string) error {
	const name = "go.mod"
	b, err := durable.ReadFile(filepath.Join(dir, name), zip.MaxGoMod)
	if err != nil {
		return fmt.Errorf("no go.mod: name the folder of a module: %w", err)
	}
	f, err := modfile.Parse(name, b, nil)
	if err != nil {
		return err
	}
	for _, r := range f.Replace {
		if r.New.Version == "" {
			return fmt.Errorf("go.mod replaces %s by the folder %s, which a rebuilder does not have: require a published version", r.Old.Path, r.New.Path)
		}
	}
	return nil
}
