package simulated

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/google/go-sev-guest/kds"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
	"github.com/vitrine-dev/vitrine/verifier/hardware/sevsnp"
)

// AMD is a chip that does not exist, with the chain that certifies it: a root
// (ARK), an intermediate (ASK or ASVK) and the chip's own key (VCEK or VLEK).
type AMD struct {
	// ARK, ASK and Endorsement are the chain from the root down. ASK is an
	// ASVK and Endorsement a VLEK's where Chip.CSP is set.
	ARK, ASK, Endorsement *x509.Certificate
	// Chip is what the endorsement certificate says.
	Chip Chip

	arkKey, askKey *rsa.PrivateKey // nil in a chip read from a file
	key            *ecdsa.PrivateKey
}

// Chip describes the chip to simulate.
type Chip struct {
	// Product is the product's name with its stepping, as in "Milan-B0".
	Product string
	// ID is CHIP_ID; from Turin on its first eight bytes.
	ID [64]byte
	// TCB is the level for which the chip's key is certified, and which its
	// reports give as reported, committed, launch and current.
	TCB sevsnp.TCB
	// CSP makes the key a VLEK, given to the provider of this name.
	CSP string
	// Edit changes certificates before they are signed, to forge a chain that
	// is wrong in one place. role is "ark", "ask" or "endorsement".
	Edit func(role string, template *x509.Certificate)
	// Curve is the endorsement key's; nil stands for P-384, the only right one.
	Curve elliptic.Curve
	// RSABits is the size of the chain's RSA keys; 0 stands for 2048, which is
	// quick to make. AMD's have 4096.
	RSABits int
}

// NewAMD makes a Milan chip whose certificates are valid from an hour before
// now for ten years.
func NewAMD(now time.Time) (*AMD, error) {
	chip := Chip{Product: "Milan-B0", TCB: sevsnp.TCB{Bootloader: 4, SNP: 22, Microcode: 213}}
	if _, err := rand.Read(chip.ID[:]); err != nil {
		return nil, fmt.Errorf("choosing a chip id: %w", err)
	}
	return NewChip(now, chip)
}

// NewChip makes a chip with a chain of its own.
func NewChip(now time.Time, chip Chip) (*AMD, error) {
	bits := chip.RSABits
	if bits == 0 {
		bits = 2048
	}
	ark, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("making a simulated root's key: %w", err)
	}
	ask, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("making a simulated intermediate's key: %w", err)
	}
	return (&AMD{arkKey: ark, askKey: ask}).Reissue(now, chip)
}

// Reissue makes another chip under the same root and intermediate keys, which
// is much quicker than a new chain. Certificates are all issued anew.
func (a *AMD) Reissue(now time.Time, chip Chip) (*AMD, error) {
	if a.arkKey == nil {
		return nil, errors.New("this simulated chip was read from a file, which holds no key to certify another with")
	}
	line := kds.ProductLineOfProductName(chip.Product)
	if !slices.Contains([]string{"Milan", "Genoa", "Turin"}, line) {
		return nil, fmt.Errorf("the simulated chip's product is %q; name one of Milan, Genoa and Turin, with a stepping (Milan-B0)", chip.Product)
	}
	askName, leafName := "SEV-"+line, "SEV-VCEK"
	if chip.CSP != "" {
		askName, leafName = "SEV-VLEK-"+line, "SEV-VLEK"
	}
	curve := chip.Curve
	if curve == nil {
		curve = elliptic.P384()
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a simulated chip's key: %w", err)
	}
	b := &AMD{Chip: chip, arkKey: a.arkKey, askKey: a.askKey, key: key}

	issue := func(role string, serial int64, template *x509.Certificate, parent *x509.Certificate, public, signer any) (*x509.Certificate, error) {
		template.SerialNumber = big.NewInt(serial)
		template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.AddDate(10, 0, 0)
		template.SignatureAlgorithm = x509.SHA384WithRSAPSS
		if chip.Edit != nil {
			chip.Edit(role, template)
		}
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
		if err != nil {
			return nil, fmt.Errorf("issuing the simulated %s certificate: %w", role, err)
		}
		return x509.ParseCertificate(der)
	}
	ca := func(cn string) *x509.Certificate {
		return &x509.Certificate{Subject: simulatedName(cn), IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	}
	if b.ARK, err = issue("ark", 0x10001, ca("ARK-"+line), nil, a.arkKey.Public(), a.arkKey); err != nil {
		return nil, err
	}
	if b.ASK, err = issue("ask", 0x10002, ca(askName), b.ARK, a.askKey.Public(), a.arkKey); err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{Subject: simulatedName(leafName), ExtraExtensions: chip.extensions()}
	if b.Endorsement, err = issue("endorsement", 0, leaf, b.ASK, key.Public(), a.askKey); err != nil {
		return nil, err
	}
	return b, nil
}

func simulatedName(cn string) pkix.Name {
	return pkix.Name{CommonName: cn, Organization: []string{"SIMULATED"}, OrganizationalUnit: []string{"Vitrine, no hardware"}}
}

func (c Chip) turin() bool { return strings.HasPrefix(c.Product, "Turin") }

// extensions are those of a VCEK or VLEK certificate (AMD 57230).
func (c Chip) extensions() []pkix.Extension {
	ext := func(id asn1.ObjectIdentifier, value []byte) pkix.Extension {
		return pkix.Extension{Id: id, Value: value}
	}
	number := func(n uint8) []byte {
		der, err := asn1.Marshal(int(n))
		if err != nil {
			panic(err) // an int always has a DER form
		}
		return der
	}
	ia5 := func(s string) []byte {
		return append([]byte{asn1.TagIA5String, byte(len(s))}, s...)
	}
	version, name, id := uint8(0), c.Product, c.ID[:]
	if c.CSP != "" {
		name = kds.ProductLineOfProductName(c.Product)
	}
	exts := []pkix.Extension{}
	if c.turin() {
		version, id = 1, c.ID[:8]
		exts = append(exts, ext(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 3, 9}, number(c.TCB.FMC)))
	}
	exts = append(exts,
		ext(kds.OidStructVersion, number(version)),
		ext(kds.OidProductName1, ia5(name)),
		ext(kds.OidBlSpl, number(c.TCB.Bootloader)),
		ext(kds.OidTeeSpl, number(c.TCB.TEE)),
		ext(kds.OidSnpSpl, number(c.TCB.SNP)),
		ext(kds.OidSpl4, number(0)),
		ext(kds.OidSpl5, number(0)),
		ext(kds.OidSpl6, number(0)),
		ext(kds.OidSpl7, number(0)),
		ext(kds.OidUcodeSpl, number(c.TCB.Microcode)),
	)
	if c.CSP != "" {
		return append(exts, ext(kds.OidCspID, ia5(c.CSP)))
	}
	return append(exts, ext(kds.OidHwid, id)) // bare bytes, as AMD writes them
}

