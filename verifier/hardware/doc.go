// Package hardware is what the platform packages share: what appraised
// evidence claims, what a refusal is, and the closed list of every reason for
// which Vitrine refuses.
//
// One package below this one exists for each platform, and each asks the same
// two questions of some bytes: is this genuine, and what did it measure? None
// of them decides whether what was measured is wanted: that is the verifier's
// question, asked of [Claims].
//
// No function here or below it reads a clock, a network, a file or the
// environment, and none prints. The time, the roots and the collateral are
// arguments, so that every verdict can be repeated at a given instant.
package hardware
