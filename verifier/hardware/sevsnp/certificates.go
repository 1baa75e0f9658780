package sevsnp

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/verify/trust"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// parseCertificate reads exactly one certificate, DER or PEM.
func parseCertificate(data []byte) (*x509.Certificate, error) {
	der, err := onePEMOrDER(data, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func onePEMOrDER(data []byte, kind string) ([]byte, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
		return data, nil
	}
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("the PEM block is damaged")
	case block.Type != kind:
		return nil, fmt.Errorf("the PEM block is a %q and not a %s", block.Type, kind)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, fmt.Errorf("%d bytes follow the PEM block", len(rest))
	}
	return block.Bytes, nil
}

// chain is what a product line's endorsement keys hang from.
type chain struct{ ark, ask, asvk *x509.Certificate }

// builtIn returns AMD's certificates, as the vendor publishes them at
// https://kdsintf.amd.com/{vcek,vlek}/v1/PRODUCT/cert_chain. They are parsed
// once and never changed.
var builtIn = sync.OnceValue(func() map[product]chain {
	chains := make(map[product]chain)
	for _, line := range []struct {
		product    product
		vcek, vlek []byte
	}{
		{milan, trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes},
		{genoa, trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes},
		{turin, trust.AskArkTurinVcekBytes, trust.AskArkTurinVlekBytes},
	} {
		ask, ark := mustChain(line.vcek)
		asvk, _ := mustChain(line.vlek)
		chains[line.product] = chain{ark: ark, ask: ask, asvk: asvk}
	}
	return chains
})

// mustChain reads one of the vendor's embedded files, all of which a test
// reads: the intermediate, then the root.
func mustChain(pems []byte) (intermediate, root *x509.Certificate) {
	var certs [2]*x509.Certificate
	for i := range certs {
		block, rest := pem.Decode(pems)
		if block == nil {
			panic("reading a built-in AMD chain: it holds fewer than two certificates")
		}
		var err error
		if certs[i], err = x509.ParseCertificate(block.Bytes); err != nil {
			panic("reading a built-in AMD chain: " + err.Error())
		}
		pems = rest
	}
	return certs[0], certs[1]
}

// extensions are what a VCEK or VLEK certificate says about its key (AMD
// 57230, tables of certificate extensions).
type extensions struct {
	productName string
	tcb         TCB
	reserved    bool   // a reserved level is not zero
	hwID        []byte // VCEK: 64 bytes; from Turin on, 8
	cspID       string // VLEK: the provider to whom the key was given
}

// From Turin on (structure version 1) there is a level that package kds does
// not know.
var oidFMC = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 3, 9}

// readExtensions reads what it can and returns the first fault beside it. who
// is "vcek" or "vlek", as codes begin.
func readExtensions(cert *x509.Certificate, who string) (extensions, *hardware.Rejection) {
	var (
		e     extensions
		fault *hardware.Rejection
	)
	refuse := func(what, format string, args ...any) {
		if fault == nil {
			fault = hardware.Refuse(hardware.Code("hardware/sev-snp/"+who+"-extension-"+what), format, args...)
		}
	}
	find := func(id asn1.ObjectIdentifier) []byte {
		for i := range cert.Extensions {
			if cert.Extensions[i].Id.Equal(id) {
				return cert.Extensions[i].Value
			}
		}
		return nil
	}
	level := func(id asn1.ObjectIdentifier, name string, required bool) uint8 {
		der := find(id)
		if der == nil {
			if required {
				refuse("missing", "the extension %s (%v) is absent", name, id)
			}
			return 0
		}
		var n int
		if rest, err := asn1.Unmarshal(der, &n); err != nil || len(rest) != 0 || n < 0 || n > 255 {
			refuse("malformed", "the extension %s (%v) is %x, not an integer from 0 to 255", name, id, der)
			return 0
		}
		return uint8(n)
	}
	text := func(id asn1.ObjectIdentifier, name string) string {
		der := find(id)
		if der == nil {
			refuse("missing", "the extension %s (%v) is absent", name, id)
			return ""
		}
		var s string
		rest, err := asn1.UnmarshalWithParams(der, &s, "ia5")
		if err != nil || len(rest) != 0 || der[0] != asn1.TagIA5String || s == "" {
			refuse("malformed", "the extension %s (%v) is %x, not an IA5String", name, id, der)
			return ""
		}
		return s
	}

	version := level(kds.OidStructVersion, "structVersion", true)
	if version > 1 {
		refuse("malformed", "the structure version of the extensions is %d; 0 and 1 are known", version)
	}
	e.productName = text(kds.OidProductName1, "productName")
	e.tcb = TCB{
		Bootloader: level(kds.OidBlSpl, "blSPL", true),
		TEE:        level(kds.OidTeeSpl, "teeSPL", true),
		SNP:        level(kds.OidSnpSpl, "snpSPL", true),
		Microcode:  level(kds.OidUcodeSpl, "ucodeSPL", true),
		FMC:        level(oidFMC, "fmcSPL", version == 1),
	}
	for _, spare := range []asn1.ObjectIdentifier{kds.OidSpl4, kds.OidSpl5, kds.OidSpl6, kds.OidSpl7} {
		e.reserved = level(spare, "reserved SPL", version == 0) != 0 || e.reserved
	}

	hwID, csp := find(kds.OidHwid), find(kds.OidCspID)
	if who == "vlek" {
		e.cspID = text(kds.OidCspID, "cspID")
		if hwID != nil {
			refuse("unexpected", "a VLEK certificate names the chip %x", hwID)
		}
	} else {
		size := 64
		if version == 1 {
			size = 8
		}
		// The vendor puts the bare bytes where DER would have an OCTET STRING.
		var octets []byte
		if rest, err := asn1.Unmarshal(hwID, &octets); err == nil && len(rest) == 0 && len(octets) == size {
			hwID = octets
		}
		switch {
		case hwID == nil:
			refuse("missing", "the extension hwID (%v) is absent", kds.OidHwid)
		case len(hwID) != size:
			refuse("malformed", "the extension hwID (%v) has %d bytes, not %d", kds.OidHwid, len(hwID), size)
		default:
			e.hwID = hwID
		}
		if csp != nil {
			refuse("unexpected", "a VCEK certificate names the provider %q", csp)
		}
	}
	if len(cert.UnhandledCriticalExtensions) != 0 {
		refuse("unexpected", "the critical extension %v is unknown", cert.UnhandledCriticalExtensions[0])
	}
	return e, fault
}
