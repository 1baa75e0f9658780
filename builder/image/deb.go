package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const (
	// A Debian kernel with debug modules unpacks to about 1 GiB.
	maxDebContent = 8 << 30
	maxDebFiles   = 1 << 20
	// The list of a package's files is in its control archive, too.
	maxDebControl  = 256 << 20
	maxControlFile = 1 << 20
	// What dpkg itself uses at its highest level (xz -9, zstd --ultra) stays
	// below this window.
	maxDebWindow = 128 << 20
)

// ReadDeb walks through the files that a Debian binary package (deb(5), format
// 2.0) would install, in the order of the package, and calls visit for each.
//
// visit gets an Entry without Content and, for a regular file, its bytes and
// their number. A hard link comes as an entry of mode fs.ModeIrregular with the
// path of the file it shares as Target. ReadDeb checks form and bounds, never a
// signature: the caller has compared the package with a digest before.
func ReadDeb(r io.Reader, visit func(e Entry, size int64, content io.Reader) error) error {
	data, name, err := skipToMember(bufio.NewReader(r), "data.tar")
	if err != nil {
		return fmt.Errorf("reading a Debian package: %w", err)
	}
	plain, closePlain, err := decompress(name, data)
	if err != nil {
		return fmt.Errorf("reading a Debian package: opening %s: %w", name, err)
	}
	defer closePlain()
	limited := &io.LimitedReader{R: plain, N: maxDebContent}
	err = walkTar(limited, visit)
	if err == nil {
		// Behind the last file lie padding and the compressor's checksum.
		_, err = io.Copy(io.Discard, limited)
	}
	if err == nil {
		if _, err = io.Copy(io.Discard, data); err == nil && data.N > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	if limited.N <= 0 {
		err = fmt.Errorf("it unpacks to more than %d bytes", int64(maxDebContent))
	}
	if err != nil {
		return fmt.Errorf("reading a Debian package: %s: %w", name, err)
	}
	return nil
}

// ControlOfDeb gives the control file of a Debian binary package (deb-control(5)):
// what the package itself says that it is.
func ControlOfDeb(r io.Reader) (string, error) {
	member, name, err := skipToMember(bufio.NewReader(r), "control.tar")
	if err != nil {
		return "", fmt.Errorf("reading a Debian package: %w", err)
	}
	plain, closePlain, err := decompress(name, member)
	if err != nil {
		return "", fmt.Errorf("reading a Debian package: opening %s: %w", name, err)
	}
	defer closePlain()
	var control []byte
	err = walkTar(io.LimitReader(plain, maxDebControl), func(e Entry, size int64, content io.Reader) (err error) {
		if e.Path != "control" {
			return nil
		}
		if !e.Mode.IsRegular() || control != nil || size > maxControlFile {
			return fmt.Errorf("the control file is there twice, no regular file, or has more than %d bytes", maxControlFile)
		}
		control, err = io.ReadAll(content)
		return err
	})
	if err == nil && len(control) == 0 {
		err = errors.New("there is no control file")
	}
	if err != nil {
		return "", fmt.Errorf("reading a Debian package: %s: %w", name, err)
	}
	return string(control), nil
}

// skipToMember skips to the member of the ar(5) archive whose name begins so:
// control.tar or data.tar.
func skipToMember(r io.Reader, wanted string) (*io.LimitedReader, string, error) {
	magic := make([]byte, 8)
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != "!<arch>\n" {
		return nil, "", errors.New("it does not begin as an ar archive")
	}
	for i := 0; ; i++ {
		name, size, err := arHeader(r)
		if err != nil {
			return nil, "", err
		}
		switch {
		case i == 0:
			version := make([]byte, 4)
			if name != "debian-binary" || size != int64(len(version)) {
				return nil, "", fmt.Errorf("its first member is %q of %d bytes, not debian-binary", name, size)
			}
			if _, err := io.ReadFull(r, version); err != nil || string(version) != "2.0\n" {
				return nil, "", fmt.Errorf("its format is %q, not 2.0", version)
			}
			continue
		case i == 1 && !strings.HasPrefix(name, "control.tar"):
			return nil, "", fmt.Errorf("its second member is %q, not control.tar", name)
		case i == 1 && wanted == "control.tar", i > 1 && strings.HasPrefix(name, wanted):
			return &io.LimitedReader{R: r, N: size}, name, nil
		case i > 8:
			return nil, "", fmt.Errorf("it has no %s among its first members", wanted)
		}
		// Members begin at even offsets.
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return nil, "", fmt.Errorf("skipping %s: %w", name, noEOF(err))
		}
	}
}

// arHeader reads one member header: 60 bytes of ASCII, ending in "`\n".
func arHeader(r io.Reader) (name string, size int64, err error) {
	var h [60]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return "", 0, fmt.Errorf("reading an ar header: %w", noEOF(err))
	}
	if string(h[58:]) != "`\n" {
		return "", 0, errors.New("an ar header does not end as one")
	}
	name = strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	size, err = strconv.ParseInt(strings.TrimRight(string(h[48:58]), " "), 10, 64)
	if err != nil || size < 0 {
		return "", 0, fmt.Errorf("the ar header of %q has size %q", name, h[48:58])
	}
	return name, size, nil
}

