// Package verifier decides whether a machine is what it says it is: evidence,
// statement, receipt and policy in, a verdict out.
//
// [Appraise] runs a list of named checks, in the order in which they rest on
// one another: genuine hardware; evidence that answers this challenge and binds
// this connection's key; registers that a statement lists; a statement that a
// publisher signed and a witnessed log holds; a release that is current, that
// others rebuilt, and that satisfies the policy's rules. Each check ends with
// what was seen; the first that fails is the refusal, a
// [*hardware.Rejection] from the closed list, and none after it is reached.
// Nothing here asks anybody over a network: it all came with the evidence.
//
// [NewTransport] is an http.RoundTripper that sends a request only over a
// connection whose own key was appraised first. [Fetch] gets evidence from a
// node, and a [Recording] keeps it so that [Replay] can show the verdict again,
// as history.
package verifier
