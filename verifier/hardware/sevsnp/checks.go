package sevsnp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// check is one thing that must be true. Each is needed: a test leaves each out
// in turn and shows a forgery that then passes.
type check struct {
	name string
	run  func(*appraisal) *hardware.Rejection
}

// Checks names what Verify checks, in order.
func Checks() []string {
	var names []string
	for _, c := range append(append([]check{}, reportChecks...), chainChecks...) {
		names = append(names, c.name)
	}
	return names
}

// reportChecks need the report alone and run before any certificate is read:
// nothing they refuse is worth the cost of a signature.
var reportChecks = []check{
	{"report version", reportVersion},
	{"report: reserved bytes", reservedBytes},
	{"guest policy: reserved bits", guestPolicyReserved},
	{"platform information: reserved bits", platformInfoBitsReserved},
	{"signer: reserved bits", signerInfoReserved},
	{"signer: the report is signed", reportUnsigned},
	{"signer: the chip's key is not masked", chipKeyMasked},
	{"signature algorithm", signatureAlgorithm},
	{"VMPL", vmpl},
	{"no debugging", debugOff},
	{"no migration agent allowed", migrationAgentOff},
	{"no migration agent present", migrationAgentAbsent},
}

// chainChecks need the certificates. Cheap ones come first, signatures from
// the root down, and the report's own last.
var chainChecks = []check{
	{"product known", productKnown},
	{"endorsement key: extensions", endorsementExtensions},
	{"endorsement key: subject", endorsementSubject},
	{"endorsement key: issuer", endorsementIssuer},
	{"product matches", productMatches},
	{"seen before", seen},
	{"root: subject", rootSubject},
	{"intermediate: is a CA", intermediateCA},
	{"root: is a CA", rootCA},
	{"root: dates", func(a *appraisal) *hardware.Rejection { return dates(a.ark, "ark", a.opts.Now) }},
	{"intermediate: dates", func(a *appraisal) *hardware.Rejection { return dates(a.ica, a.icaName, a.opts.Now) }},
	{"endorsement key: dates", func(a *appraisal) *hardware.Rejection { return dates(a.ek, a.ekName, a.opts.Now) }},
	{"endorsement key: curve", endorsementCurve},
	{"endorsement key: signature algorithm", endorsementAlgorithm},
	{"TCB: reserved parts", tcbReserved},
	{"TCB: reported not above current", tcbReportedOrder},
	{"TCB: committed not above current", tcbCommittedOrder},
	{"firmware: committed not above current", firmwareOrder},
	{"TCB: certificate for the reported level", tcbOfCertificate},
	{"TCB: certificate's reserved parts", tcbOfCertificateReserved},
	{"TCB: minimum", tcbMinimum},
	{"chip id not masked", chipIDMasked},
	{"chip id", chipID},
	{"revocation list: present", crlPresent},
	{"revocation list: issuer", crlIssuer},
	{"revocation list: not from the future", crlFuture},
	{"revocation list: not stale", crlStale},
	{"revocation list: signature", crlSignature},
	{"not revoked", notRevoked},
	{"intermediate: signature", intermediateSignature},
	{"endorsement key: signature", endorsementSignature},
	{"report: signature", reportSignature},
}

func reportVersion(a *appraisal) *hardware.Rejection {
	if v := a.report.version; v < abi.MinSupportedReportVersion || v > abi.MaxSupportedReportVersion {
		return hardware.Refuse("hardware/sev-snp/report-version", "the report has version %d; %d to %d are known",
			v, abi.MinSupportedReportVersion, abi.MaxSupportedReportVersion)
	}
	return nil
}

func reservedBytes(a *appraisal) *hardware.Rejection {
	for _, r := range a.report.reserved() {
		for at := r[0]; at < r[1]; at++ {
			if a.report.raw[at] != 0 {
				return hardware.Refuse("hardware/sev-snp/report-reserved", "the report's byte at %#x is %#02x and must be zero", at, a.report.raw[at])
			}
		}
	}
	return nil
}