func decompress(name string, r io.Reader) (io.Reader, func(), error) {
	nothing := func() {}
	_, ending, _ := strings.Cut(name, ".tar")
	switch ending {
	case "":
		return r, nothing, nil
	case ".gz":
		z, err := gzip.NewReader(r)
		return z, nothing, err
	case ".xz":
		z, err := newXZ(r)
		return z, nothing, err
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxDebWindow))
		if err != nil {
			return nil, nothing, err
		}
		return z, z.Close, nil
	}
	return nil, nothing, errors.New("its compression is none of none, gz, xz and zst")
}

// newXZ is xz.NewReader for a stream whose first block asks for a dictionary of
// at most maxDebWindow: the library allocates whatever the header says.
func newXZ(r io.Reader) (io.Reader, error) {
	br := bufio.NewReader(r)
	// Stream header 12 bytes, block header: size, flags, optional two
	// multibyte integers, then filter flags "21 01 DD" (.xz format 3.1, 5.3.1).
	head, err := br.Peek(64)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(head) > 12 {
		if i := bytes.Index(head[12:], []byte{0x21, 0x01}); i >= 0 && 12+i+2 < len(head) {
			if bits := head[12+i+2]; bits > 30 { // 2^(bits/2+11) or 1.5 times that; 30 is 64 MiB, what xz -9 writes
				return nil, fmt.Errorf("its dictionary (code %d) is larger than 64 MiB", bits)
			}
		}
	}
	return xz.NewReader(br)
}

func walkTar(r io.Reader, visit func(Entry, int64, io.Reader) error) error {
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n >= maxDebFiles {
			return fmt.Errorf("it holds more than %d files", maxDebFiles)
		}
		e, err := tarEntry(h)
		if err != nil {
			return err
		}
		if err := visit(e, h.Size, t); err != nil {
			return err
		}
	}
}

func tarEntry(h *tar.Header) (Entry, error) {
	clean := func(s string) (string, error) {
		p := strings.TrimSuffix(strings.TrimPrefix(s, "./"), "/")
		if p == "" {
			p = "."
		}
		if !fs.ValidPath(p) {
			return "", fmt.Errorf("it holds %q, which is no clean relative path", s)
		}
		return p, nil
	}
	name, err := clean(h.Name)
	if err != nil {
		return Entry{}, err
	}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > 1<<32-1 || int64(h.Gid) > 1<<32-1 {
		return Entry{}, fmt.Errorf("%s belongs to %d:%d, which are no user and group", name, h.Uid, h.Gid)
	}
	e := Entry{Path: name, Mode: fs.FileMode(h.Mode).Perm(), UID: uint32(h.Uid), GID: uint32(h.Gid)}
	for bit, m := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if h.Mode&bit != 0 {
			e.Mode |= m
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir:
		e.Mode |= fs.ModeDir
	case tar.TypeSymlink:
		e.Mode, e.Target = fs.ModeSymlink|0o777, h.Linkname
	case tar.TypeLink:
		e.Mode |= fs.ModeIrregular
		if e.Target, err = clean(h.Linkname); err != nil {
			return Entry{}, err
		}
	default:
		return Entry{}, fmt.Errorf("%s is of tar type %q, which no Debian package needs", name, h.Typeflag)
	}
	return e, nil
}

// FilesFromDeb gives the named regular files of a package ("usr/bin/busybox"),
// at most maxBytes together. Every one of them has to be there.
func FilesFromDeb(r io.Reader, maxBytes int64, names ...string) (map[string][]byte, error) {
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	found, err := collect(r, maxBytes, func(p string) bool { return wanted[p] })
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if _, ok := found[n]; !ok {
			return nil, fmt.Errorf("the Debian package has no file %s: look for its new place with dpkg-deb --contents", n)
		}
	}
	return found, nil
}

func collect(r io.Reader, maxBytes int64, want func(path string) bool) (map[string][]byte, error) {
	found := map[string][]byte{}
	left := maxBytes
	err := ReadDeb(r, func(e Entry, size int64, content io.Reader) error {
		if !want(path.Clean(e.Path)) {
			return nil
		}
		if !e.Mode.IsRegular() {
			return fmt.Errorf("%s is no regular file", e.Path)
		}
		if _, ok := found[e.Path]; ok {
			return fmt.Errorf("%s is in it twice", e.Path)
		}
		if left -= size; left < 0 {
			return fmt.Errorf("the files wanted from it have more than %d bytes (at %s)", maxBytes, e.Path)
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(content, b); err != nil {
			return fmt.Errorf("reading %s: %w", e.Path, noEOF(err))
		}
		found[e.Path] = b
		return nil
	})
	return found, err
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
