package statement

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"strings"
	"testing"
)

func TestKeysInPEM(t *testing.T) {
	made, err := NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, signer := range map[string]crypto.Signer{"ed25519": testKey("a"), "p256": testKeyP256("a"), "new": made} {
		text, err := MarshalPrivateKeyPEM(signer)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ParsePrivateKeyPEM(text)
		if err != nil {
			t.Fatal(err)
		}
		a, b := publicKey(t, signer), publicKey(t, read)
		if !a.Equal(b) {
			t.Errorf("%s: the private key came back as another", name)
		}
		c, err := ParsePublicKeyPEM(a.PEM())
		if err != nil || !c.Equal(a) || c.Hint() != a.Hint() || !bytes.Equal(c.SPKI(), a.SPKI()) {
			t.Errorf("%s: the public key came back as another: %v", name, err)
		}
	}
	if _, err := NewPrivateKey(strings.NewReader("too short")); err == nil {
		t.Error("a key is made of 9 bytes")
	}
}

func TestKeysRefused(t *testing.T) {
	good := string(publicKey(t, testKey("a")).PEM())
	spki := func(key crypto.PublicKey) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private, err := MarshalPrivateKeyPEM(testKey("a"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, names string }{
		"empty":       {"", "does not begin with"},
		"text before": {"my key\n" + good, "does not begin with"},
		"two keys":    {good + good, "something follows"},
		"headers":     {strings.Replace(good, "KEY-----\n", "KEY-----\nComment: mine\n\n", 1), "headers"},
		"private":     {string(private), "does not begin with"},
		"P-384":       {spki(p384.Public()), "P-384; use P-256"},
		"RSA":         {spki(rsaKey.Public()), "use Ed25519"},
		"no DER":      {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "reading a public key"},
		"long":        {good + strings.Repeat("\n", maxPEMBytes), "the limit is"},
	} {
		if _, err := ParsePublicKeyPEM([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s: %v, want it to name %q", name, err, c.names)
		}
	}
	for name, text := range map[string]string{
		"public": good, "empty": "", "no DER": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	} {
		if _, err := ParsePrivateKeyPEM([]byte(text)); err == nil {
			t.Errorf("private key, %s: accepted", name)
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePrivateKeyPEM(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err == nil {
		t.Error("a private RSA key is accepted")
	}
}

// A lyingSigner names one key and signs with another.
type lyingSigner struct{ named, used crypto.Signer }

func (s lyingSigner) Public() crypto.PublicKey { return s.named.Public() }
func (s lyingSigner) Sign(r io.Reader, m []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.used.Sign(r, m, o)
}

func TestSignRefuses(t *testing.T) {
	payload := samplePayload(t, "channel")
	if _, err := Sign(payload, lyingSigner{testKey("a"), testKey("b")}); err == nil {
		t.Error("a leaf is returned that its own key does not verify")
	}
	if _, err := Sign([]byte("{}"), testKey("a")); err == nil {
		t.Error("something that is no statement is signed")
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(payload, p384); err == nil {
		t.Error("signed with a key that nobody accepts")
	}
	if _, err := NewPublicKey(ed25519.PublicKey("short")); err == nil {
		t.Error("a short Ed25519 key is accepted")
	}
}
