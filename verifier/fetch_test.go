package verifier

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestFetchSilence: a machine that accepts a connection and never says a word, as
// one does that still boots behind a forwarded port, is one that is not there.
func TestFetchSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends []net.Conn
		began := time.Now()
		_, err := Fetch(t.Context(), "https://node.test:8443", FetchOptions{
			Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				ends = append(ends, theirs)
				go io.Copy(io.Discard, theirs)
				return ours, nil
			},
		})
		wantCode(t, err, "node/unreachable")
		if waited := time.Since(began); waited != connectTimeout {
			t.Errorf("it was given up after %v, not %v", waited, connectTimeout)
		}
		for _, c := range ends {
			c.Close()
		}
	})
}
