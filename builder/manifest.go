package builder

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
	erofs "github.com/erofs/go-erofs"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vitrine-dev/vitrine/builder/image"
	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// ManifestFormat is the value of the member "format" in a manifest.
const ManifestFormat = "https://vitrine.dev/image-manifest/v1"

// ManifestName is the manifest's name among the artefacts. It is an artefact
// itself: it says nothing about when, where and by whom the image was built,
// so that everybody gets the same one, and whoever gets other artefacts than a
// release lists can name the file inside that differs.
const ManifestName = "manifest.json"

const maxManifestBytes = MaxLocalBytes

// Manifest says what a build made, down to each file.
type Manifest struct {
	Format      string     `json:"format"`
	Product     string     `json:"product"`
	Version     string     `json:"version"`
	Recipe      string     `json:"recipe"` // SHA-256
	Lock        string     `json:"lock"`   // SHA-256
	CommandLine string     `json:"commandLine"`
	Artefacts   []Artefact `json:"artefacts"` // sorted by name, without the manifest
	Volumes     []Volume   `json:"volumes"`
	Files       []File     `json:"files"` // sorted by artefact and path
}

// Artefact is one file of a release.
type Artefact struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Volume is one dm-verity protected file system.
type Volume struct {
	Name       string `json:"name"`
	VerityRoot string `json:"verityRoot"` // 32 bytes in hex
	SizeBytes  int64  `json:"sizeBytes"`
}

// File is one entry of a file system inside an artefact.
type File struct {
	Artefact string `json:"artefact"` // "root.erofs", "initrd.cpio"
	Path     string `json:"path"`     // relative, clean
	Mode     string `json:"mode"`     // as ls -l prints it, fs.FileMode.String
	UID      uint32 `json:"uid"`
	GID      uint32 `json:"gid"`
	Size     int64  `json:"size"`             // of a regular file
	SHA256   string `json:"sha256,omitempty"` // of a regular file
	Target   string `json:"target,omitempty"` // of a symbolic link
}

// Marshal gives the one encoding of a manifest.
func (m *Manifest) Marshal() ([]byte, error) {
	b, err := json.Marshal(m, jsontext.WithIndent("  "), jsontext.EscapeForHTML(false))
	if err != nil {
		return nil, fmt.Errorf("encoding the manifest: %w", err)
	}
	b = append(b, '\n')
	if len(b) > maxManifestBytes {
		return nil, fmt.Errorf("encoding the manifest: %d bytes, more than the %d that a log stores: put fewer files into the image", len(b), maxManifestBytes)
	}
	return b, nil
}

// ParseManifest reads a manifest, which may be a stranger's.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > maxManifestBytes {
		return nil, fmt.Errorf("reading a manifest: %d bytes, more than %d", len(b), maxManifestBytes)
	}
	m := &Manifest{}
	if err := json.Unmarshal(b, m, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w: build the image again", err)
	}
	if m.Format != ManifestFormat {
		return nil, fmt.Errorf("reading a manifest: format %q is unknown: this program reads %q", m.Format, ManifestFormat)
	}
	if err := errors.Join(statement.CheckName(m.Product), statement.CheckVersion(m.Version), statement.CheckSHA256(m.Recipe), statement.CheckSHA256(m.Lock), checkCommandLine(m.CommandLine)); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", first(err))
	}
	seen := map[[2]string]bool{}
	for _, a := range m.Artefacts {
		if err := errors.Join(statement.CheckName(a.Name), checkLocked(a.SHA256, a.Size, 1<<53-1)); err != nil {
			return nil, fmt.Errorf("reading a manifest: artefact %q: %w", a.Name, first(err))
		}
		if seen[[2]string{a.Name}] {
			return nil, fmt.Errorf("reading a manifest: artefact %q stands there twice", a.Name)
		}
		seen[[2]string{a.Name}] = true
	}
	for _, v := range m.Volumes {
		if err := errors.Join(statement.CheckName(v.Name), checkLocked(v.VerityRoot, v.SizeBytes, 1<<53-1)); err != nil {
			return nil, fmt.Errorf("reading a manifest: volume %q: %w", v.Name, first(err))
		}
	}
	for _, f := range m.Files {
		err := errors.Join(statement.CheckName(f.Artefact), checkShown(f.Path), checkShown(f.Mode), checkShown(f.Target))
		if err == nil && f.SHA256 != "" {
			err = checkLocked(f.SHA256, f.Size, 1<<53-1)
		}
		if err != nil {
			return nil, fmt.Errorf("reading a manifest: file %q: %w", f.Path, first(err))
		}
		if key := [2]string{f.Artefact, f.Path}; seen[key] || f.Path == "" {
			return nil, fmt.Errorf("reading a manifest: file %q of %s stands there twice, or without a path", f.Path, f.Artefact)
		} else {
			seen[key] = true
		}
	}
	return m, nil
}