func guestPolicyReserved(a *appraisal) *hardware.Rejection {
	p := a.report.guestPolicy
	if p&guestPolicyMustBeOne == 0 {
		return hardware.Refuse("hardware/sev-snp/guest-policy-reserved", "bit 17 of the guest policy %#x is zero and must be one", p)
	}
	if p&guestPolicyMustBeZero != 0 {
		return hardware.Refuse("hardware/sev-snp/guest-policy-reserved", "bits 26 to 63 of the guest policy %#x are not all zero", p)
	}
	return nil
}

func platformInfoBitsReserved(a *appraisal) *hardware.Rejection {
	if unknown := a.report.platformInfo & platformInfoReserved; unknown != 0 {
		return hardware.Refuse("hardware/sev-snp/platform-info-reserved", "the bits %#x of the platform information have no known meaning", unknown)
	}
	return nil
}

func signerInfoReserved(a *appraisal) *hardware.Rejection {
	if a.report.signer&signerReserved != 0 {
		return hardware.Refuse("hardware/sev-snp/signer-info-reserved", "the signer field %#x has reserved bits set", a.report.signer)
	}
	if k := a.report.signingKey(); k > signedByVLEK && k < signedByNone {
		return hardware.Refuse("hardware/sev-snp/signer-info-reserved", "the signer field names the reserved kind of key %d", k)
	}
	return nil
}

func reportUnsigned(a *appraisal) *hardware.Rejection {
	if a.report.signingKey() == signedByNone {
		return hardware.Refuse("hardware/sev-snp/report-unsigned", "the report's signer field says that no key signed it")
	}
	return nil
}

func chipKeyMasked(a *appraisal) *hardware.Rejection {
	if a.report.chipKeyMasked() {
		return hardware.Refuse("hardware/sev-snp/chip-key-masked", "the report's signer field says that the chip's key is masked")
	}
	return nil
}

func signatureAlgorithm(a *appraisal) *hardware.Rejection {
	if a.report.signatureAlgo != abi.SignEcdsaP384Sha384 {
		return hardware.Refuse("hardware/sev-snp/signature-algorithm", "the report names the signature algorithm %d; 1 (ECDSA P-384 with SHA-384) is known", a.report.signatureAlgo)
	}
	return nil
}

func vmpl(a *appraisal) *hardware.Rejection {
	if a.report.vmpl > 3 {
		return hardware.Refuse("hardware/sev-snp/vmpl", "the report was requested at VMPL %d; a guest has 0 to 3", a.report.vmpl)
	}
	return nil
}

func debugOff(a *appraisal) *hardware.Rejection {
	if a.report.debug() {
		return hardware.Refuse("hardware/sev-snp/debug", "the guest policy %#x has bit 19 set", a.report.guestPolicy)
	}
	return nil
}

func migrationAgentOff(a *appraisal) *hardware.Rejection {
	if a.report.migrationAgent() {
		return hardware.Refuse("hardware/sev-snp/migration-agent", "the guest policy %#x has bit 18 set", a.report.guestPolicy)
	}
	return nil
}

// Without an agent REPORT_ID_MA is all ones; zero is nobody's report either.
func migrationAgentAbsent(a *appraisal) *hardware.Rejection {
	id := a.report.reportIDMA
	if len(bytes.Trim(id, "\xff")) != 0 && len(bytes.Trim(id, "\x00")) != 0 {
		return hardware.Refuse("hardware/sev-snp/migration-agent-present", "the report names a migration agent, %x", id)
	}
	return nil
}

func productKnown(a *appraisal) *hardware.Rejection {
	if a.product != "" {
		return nil
	}
	if a.report.version >= 3 {
		return hardware.Refuse("hardware/sev-snp/product-unknown", "no known processor has family %#x and model %#x", a.report.family, a.report.model)
	}
	if a.extsBad != nil && a.exts.productName == "" {
		return a.extsBad
	}
	return hardware.Refuse("hardware/sev-snp/product-unknown", "the %s certificate is for the product %q", strings.ToUpper(a.ekName), a.exts.productName)
}

