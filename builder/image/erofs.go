package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// writeEROFS writes entries (as tree gave them) as an uncompressed EROFS image
// into f and pads it to whole verity blocks. Content is streamed once from its
// source to its place.
func writeEROFS(f *os.File, entries []Entry, epoch time.Time) error {
	src := &entryFS{entries: map[string]*Entry{}, children: map[string][]string{}, epoch: epoch}
	root := Directory(".", 0o755)
	src.entries["."] = &root
	for i := range entries {
		e := &entries[i]
		src.entries[e.Path] = e
		if e.Path != "." {
			dir := path.Dir(e.Path)
			src.children[dir] = append(src.children[dir], e.Path)
		}
	}
	w := erofs.Create(f, erofs.WithBuildTime(uint64(epoch.Unix()), 0), erofs.WithBlockSize(guestconfig.BlockSize))
	if err := w.CopyFrom(src); err != nil {
		return fmt.Errorf("writing the file system: %w", err)
	}
	if err := errors.Join(w.Close(), src.err); err != nil {
		return fmt.Errorf("writing the file system: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("writing the file system: %w", err)
	}
	if err := f.Truncate(roundUp(size, guestconfig.BlockSize)); err != nil {
		return fmt.Errorf("writing the file system: %w", err)
	}
	return nil
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// entryFS shows entries as the file system that go-erofs copies from.
type entryFS struct {
	entries  map[string]*Entry
	children map[string][]string // sorted, because tree sorted them
	epoch    time.Time
	err      error // the first thing that go-erofs could not have seen
}

func (s *entryFS) Open(name string) (fs.File, error) {
	e, ok := s.entries[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &entryFile{fs: s, e: e}, nil
}

func (s *entryFS) ReadDir(name string) ([]fs.DirEntry, error) {
	list := make([]fs.DirEntry, 0, len(s.children[name]))
	for _, c := range s.children[name] {
		list = append(list, fs.FileInfoToDirEntry(s.info(s.entries[c])))
	}
	return list, nil
}

func (s *entryFS) ReadLink(name string) (string, error) {
	e, ok := s.entries[name]
	if !ok || e.Target == "" {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return e.Target, nil
}

// Lstat completes fs.ReadLinkFS.
func (s *entryFS) Lstat(name string) (fs.FileInfo, error) {
	e, ok := s.entries[name]
	if !ok {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return s.info(e), nil
}

func (s *entryFS) info(e *Entry) entryInfo {
	links := 1
	if e.Mode.IsDir() {
		links = 2
		for _, c := range s.children[e.Path] {
			if s.entries[c].Mode.IsDir() {
				links++
			}
		}
	}
	return entryInfo{e, s.epoch, links}
}

type entryInfo struct {
	e     *Entry
	epoch time.Time
	links int
}

func (i entryInfo) Name() string       { return path.Base(i.e.Path) }
func (i entryInfo) Mode() fs.FileMode  { return i.e.Mode }
func (i entryInfo) ModTime() time.Time { return i.epoch }
func (i entryInfo) IsDir() bool        { return i.e.Mode.IsDir() }
func (i entryInfo) Size() int64 {
	if i.e.Target != "" {
		return int64(len(i.e.Target))
	}
	return i.e.Content.Size()
}

// Sys carries what fs.FileInfo has no place for, in the type that go-erofs
// takes it from.
func (i entryInfo) Sys() any {
	return &erofs.Stat{
		Mode: i.e.Mode, Size: i.Size(), UID: i.e.UID, GID: i.e.GID,
		Mtime: uint64(i.epoch.Unix()), Nlink: i.links, Rdev: i.e.rdev(),
	}
}

// rdev is the device number in Linux's "new" encoding, which EROFS stores.
func (e *Entry) rdev() uint32 {
	return e.Minor&0xff | e.Major<<8 | e.Minor&^0xff<<12
}

// entryFile opens its content at the first Read: go-erofs opens every file
// before it reads the first, which would run out of descriptors.
type entryFile struct {
	fs *entryFS
	e  *Entry
	r  io.ReadCloser
}

func (f *entryFile) Stat() (fs.FileInfo, error) { return f.fs.info(f.e), nil }

func (f *entryFile) Read(p []byte) (int, error) {
	if f.r == nil {
		r, err := f.e.Content.Open()
		if err != nil {
			return 0, err
		}
		f.r = r
	}
	return f.r.Read(p)
}

// Close notices content that is longer than it was said to be: go-erofs stops
// reading at the size, and drops what Close returns.
func (f *entryFile) Close() error {
	if f.r == nil {
		return nil
	}
	if _, err := f.r.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) && f.fs.err == nil {
		f.fs.err = fmt.Errorf("%s: %w", f.e.Path, err)
	}
	return f.r.Close()
}

// rootEntries adds to the root volume what init needs in it: the places where
// it mounts something, and the list of services.
func rootEntries(v Volume, others []Volume, services []byte) ([]Entry, error) {
	entries := append([]Entry(nil), v.Entries...)
	have := map[string]bool{}
	for _, e := range entries {
		have[e.Path] = true
	}
	if have[guestconfig.ServicesPath] {
		return nil, fmt.Errorf("%s is written from Spec.Services: remove the entry", guestconfig.ServicesPath)
	}
	places := []string{"dev", "proc", "sys", "run", "tmp"}
	for _, o := range others {
		places = append(places, strings.TrimPrefix(o.Mount, "/"))
	}
	for _, p := range places {
		if !have[p] {
			entries = append(entries, Directory(p, 0o755))
		}
	}
	return append(entries, RegularFile(guestconfig.ServicesPath, 0o644, Bytes(services))), nil
}
