package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Content is a byte string of known length that is read when it is needed,
// possibly more than once, and never kept in memory as a whole. The zero value
// stands for "none".
type Content struct {
	size int64
	open func() (io.ReadCloser, error)
}

// Bytes is content that is already in memory.
func Bytes(b []byte) Content {
	return Content{int64(len(b)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// File is the content of a regular file, which must not change until Assemble
// has returned: a length that differs is noticed, other bytes are not.
func File(name string) (Content, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return Content{}, fmt.Errorf("taking %s into the image: %w", name, err)
	}
	if !fi.Mode().IsRegular() {
		return Content{}, fmt.Errorf("taking %s into the image: it is no regular file", name)
	}
	return Content{fi.Size(), func() (io.ReadCloser, error) { return os.Open(name) }}, nil
}

// FileIn is File for a file of fsys.
func FileIn(fsys fs.FS, name string) (Content, error) {
	fi, err := fs.Stat(fsys, name)
	if err != nil {
		return Content{}, fmt.Errorf("taking %s into the image: %w", name, err)
	}
	if !fi.Mode().IsRegular() {
		return Content{}, fmt.Errorf("taking %s into the image: it is no regular file", name)
	}
	return Content{fi.Size(), func() (io.ReadCloser, error) { return fsys.Open(name) }}, nil
}

// None says whether c is the zero Content. Content of length zero is not.
func (c Content) None() bool { return c.open == nil }

// Size is the length in bytes.
func (c Content) Size() int64 { return c.size }

// Open gives a reader that ends with an error, not with io.EOF, when there are
// fewer or more bytes than Size said.
func (c Content) Open() (io.ReadCloser, error) {
	if c.None() {
		return nil, errors.New("opening content: there is none")
	}
	r, err := c.open()
	if err != nil {
		return nil, err
	}
	return &exactReader{r, c.size}, nil
}

// WriteTo writes the content to w; it implements io.WriterTo.
func (c Content) WriteTo(w io.Writer) (int64, error) {
	r, err := c.Open()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.Copy(w, r)
}

// readAll reads content of at most max bytes into memory.
func (c Content) readAll(max int64) ([]byte, error) {
	if c.size > max {
		return nil, fmt.Errorf("%d bytes, more than %d", c.size, max)
	}
	var b bytes.Buffer
	b.Grow(int(c.size))
	_, err := c.WriteTo(&b)
	return b.Bytes(), err
}

// exactReader turns a source that changed its length into an error: an image
// with a truncated file would otherwise be a well-formed image.
type exactReader struct {
	r    io.ReadCloser
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.left -= int64(n)
	switch {
	case e.left < 0:
		return 0, errors.New("the content is longer than it was said to be")
	case errors.Is(err, io.EOF) && e.left > 0:
		return n, fmt.Errorf("the content ends %d bytes early: %w", e.left, io.ErrUnexpectedEOF)
	}
	return n, err
}

func (e *exactReader) Close() error { return e.r.Close() }