func endorsementExtensions(a *appraisal) *hardware.Rejection { return a.extsBad }

func endorsementSubject(a *appraisal) *hardware.Rejection {
	if want := "SEV-" + strings.ToUpper(a.ekName); a.ek.Subject.CommonName != want {
		return hardware.Refuse(code(a.ekName, "subject"), "the certificate's subject is %q, not %q", a.ek.Subject.CommonName, want)
	}
	return nil
}

func endorsementIssuer(a *appraisal) *hardware.Rejection {
	if !bytes.Equal(a.ek.RawIssuer, a.ica.RawSubject) {
		return hardware.Refuse(code(a.ekName, "issuer"), "the certificate's issuer is %q; the intermediate at hand is %q", a.ek.Issuer.String(), a.ica.Subject.String())
	}
	return nil
}

// productMatches holds a certificate to the processor that made the report.
// The name in a VCEK's extension decides for version 2 alone, where the report
// does not know its processor; AMD has issued certificates in which it is
// wrong.
func productMatches(a *appraisal) *hardware.Rejection {
	got, prefix := a.ek.Issuer.CommonName, "SEV-"
	if a.icaName == "asvk" {
		prefix = "SEV-VLEK-"
	}
	line, ok := strings.CutPrefix(got, prefix)
	switch {
	case ok && product(line) == a.product:
		return nil
	case ok && builtIn()[product(line)].ark != nil:
		return hardware.Refuse("hardware/sev-snp/product-mismatch", "the processor is a %s and the certificate was issued for a %s", a.product, line)
	}
	return hardware.Refuse(code(a.ekName, "issuer"), "the certificate's issuer is %q, not %q", got, prefix+string(a.product))
}

func seen(a *appraisal) *hardware.Rejection {
	if unseen := a.unseen(); len(unseen) != 0 && !a.opts.AdmitUnseen {
		return hardware.Refuse("hardware/unseen", "no real sample was ever seen of: %s", strings.Join(unseen, ", "))
	}
	return nil
}

func rootSubject(a *appraisal) *hardware.Rejection {
	if want := "ARK-" + string(a.product); a.ark.Subject.CommonName != want {
		return hardware.Refuse("hardware/sev-snp/ark-subject", "the root's subject is %q, not %q", a.ark.Subject.CommonName, want)
	}
	return nil
}

func intermediateCA(a *appraisal) *hardware.Rejection { return isCA(a.ica, a.icaName) }

func rootCA(a *appraisal) *hardware.Rejection { return isCA(a.ark, "ark") }

func isCA(cert *x509.Certificate, who string) *hardware.Rejection {
	if !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return hardware.Refuse(code(who, "not-ca"), "the certificate %q does not say that it may sign certificates", cert.Subject.String())
	}
	return nil
}

