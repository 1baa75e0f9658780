// Package node runs beside an inference server, inside the machine that
// hardware measured. It makes its own TLS keys, has the hardware sign them
// together with a caller's challenge, shows that evidence, and forwards
// requests to the inference server on loopback.
//
// Everyone who sends a prompt trusts this code, so it does little:
//
//   - It never dials out, except to its upstream on loopback. What a client
//     wants to see beside the hardware's report (release statement, receipts,
//     checkpoints, endorsements) proves itself, so an untrusted sidecar pushes
//     it in; the node bounds and parses that and believes none of it.
//   - It holds no key but its TLS keys, which it made, which live a day at most
//     and in memory only.
//   - It takes its configuration from the measured image. A value that the host
//     set at launch (HOST_DATA, MRCONFIGID, PCR 15) is refused.
//   - It writes neither requests nor answers to any log.
//
// [docs/formats.md] has the bytes of everything that it says.
//
// [docs/formats.md]: https://github.com/vitrine-dev/vitrine/blob/main/docs/formats.md
package node
