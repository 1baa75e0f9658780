package tpm

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// realQuote is what a software TPM (libtpms 0.9.2) returned: TPMS_ATTEST,
// TPMT_SIGNATURE and the TPMT_PUBLIC of its attestation key.
var realQuote = struct{ attest, signature, public string }{
	attest: "ff54434780180022000bb4b59032d5dd219b2fa8ad7bc4d45af41e651d3051e8cb2d31c83da4a161bf0d00205a5a5a5a" +
		"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a000000000000000b000000010000000001201910" +
		"230016363600000001000b03fffb0000209fdd6890574f608e159c2756f53c1a3143f1f42a8ae1cd20fc7dd428a87a2b" +
		"40",
	signature: "0018000b00206e9aa5099f5a10cbb79338dc2b4ef62e8b4afb9bb5d01217cb6e0b08faf5db79002065288ab3ef5b6196" +
		"e611944f963fee3a302227ca2c3d87bd342fc2c7d7e9523f",
	public: "0023000b00050472000000100018000b000300100020c5855a5279319ef5773a97b4d93362106fdd3e1bbe495de50381" +
		"56bcbb5737d700205ab6906b3fc9525d193c59c01908a369df9bd4f88c1921f94d74485e9fab7dc3",
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseRealQuote(t *testing.T) {
	a, err := parseAttest(unhex(t, realQuote.attest))
	if err != nil {
		t.Fatal(err)
	}
	if a.magic != tpm2.TPMGeneratedValue || a.kind != tpm2.TPMSTAttestQuote || len(a.signer) != 34 || !a.safe ||
		len(a.extraData) != 32 || len(a.selections) != 1 || a.selections[0].bank != tpm2.TPMAlgSHA256 || len(a.pcrDigest) != 32 {
		t.Errorf("attest %+v", a)
	}
	p, err := parsePublic(unhex(t, realQuote.public))
	if err != nil {
		t.Fatal(err)
	}
	if p.kind != tpm2.TPMAlgECC || p.scheme != tpm2.TPMAlgECDSA || p.hash != tpm2.TPMAlgSHA256 || p.curve != tpm2.TPMECCNistP256 {
		t.Errorf("public area %+v", p)
	}
	s, err := parseSignature(unhex(t, realQuote.signature))
	if err != nil {
		t.Fatal(err)
	}
	if key, r := p.key(); r != nil || !s.verifies(key, unhex(t, realQuote.attest)) {
		t.Errorf("the real quote does not verify: %v", r)
	}
}

// FuzzStructures holds each reading to go-tpm's: what is accepted here is
// accepted there, with the same fields.
func FuzzStructures(f *testing.F) {
	for _, s := range []string{realQuote.attest, realQuote.signature, realQuote.public} {
		f.Add(unhex(f, s))
	}
	for _, area := range []tpm2.TPMTPublic{tpm2.RSAEKTemplate, tpm2.ECCSRKTemplate, tpm2.ECCEKTemplate, tpm2.RSASRKTemplate} {
		f.Add(tpm2.Marshal(area))
	}
	f.Add([]byte{0, 0x10})
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := parseAttest(data); err == nil && a.kind == tpm2.TPMSTAttestQuote {
			b, err := tpm2.Unmarshal[tpm2.TPMSAttest](data)
			if err != nil {
				t.Fatalf("go-tpm reads no TPMS_ATTEST: %v", err)
			}
			q, err := b.Attested.Quote()
			if err != nil {
				t.Fatal(err)
			}
			if a.magic != b.Magic || !bytes.Equal(a.signer, b.QualifiedSigner.Buffer) || !bytes.Equal(a.extraData, b.ExtraData.Buffer) ||
				a.clock != b.ClockInfo.Clock || a.resetCount != b.ClockInfo.ResetCount || a.restartCount != b.ClockInfo.RestartCount ||
				a.safe != bool(b.ClockInfo.Safe) || a.firmware != b.FirmwareVersion || !bytes.Equal(a.pcrDigest, q.PCRDigest.Buffer) ||
				len(a.selections) != len(q.PCRSelect.PCRSelections) {
				t.Fatalf("read %+v, go-tpm %+v %+v", a, b, q)
			}
			for i, s := range a.selections {
				if o := q.PCRSelect.PCRSelections[i]; s.bank != o.Hash || !bytes.Equal(s.bitmap, o.PCRSelect) {
					t.Fatalf("selection %d: read %+v, go-tpm %+v", i, s, o)
				}
			}
		}
		if p, err := parsePublic(data); err == nil {
			// go-tpm knows fewer schemes and ciphers; those it knows it must
			// read alike.
			if b, err := tpm2.Unmarshal[tpm2.TPMTPublic](data); err == nil {
				o := b.ObjectAttributes
				for bit, has := range map[uint32]bool{attrFixedTPM: o.FixedTPM, attrFixedParent: o.FixedParent, attrSensitiveDataOrigin: o.SensitiveDataOrigin,
					attrRestricted: o.Restricted, attrDecrypt: o.Decrypt, attrSign: o.SignEncrypt} {
					if p.attributes&bit != 0 != has {
						t.Fatalf("attribute %#x: go-tpm reads %+v", bit, o)
					}
				}
				if p.kind != b.Type || p.nameAlg != b.NameAlg {
					t.Fatalf("read %+v, go-tpm %+v", p, b)
				}
				if point, err := b.Unique.ECC(); err == nil && (!bytes.Equal(p.x, point.X.Buffer) || !bytes.Equal(p.y, point.Y.Buffer)) {
					t.Fatalf("read %+v, go-tpm %+v", p, point)
				}
				if n, err := b.Unique.RSA(); err == nil && !bytes.Equal(p.modulus, n.Buffer) {
					t.Fatalf("read %+v, go-tpm %+v", p, n)
				}
			}
		}
		if s, err := parseSignature(data); err == nil {
			if b, err := tpm2.Unmarshal[tpm2.TPMTSignature](data); err == nil {
				if ec, err := b.Signature.ECDSA(); err == nil && (s.hash != ec.Hash || !bytes.Equal(s.r, ec.SignatureR.Buffer) || !bytes.Equal(s.s, ec.SignatureS.Buffer)) {
					t.Fatalf("read %+v, go-tpm %+v", s, ec)
				}
				if r, err := b.Signature.RSASSA(); err == nil && (s.hash != r.Hash || !bytes.Equal(s.rsa, r.Sig.Buffer)) {
					t.Fatalf("read %+v, go-tpm %+v", s, r)
				}
			}
		}
	})
}
