package node

import (
	"context"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// bounds is the ResponseWriter of one request to the public server. It bounds
// how long the client may take to send the request's body, and to take each
// write of the answer, but not how long the answer is thought about: a model
// writes for as long as it writes.
//
// http.Server's own timeouts are for the whole answer, and a deadline that is
// set once and forgotten ends an answer in a pause (on HTTP/2 a write deadline
// resets the stream even if nothing is being written). So each write gets a
// deadline that goes with it.
type bounds struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration // for one write

	http1    bool
	last     bool // the connection takes no request after this one
	answered bool // the header was written, or is about to be

	mu      sync.Mutex // the body may be read by another goroutine
	pending bool       // the body's deadline stands
	timer   *time.Timer
	cancel  context.CancelCauseFunc
}

// bound wraps an answer and its request, whose body may take upload to come.
// The request is a copy: the server looks at what it finds in its own.
func bound(w http.ResponseWriter, r *http.Request, upload, stall time.Duration) (*bounds, *http.Request) {
	b := &bounds{
		ResponseWriter: w,
		control:        http.NewResponseController(w),
		stall:          stall,
		http1:          r.ProtoMajor == 1,
		cancel:         func(error) {},
	}
	if r.Body == nil || r.Body == http.NoBody {
		return b, r
	}
	// It stands also if no handler reads the body: then the server does, so as
	// to keep the connection.
	_ = b.control.SetReadDeadline(time.Now().Add(upload))
	b.pending = true
	// A deadline for reading ends no wait for an upstream that takes nothing.
	ctx, cancel := context.WithCancelCause(r.Context())
	b.timer, b.cancel = time.AfterFunc(upload, func() { cancel(os.ErrDeadlineExceeded) }), cancel
	r = r.WithContext(ctx)
	r.Body = &boundBody{ReadCloser: r.Body, bounds: b}
	return b, r
}

// boundBody is the body of a bounded request.
type boundBody struct {
	io.ReadCloser
	bounds *bounds
}

func (b *boundBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.bounds.uploaded()
	}
	return n, err
}

// uploaded lifts the body's deadline. The server reads on, to see the client
// leave, and may not run into it.
func (b *bounds) uploaded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending {
		b.pending = false
		b.timer.Stop()
		_ = b.control.SetReadDeadline(time.Time{})
	}
}

// finish leaves deadlines for what the server does after the handler: it
// writes what it holds of the answer, and reads what is left of the body.
func (b *bounds) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending {
		b.pending = false
		b.timer.Stop()
	}
	b.cancel(nil)
	_ = b.control.SetWriteDeadline(time.Now().Add(b.stall))
}

// within does something that writes to the client, in time.
func (b *bounds) within(write func()) {
	_ = b.control.SetWriteDeadline(time.Now().Add(b.stall))
	write()
	_ = b.control.SetWriteDeadline(time.Time{})
}

// WriteHeader implements [http.ResponseWriter].
func (b *bounds) WriteHeader(status int) {
	if status >= 200 {
		b.answered = true
		if b.timer != nil {
			b.timer.Stop() // who answers early need not wait for the rest
		}
		if b.last {
			// Not earlier: a forwarded status of 1xx empties the header.
			b.Header().Set("Connection", "close")
		}
	}
	b.within(func() { b.ResponseWriter.WriteHeader(status) })
}

// Write implements [http.ResponseWriter].
func (b *bounds) Write(p []byte) (n int, err error) {
	if !b.answered {
		b.WriteHeader(http.StatusOK)
	}
	b.within(func() { n, err = b.ResponseWriter.Write(p) })
	return n, err
}

// FlushError is what http.ResponseController calls for a flush.
func (b *bounds) FlushError() (err error) {
	b.within(func() { err = b.control.Flush() })
	if b.http1 && b.answered {
		// With the header, HTTP/1 is done with the body: the rest of it was
		// read, or the connection ends with the answer.
		b.uploaded()
	}
	return err
}

// Unwrap lets http.ResponseController find the rest.
func (b *bounds) Unwrap() http.ResponseWriter { return b.ResponseWriter }
