package hardware

// Collateral is what a verdict needs beyond the evidence itself: certificates,
// revocation lists and event logs, by the endorsement types of
// docs/formats.md. It comes from the node, from a file or from a vendor's
// service, and none of it is believed before it proves itself.
type Collateral map[string][]byte

// Endorsement types that the platform packages read.
const (
	VCEK          = "vcek"           // X.509, DER or PEM
	VLEK          = "vlek"           // X.509, DER or PEM
	ASK           = "ask"            // ASK or ASVK, X.509, DER or PEM
	ARK           = "ark"            // X.509, DER or PEM
	CRL           = "crl"            // X.509 CRL, DER or PEM
	AKPublic      = "ak-public"      // TPMT_PUBLIC
	AKCertificate = "ak-certificate" // X.509, DER
	EventLog      = "event-log"      // TCG PC Client, crypto agile
)

// MaxCollateralBytes bounds each item of Collateral: the largest is an event
// log, of which Linux keeps at most a few hundred KiB.
const MaxCollateralBytes = 1 << 20
