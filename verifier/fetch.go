package verifier

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// FetchOptions say how to get evidence. The zero value asks with a nonce.
type FetchOptions struct {
	// Dated asks without a nonce: the evidence then answers the node's newest
	// checkpoint, which dates it.
	Dated bool
	// Dial opens connections; nil is a net.Dialer.
	Dial Dial
	// Rand is where nonces come from; nil is crypto/rand.
	Rand io.Reader
	// Now is the client's clock; nil is time.Now.
	Now func() time.Time
}

func (o *FetchOptions) nonce() (*[32]byte, error) {
	if o.Dated {
		return nil, nil
	}
	r := o.Rand
	if r == nil {
		r = rand.Reader
	}
	var n [32]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, fmt.Errorf("making a nonce: %w", err)
	}
	return &n, nil
}

// Fetch asks the node at a URL (https://host:port) for its evidence, over a
// connection that it then closes. The recording is what [Appraise] needs, by
// [Recording.Input], and what a file keeps; a verdict about it says nothing
// about any later connection, for which there is [Transport].
func Fetch(ctx context.Context, node string, opts FetchOptions) (*Recording, error) {
	u, err := url.Parse(node)
	if err != nil {
		return nil, fmt.Errorf("reading the node's address: %w", err)
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the node's address %q has more than https://host:port", clip(node))
	}
	addr, err := address(u)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", clip(node), err)
	}
	nonce, err := opts.nonce()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if opts.Now != nil {
		now = opts.Now()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout,
		hardware.Refuse("node/unreachable", "%s did not answer within %s", addr, connectTimeout))
	defer cancel()
	conn, spki, err := connect(ctx, opts.Dial, addr, now)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	document, _, err := ask(ctx, conn, u.Host, nonce)
	if err != nil {
		return nil, err
	}
	return &Recording{URL: node, Time: now.UTC().Truncate(time.Second), Nonce: nonce, SPKI: spki, Document: document}, nil
}
