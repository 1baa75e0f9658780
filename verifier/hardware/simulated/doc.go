// Package simulated makes evidence without hardware: throw-away roots in the
// shape of the vendors' own, and reports of the real structure, byte for byte,
// signed under them. It is for tests, demonstrations and other projects'
// tests.
//
// Nothing signed here verifies unless a verifier names the throw-away root, and
// the claims then say that they are simulated and that nothing is isolated.
// Every certificate says SIMULATED in its subject.
package simulated