func dates(cert *x509.Certificate, who string, now time.Time) *hardware.Rejection {
	if now.Before(cert.NotBefore) {
		return hardware.Refuse(code(who, "not-yet-valid"), "the certificate is valid from %s, which is after %s", stamp(cert.NotBefore), stamp(now))
	}
	if now.After(cert.NotAfter) {
		return hardware.Refuse(code(who, "expired"), "the certificate was valid until %s, which is before %s", stamp(cert.NotAfter), stamp(now))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func endorsementCurve(a *appraisal) *hardware.Rejection {
	if key, ok := a.ek.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P384() {
		return hardware.Refuse(code(a.ekName, "key"), "the certificate holds a key of the kind %s, not one on P-384", keyKind(a.ek))
	}
	return nil
}

func keyKind(cert *x509.Certificate) string {
	if key, ok := cert.PublicKey.(*ecdsa.PublicKey); ok {
		return "ECDSA " + key.Curve.Params().Name
	}
	return cert.PublicKeyAlgorithm.String()
}

func endorsementAlgorithm(a *appraisal) *hardware.Rejection {
	if a.ek.SignatureAlgorithm != x509.SHA384WithRSAPSS {
		return hardware.Refuse(code(a.ekName, "signature-algorithm"), "the certificate is signed with %s, not with %s", a.ek.SignatureAlgorithm, x509.SHA384WithRSAPSS)
	}
	return nil
}

func tcbReserved(a *appraisal) *hardware.Rejection {
	for _, l := range a.levels() {
		if _, bad := splitTCB(l.raw, a.product); bad {
			return hardware.Refuse("hardware/sev-snp/tcb-reserved", "the %s TCB %#016x has a reserved part that is not zero", l.name, l.raw)
		}
	}
	return nil
}

func tcbReportedOrder(a *appraisal) *hardware.Rejection {
	current, _ := splitTCB(a.report.current, a.product)
	if c, bad := current.firstBelow(a.reportedTCB); bad {
		return hardware.Refuse("hardware/sev-snp/tcb-reported-above-current", "the %s level is %d as reported and %d as it runs", c.name, c.of(a.reportedTCB), c.of(current))
	}
	return nil
}

func tcbCommittedOrder(a *appraisal) *hardware.Rejection {
	current, _ := splitTCB(a.report.current, a.product)
	committed, _ := splitTCB(a.report.committed, a.product)
	if c, bad := current.firstBelow(committed); bad {
		return hardware.Refuse("hardware/sev-snp/tcb-committed-above-current", "the %s level is %d as committed and %d as it runs", c.name, c.of(committed), c.of(current))
	}
	return nil
}

func firmwareOrder(a *appraisal) *hardware.Rejection {
	if a.report.committedFW.above(a.report.currentFW) {
		return hardware.Refuse("hardware/sev-snp/firmware-committed-above-current", "the firmware is %s as committed and %s as it runs", a.report.committedFW, a.report.currentFW)
	}
	return nil
}

func (f firmware) String() string { return fmt.Sprintf("%d.%d.%d", f.major, f.minor, f.build) }

// The key is derived from the level, so that a certificate for another level
// is one for another key.
func tcbOfCertificate(a *appraisal) *hardware.Rejection {
	if c, bad := a.reportedTCB.firstDifferent(a.exts.tcb); bad {
		return hardware.Refuse(code("certificate-tcb", c.name), "the %s level is %d in the report and %d in the %s certificate",
			c.name, c.of(a.reportedTCB), c.of(a.exts.tcb), strings.ToUpper(a.ekName))
	}
	return nil
}

func tcbOfCertificateReserved(a *appraisal) *hardware.Rejection {
	if a.exts.reserved {
		return hardware.Refuse("hardware/sev-snp/certificate-tcb-reserved", "the %s certificate has a reserved level that is not zero", strings.ToUpper(a.ekName))
	}
	return nil
}

func tcbMinimum(a *appraisal) *hardware.Rejection {
	if c, bad := a.reportedTCB.firstBelow(*a.opts.MinimumTCB); bad {
		return hardware.Refuse(code("minimum-tcb", c.name), "the %s level is %d; at least %d is demanded", c.name, c.of(a.reportedTCB), c.of(*a.opts.MinimumTCB))
	}
	return nil
}

func chipIDMasked(a *appraisal) *hardware.Rejection {
	if a.ekName == hardware.VCEK && len(bytes.Trim(a.report.chipID, "\x00")) == 0 {
		return hardware.Refuse("hardware/sev-snp/chip-id-masked", "the report's chip id is all zero")
	}
	return nil
}

// A VLEK belongs to no chip, so there is nothing to compare.
func chipID(a *appraisal) *hardware.Rejection {
	if a.ekName != hardware.VCEK {
		return nil
	}
	id, rest := a.report.chipID[:len(a.exts.hwID)], a.report.chipID[len(a.exts.hwID):]
	if !bytes.Equal(id, a.exts.hwID) || len(bytes.Trim(rest, "\x00")) != 0 {
		return hardware.Refuse("hardware/sev-snp/chip-id", "the report is of chip %x and the certificate of chip %x", a.report.chipID, a.exts.hwID)
	}
	return nil
}

func crlPresent(a *appraisal) *hardware.Rejection {
	if a.opts.RequireCRL && a.crl == nil {
		return hardware.Refuse("hardware/sev-snp/crl-missing", "a revocation list is demanded and none came with the evidence")
	}
	return nil
}

func crlIssuer(a *appraisal) *hardware.Rejection {
	if a.crl != nil && !bytes.Equal(a.crl.RawIssuer, a.ark.RawSubject) {
		return hardware.Refuse("hardware/sev-snp/crl-issuer", "the revocation list is issued by %q, not by %q", a.crl.Issuer.String(), a.ark.Subject.String())
	}
	return nil
}

func crlFuture(a *appraisal) *hardware.Rejection {
	if a.crl != nil && a.opts.Now.Before(a.crl.ThisUpdate) {
		return hardware.Refuse("hardware/sev-snp/crl-not-yet-valid", "the revocation list is of %s, which is after %s", stamp(a.crl.ThisUpdate), stamp(a.opts.Now))
	}
	return nil
}

// A list without a next update never says that it is old; it counts as stale.
func crlStale(a *appraisal) *hardware.Rejection {
	if a.crl != nil && a.opts.Now.After(a.crl.NextUpdate) {
		return hardware.Refuse("hardware/sev-snp/crl-stale", "the revocation list's next update was due at %s, which is before %s", stamp(a.crl.NextUpdate), stamp(a.opts.Now))
	}
	return nil
}

func crlSignature(a *appraisal) *hardware.Rejection {
	if a.crl == nil {
		return nil
	}
	if err := a.ark.CheckSignature(a.crl.SignatureAlgorithm, a.crl.RawTBSRevocationList, a.crl.Signature); err != nil {
		return hardware.Refuse("hardware/sev-snp/crl-signature", "checking the revocation list under %q: %v", a.ark.Subject.String(), err)
	}
	return nil
}

// The root's list names certificates that the root issued: the intermediates
// and itself. Endorsement keys are superseded by levels and never listed.
func notRevoked(a *appraisal) *hardware.Rejection {
	if a.crl == nil {
		return nil
	}
	for _, entry := range a.crl.RevokedCertificateEntries {
		if entry.SerialNumber.Cmp(a.ica.SerialNumber) == 0 {
			return hardware.Refuse(code(a.icaName, "revoked"), "the certificate with serial number %d was revoked at %s", entry.SerialNumber, stamp(entry.RevocationTime))
		}
		if entry.SerialNumber.Cmp(a.ark.SerialNumber) == 0 {
			return hardware.Refuse("hardware/sev-snp/ark-revoked", "the root with serial number %d was revoked at %s", entry.SerialNumber, stamp(entry.RevocationTime))
		}
	}
	return nil
}

// signedBy checks a signature and nothing else of a certificate.
func signedBy(cert, issuer *x509.Certificate) bool {
	return issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

func intermediateSignature(a *appraisal) *hardware.Rejection {
	if !signedBy(a.ica, a.ark) {
		return hardware.Refuse(code(a.icaName, "signature"), "the %s certificate is not signed by %q", strings.ToUpper(a.icaName), a.ark.Subject.String())
	}
	return nil
}

func endorsementSignature(a *appraisal) *hardware.Rejection {
	if !signedBy(a.ek, a.ica) {
		return hardware.Refuse(code(a.ekName, "signature"), "the %s certificate is not signed by %q", strings.ToUpper(a.ekName), a.ica.Subject.String())
	}
	return nil
}

func reportSignature(a *appraisal) *hardware.Rejection {
	key, ok := a.ek.PublicKey.(*ecdsa.PublicKey)
	if ok {
		digest := sha512.Sum384(a.report.signed())
		r, s := a.report.signature()
		ok = ecdsa.Verify(key, digest[:], r, s)
	}
	if !ok {
		return hardware.Refuse("hardware/sev-snp/report-signature", "the report's signature does not verify under the %s certificate of chip %x", strings.ToUpper(a.ekName), a.exts.hwID)
	}
	return nil
}
