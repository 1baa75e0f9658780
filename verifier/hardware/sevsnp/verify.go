package sevsnp

import (
	"bytes"
	"crypto/x509"
	"strings"

	"github.com/google/go-sev-guest/abi"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// appraisal is one report on its way through the checks.
type appraisal struct {
	opts   Options
	report report
	// product is the line whose chain is used: the report's own word from
	// version 3 on, before that the word of the certificate's issuer.
	product product

	ek      *x509.Certificate // endorsement key: VCEK or VLEK
	ekName  string            // "vcek" or "vlek"
	exts    extensions
	extsBad *hardware.Rejection // what is wrong with the extensions, if anything

	ica     *x509.Certificate // ASK or ASVK
	icaName string            // "ask" or "asvk"

	ark         *x509.Certificate
	arkBuiltIn  bool
	crl         *x509.RevocationList
	reportedTCB TCB
}

// code returns a code of this platform.
func code(parts ...string) hardware.Code {
	return hardware.Code("hardware/sev-snp/" + strings.Join(parts, "-"))
}

// Verify appraises a report of 1184 bytes. Of the collateral it reads vcek or
// vlek (whichever key the report names; required), ask, ark and crl. Where ask
// is absent, the built-in one of the product line is used.
//
// A refusal is a [*hardware.Rejection].
func Verify(report []byte, collateral hardware.Collateral, opts Options) (*hardware.Claims, error) {
	return verify(report, collateral, opts, reportChecks, chainChecks)
}

// verify runs the given checks; tests leave one out.
func verify(raw []byte, collateral hardware.Collateral, opts Options, onReport, onChain []check) (*hardware.Claims, error) {
	switch {
	case opts.Now.IsZero():
		return nil, hardware.Refuse("hardware/options", "no time was given at which the certificates of a SEV-SNP report must be valid")
	case !opts.BuiltInRoots && len(opts.SimulatedRoots) == 0:
		return nil, hardware.Refuse("hardware/options", "no root was given in which a SEV-SNP report's certificates may end")
	case opts.MinimumTCB == nil:
		return nil, hardware.Refuse("hardware/options", "no minimum TCB was given for a SEV-SNP report")
	case len(raw) != abi.ReportSize:
		return nil, hardware.Refuse("hardware/sev-snp/report-size", "the report has %d bytes, not %d", len(raw), abi.ReportSize)
	}
	a := &appraisal{opts: opts, report: decode(raw)}
	if err := run(a, onReport); err != nil {
		return nil, err
	}
	if err := a.loadChain(collateral); err != nil {
		return nil, err
	}
	if err := run(a, onChain); err != nil {
		return nil, err
	}
	return a.claims(), nil
}

func run(a *appraisal, checks []check) error {
	for _, c := range checks {
		if r := c.run(a); r != nil {
			return r
		}
	}
	return nil
}

// loadChain reads the certificates and picks the root. It judges nothing but
// whether they can be read and whether the root is a trusted one.
func (a *appraisal) loadChain(collateral hardware.Collateral) error {
	for name, data := range collateral {
		if len(data) > hardware.MaxCollateralBytes {
			return hardware.Refuse("hardware/collateral-size", "the item %q has %d bytes, more than %d", name, len(data), hardware.MaxCollateralBytes)
		}
	}
	a.ekName, a.icaName = hardware.VCEK, hardware.ASK
	if a.report.signingKey() == signedByVLEK {
		a.ekName, a.icaName = hardware.VLEK, "asvk"
	}
	data, ok := collateral[a.ekName]
	if !ok {
		return hardware.Refuse(code(a.ekName, "missing"), "the report is signed by a %s and its certificate did not come with it", strings.ToUpper(a.ekName))
	}
	var err error
	if a.ek, err = parseCertificate(data); err != nil {
		return hardware.Refuse(code(a.ekName, "malformed"), "reading the %s certificate: %v", strings.ToUpper(a.ekName), err)
	}
	a.exts, a.extsBad = readExtensions(a.ek, a.ekName)

	if a.report.version >= 3 {
		a.product, _ = productOf(a.report.family, a.report.model)
	} else {
		a.product, _ = productNamed(a.exts.productName)
	}
	a.reportedTCB, _ = splitTCB(a.report.reported, a.product)

	if data, ok := collateral[hardware.ASK]; ok {
		if a.ica, err = parseCertificate(data); err != nil {
			return hardware.Refuse(code(a.icaName, "malformed"), "reading the %s certificate: %v", strings.ToUpper(a.icaName), err)
		}
	} else if own := builtIn()[a.product]; a.opts.BuiltInRoots && own.ark != nil {
		a.ica = own.ask
		if a.icaName == "asvk" {
			a.ica = own.asvk
		}
	} else {
		return hardware.Refuse(code(a.icaName, "missing"), "no %s certificate came with the evidence, and none is built in for the roots that are trusted", strings.ToUpper(a.icaName))
	}
	if err := a.pickRoot(collateral[hardware.ARK]); err != nil {
		return err
	}
	if data, ok := collateral[hardware.CRL]; ok {
		der, err := onePEMOrDER(data, "X509 CRL")
		if err == nil {
			a.crl, err = x509.ParseRevocationList(der)
		}
		if err != nil {
			return hardware.Refuse("hardware/sev-snp/crl-malformed", "reading the revocation list: %v", err)
		}
	}
	return nil
}

// pickRoot finds the trusted root that the intermediate names. A root that
// came with the evidence is only compared with the trusted ones.
func (a *appraisal) pickRoot(given []byte) error {
	var trusted []*x509.Certificate
	if a.opts.BuiltInRoots {
		for _, line := range []product{milan, genoa, turin} {
			trusted = append(trusted, builtIn()[line].ark)
		}
	}
	ownUpTo := len(trusted)
	trusted = append(trusted, a.opts.SimulatedRoots...)

	var wanted *x509.Certificate
	if given != nil {
		var err error
		if wanted, err = parseCertificate(given); err != nil {
			return hardware.Refuse("hardware/sev-snp/ark-malformed", "reading the ARK certificate: %v", err)
		}
	}
	for i, root := range trusted {
		if root == nil || !bytes.Equal(root.RawSubject, a.ica.RawIssuer) {
			continue
		}
		if wanted != nil && !root.Equal(wanted) {
			continue
		}
		// Two trusted roots may bear one name, as a simulated one may bear
		// AMD's: the one that signed is meant. If none did, the first takes
		// the blame in the check of the intermediate's signature.
		if a.ark == nil || signedBy(a.ica, root) {
			a.ark, a.arkBuiltIn = root, i < ownUpTo
		}
	}
	if a.ark == nil {
		named := a.ica.Issuer
		if wanted != nil {
			named = wanted.Subject
		}
		return hardware.Refuse("hardware/sev-snp/ark-unknown", "the chain ends in %q, which is not a trusted root", named.String())
	}
	return nil
}