// Endorsements is the chain, as a node serves it beside its report.
func (a *AMD) Endorsements() hardware.Collateral {
	leaf := hardware.VCEK
	if a.Chip.CSP != "" {
		leaf = hardware.VLEK
	}
	return hardware.Collateral{leaf: a.Endorsement.Raw, hardware.ASK: a.ASK.Raw, hardware.ARK: a.ARK.Raw}
}

// RootPEM is the root's certificate, as a policy names it under
// simulatedRoots.
func (a *AMD) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.ARK.Raw})
}

// CRL is a revocation list of the root's over the given certificates' serial
// numbers.
func (a *AMD) CRL(thisUpdate, nextUpdate time.Time, revoked ...*x509.Certificate) ([]byte, error) {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: thisUpdate, NextUpdate: nextUpdate, SignatureAlgorithm: x509.SHA384WithRSAPSS}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: thisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.ARK, crypto.Signer(a.arkKey))
	if err != nil {
		return nil, fmt.Errorf("issuing a simulated revocation list: %w", err)
	}
	return der, nil
}

// PEM writes chain and chip key to keep. The keys of root and intermediate are
// left out: a file can sign reports and certify nothing.
func (a *AMD) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("encoding a simulated chip's key: %w", err)
	}
	var out []byte
	for _, c := range []*x509.Certificate{a.Endorsement, a.ASK, a.ARK} {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...), nil
}

// ParseAMD reads what [AMD.PEM] wrote.
func ParseAMD(data []byte) (*AMD, error) {
	a := &AMD{}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("reading a simulated chip's certificate: %w", err)
			}
			certs = append(certs, c)
		case "PRIVATE KEY":
			k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("reading a simulated chip's key: %w", err)
			}
			a.key, _ = k.(*ecdsa.PrivateKey)
		}
	}
	if len(certs) != 3 || a.key == nil || !a.key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, errors.New("a simulated chip's file holds three certificates and the key of the first; make it anew")
	}
	a.Endorsement, a.ASK, a.ARK = certs[0], certs[1], certs[2]
	return a, a.readChip()
}

// readChip takes from the certificate what reports have to repeat.
func (a *AMD) readChip() error {
	for _, e := range a.Endorsement.Extensions {
		var n int
		if _, err := asn1.Unmarshal(e.Value, &n); err != nil {
			n = -1
		}
		switch {
		case e.Id.Equal(kds.OidProductName1) && len(e.Value) > 2:
			a.Chip.Product = string(e.Value[2:])
		case e.Id.Equal(kds.OidCspID) && len(e.Value) > 2:
			a.Chip.CSP = string(e.Value[2:])
		case e.Id.Equal(kds.OidHwid):
			copy(a.Chip.ID[:], e.Value)
		case e.Id.Equal(kds.OidBlSpl):
			a.Chip.TCB.Bootloader = uint8(n)
		case e.Id.Equal(kds.OidTeeSpl):
			a.Chip.TCB.TEE = uint8(n)
		case e.Id.Equal(kds.OidSnpSpl):
			a.Chip.TCB.SNP = uint8(n)
		case e.Id.Equal(kds.OidUcodeSpl):
			a.Chip.TCB.Microcode = uint8(n)
		case e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 3, 9}):
			a.Chip.TCB.FMC = uint8(n)
		}
	}
	if a.Chip.Product == "" {
		return errors.New("the simulated chip's certificate names no product; make the file anew")
	}
	return nil
}
