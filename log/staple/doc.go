// Package staple is the sidecar of a node. A node never dials out; the sidecar,
// beside it on the untrusted host, brings it what proves itself: the transparent
// statement of the release that the node runs, with the newest receipt, the
// newest witnessed checkpoint, what the log says about that release (rebuilds,
// the channel, withdrawals), and endorsements of the hardware.
//
// It holds no key. A sidecar that lies, or that is not there, can make clients
// refuse the node and nothing else.
package staple