// checkShown is for what an explanation repeats, and people read.
func checkShown(s string) error {
	if len(s) > maxShownBytes {
		return fmt.Errorf("a text of %d bytes, more than %d", len(s), maxShownBytes)
	}
	return checkNoControl(s)
}

// maxShownBytes is the longest path that Linux takes.
const maxShownBytes = 4096

// describe makes the manifest of what Assemble left in out.Dir. It reads the
// file systems back from the artefacts instead of believing what was put in.
func describe(out *image.Output, commandLine string) (*Manifest, error) {
	m := &Manifest{Format: ManifestFormat, CommandLine: commandLine, Artefacts: []Artefact{}, Volumes: []Volume{}}
	for _, a := range out.Artefacts {
		m.Artefacts = append(m.Artefacts, Artefact{a.Name, hex.EncodeToString(a.SHA256[:]), a.Size})
	}
	for _, v := range out.Volumes {
		m.Volumes = append(m.Volumes, Volume{v.Name, v.RootHash, int64(v.DataBlocks) * guestconfig.BlockSize})
		files, err := erofsFiles(out.Dir, v.Name+".erofs")
		if err != nil {
			return nil, err
		}
		m.Files = append(m.Files, files...)
	}
	files, err := cpioFiles(out.Dir, image.InitrdName)
	if err != nil {
		return nil, err
	}
	m.Files = append(m.Files, files...)
	slices.SortFunc(m.Files, func(a, b File) int {
		if c := strings.Compare(a.Artefact, b.Artefact); c != 0 {
			return c
		}
		return strings.Compare(a.Path, b.Path)
	})
	return m, nil
}

func erofsFiles(dir, name string) ([]File, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", name, err)
	}
	defer f.Close()
	fsys, err := erofs.Open(f)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", name, err)
	}
	var all []File
	err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		// FileInfo.Mode leaves out set-user-ID, set-group-ID and sticky.
		st, ok := fi.Sys().(*erofs.Stat)
		if !ok {
			return fmt.Errorf("%s: no owner and mode", p)
		}
		e := File{Artefact: name, Path: p, Mode: st.Mode.String(), UID: st.UID, GID: st.GID}
		switch fi.Mode().Type() {
		case 0:
			r, err := fsys.Open(p)
			if err != nil {
				return err
			}
			defer r.Close()
			if e.SHA256, e.Size, err = hashAll(r); err != nil {
				return err
			}
		case fs.ModeSymlink:
			if e.Target, err = fs.ReadLink(fsys, p); err != nil {
				return err
			}
		}
		all = append(all, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", name, err)
	}
	return all, nil
}

func cpioFiles(dir, name string) ([]File, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", name, err)
	}
	defer f.Close()
	r := cpio.NewReader(f)
	var all []File
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", name, err)
		}
		// The mode is st_mode; tar's header translates it.
		mode := (&tar.Header{Mode: int64(h.Mode), Typeflag: tar.TypeReg}).FileInfo().Mode()
		e := File{Artefact: name, Path: strings.TrimPrefix(h.Name, "/"), UID: uint32(h.Uid), GID: uint32(h.Guid), Mode: mode.String()}
		switch mode.Type() {
		case 0:
			if e.SHA256, e.Size, err = hashAll(r); err != nil {
				return nil, fmt.Errorf("listing %s: %w", name, err)
			}
		case fs.ModeSymlink:
			e.Target = h.Linkname
		}
		all = append(all, e)
	}
}

func hashAll(r io.Reader) (string, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), n, err
}
