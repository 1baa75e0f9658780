package attestationkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vitrine-dev/vitrine/node/internal/swtpm"
)

// The template decides which key a TPM makes: another byte here is another key,
// and every policy that names a node's key would stop to match.
func TestTemplateBytes(t *testing.T) {
	const want = "0023" + "000b" + "00050472" + "0000" + // ECC, SHA-256, attributes, no policy
		"0010" + "0018" + "000b" + "0003" + "0010" + // no symmetric, ECDSA, SHA-256, P-256, no KDF
		"0020" + "0000000000000000000000000000000000000000000000000000000000000000" +
		"0020" + "0000000000000000000000000000000000000000000000000000000000000000"
	if got := hex.EncodeToString(tpm2.Marshal(Template())); got != want {
		t.Errorf("template:\n got %s\nwant %s", got, want)
	}
}

func TestCreate(t *testing.T) {
	state := t.TempDir()

	tpm, stop := swtpm.Start(t, state)
	first := create(t, tpm)
	again := create(t, tpm)
	if !bytes.Equal(first.Public, again.Public) {
		t.Error("two keys made by one TPM differ")
	}
	stop()

	tpm, stop = swtpm.Start(t, state)
	if rebooted := create(t, tpm); !bytes.Equal(first.Public, rebooted.Public) {
		t.Error("the key changed when the TPM was started again from its state")
	}
	stop()

	tpm, stop = swtpm.Start(t, t.TempDir())
	if other := create(t, tpm); bytes.Equal(first.Public, other.Public) {
		t.Error("two TPMs made the same key")
	}
	stop()

	text, err := PEM(first.Public)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil || len(rest) != 0 {
		t.Fatalf("not one PEM block: %q", text)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := PublicKey(first.Public); err != nil || !key.Equal(parsed.(*ecdsa.PublicKey)) {
		t.Errorf("PEM holds another key than PublicKey reads: %v", err)
	}
}

func TestPublicKeyRefuses(t *testing.T) {
	tpm, stop := swtpm.Start(t, t.TempDir())
	good := create(t, tpm).Public
	stop()

	change := func(f func(*tpm2.TPMTPublic)) []byte {
		area, err := tpm2.Unmarshal[tpm2.TPMTPublic](good)
		if err != nil {
			t.Fatal(err)
		}
		f(area)
		return tpm2.Marshal(*area)
	}
	for name, public := range map[string][]byte{
		"empty":          nil,
		"cut off":        good[:len(good)-1],
		"trailing byte":  append(bytes.Clone(good), 0),
		"RSA":            tpm2.Marshal(tpm2.RSAEKTemplate),
		"a storage key":  tpm2.Marshal(tpm2.ECCSRKTemplate),
		"not restricted": change(func(a *tpm2.TPMTPublic) { a.ObjectAttributes.Restricted = false }),
		"not fixed":      change(func(a *tpm2.TPMTPublic) { a.ObjectAttributes.FixedTPM = false }),
		"imported":       change(func(a *tpm2.TPMTPublic) { a.ObjectAttributes.SensitiveDataOrigin = false }),
		"off the curve":  tpm2.Marshal(Template()),
	} {
		if key, err := PublicKey(public); err == nil {
			t.Errorf("%s: accepted as %v", name, key)
		}
	}
}

func FuzzPublicKey(f *testing.F) {
	f.Add(tpm2.Marshal(Template()))
	f.Add(tpm2.Marshal(tpm2.RSAEKTemplate))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, public []byte) {
		key, err := PublicKey(public)
		if err != nil {
			return
		}
		// Encoding checks that the point is on its curve.
		if _, err := key.Bytes(); err != nil {
			t.Errorf("accepted a point off the curve: %v", err)
		}
	})
}

func create(t *testing.T, tpm transport.TPM) *Key {
	t.Helper()
	key, err := Create(tpm)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	return key
}
