package measure

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestHostilePE(t *testing.T) {
	good := buildPE(testSection{".text", []byte("one")}, testSection{".data", []byte("two")})
	if _, err := parsePE(reader(good)); err != nil {
		t.Fatal(err)
	}
	first, second := testSectionTable, testSectionTable+40
	for _, test := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "the DOS header at offset 0x0 needs 64 bytes"},
		{"no MZ", broken(good, 0, 'Z'), "does not begin with MZ"},
		{"header far away", broken(good, 0x3c, le32(0xfffffffc)...), "unaligned or out of range"},
		{"header unaligned", broken(good, 0x3c, le32(0x41)...), "unaligned or out of range"},
		{"header at the end", broken(good, 0x3c, le32(uint32(len(good)-8))...), "the PE header at offset"},
		{"no signature", broken(good, testPEOffset, 'X'), "does not begin with its signature"},
		{"ARM", broken(good, testPEOffset+4, le16(0xaa64)...), "machine 0xaa64"},
		{"no sections", broken(good, testPEOffset+6, 0, 0), "counts 0 sections"},
		{"too many sections", broken(good, testPEOffset+6, le16(97)...), "counts 97 sections"},
		{"sections beyond headers", broken(good, testPEOffset+6, le16(60)...), "does not fit into headers"},
		{"PE32", broken(good, testOptional, le16(0x10b)...), "magic 0x10b"},
		{"many directories", broken(good, testDirectories, le32(17)...), "do not fit"},
		{"overflowing directories", broken(good, testDirectories, le32(0xffffffff)...), "do not fit"},
		{"short optional header", broken(good, testPEOffset+20, le16(8)...), "do not fit"},
		{"huge headers", broken(good, testHeaderSize, le32(0xffffffff)...), "does not fit into headers"},
		{"headers beyond file", broken(good, testHeaderSize, le32(uint32(len(good)+1))...), "the PE headers at offset 0x0"},
		{"certificates inside", broken(good, testSecurity, append(le32(testHeaders), le32(8)...)...), "does not end with the file"},
		{"empty certificates", broken(good, testSecurity, append(le32(uint32(len(good))), le32(0)...)...), "does not end with the file"},
		{"certificates over a section", broken(good, testSecurity, append(le32(uint32(len(good)-8)), le32(8)...)...), "overlaps what ends at"},
		{"name after NUL", broken(good, first, 'a', 0, 'b'), "after the end of its name"},
		{"gap", broken(good, first+20, le32(testHeaders+testAlignment)...), "neither overlap nor leave a gap"},
		{"same raw data", broken(good, second+20, le32(testHeaders)...), "neither overlap nor leave a gap"},
		{"raw data beyond file", broken(good, second+16, le32(0xfffffe00)...), "beyond the file's end"},
		{"overlap in memory", broken(good, second+12, le32(0x1002)...), "overlaps in memory"},
		{"in the headers' memory", broken(good, first+12, le32(0)...), "overlaps in memory"},
		{"memory wraps", broken(good, first+8, le32(0xffffffff)...), "overlaps in memory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parsePE(reader(test.file))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestAuthenticodeSkips(t *testing.T) {
	good := buildPE(testSection{".text", []byte("one")}, testSection{".data", []byte("two")})
	want := mustAuthenticode(t, good)
	if got := mustAuthenticode(t, broken(good, testChecksum, 1, 2, 3, 4)); got != want {
		t.Error("the checksum is part of the digest")
	}
	signed := append(broken(good, testSecurity, append(le32(uint32(len(good))), le32(16)...)...), make([]byte, 16)...)
	if got := mustAuthenticode(t, signed); got != want {
		t.Error("the certificate table is part of the digest")
	}
	for _, offset := range []int{2, testChecksum - 8, testChecksum + 4, testSecurity - 1, testSecurity + 8, testHeaders, len(good) - 1} {
		if got := mustAuthenticode(t, broken(good, offset, good[offset]^0x80)); got == want {
			t.Errorf("the byte at offset %#x is not part of the digest", offset)
		}
	}
	if got := mustAuthenticode(t, append(good, "trailing"...)); got == want {
		t.Error("data after the last section is not part of the digest")
	}
}

func TestAuthenticodeWithoutSecurityDirectory(t *testing.T) {
	good := buildPE(testSection{".text", []byte("one")})
	short := broken(good, testDirectories, le32(4)...)
	want := mustAuthenticode(t, short)
	if got := mustAuthenticode(t, broken(short, testSecurity, 1)); got == want {
		t.Error("bytes of a directory that is not there are skipped")
	}
}

func mustAuthenticode(t *testing.T, b []byte) [32]byte {
	t.Helper()
	f, err := parsePE(reader(b))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := authenticode(f)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestAuthenticodeAgainstSigningTool lets osslsigncode sign images and compares
// the digest that it signed.
func TestAuthenticodeAgainstSigningTool(t *testing.T) {
	tool, err := exec.LookPath("osslsigncode")
	if err != nil {
		t.Skip("osslsigncode is not installed")
	}
	dir := t.TempDir()
	writeSigningKey(t, dir)
	for name, image := range map[string][]byte{
		"two sections": buildPE(testSection{".text", []byte("one")}, testSection{".data", bytes.Repeat([]byte("two"), 1000)}),
		"uki":          buildUKI(buildKernel("6.1.0"), testSection{".initrd", bytes.Repeat([]byte{7}, 99999)}),
	} {
		t.Run(name, func(t *testing.T) {
			in, out := filepath.Join(dir, "in.efi"), filepath.Join(dir, "out.efi")
			if err := os.WriteFile(in, image, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(out); err != nil {
				t.Fatal(err)
			}
			run(t, tool, "sign", "-h", "sha256", "-certs", filepath.Join(dir, "cert.pem"), "-key", filepath.Join(dir, "key.pem"), "-in", in, "-out", out)
			signed, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			// Its own verification fails, as nobody trusts the certificate;
			// what it computed is printed all the same.
			report, _ := exec.Command(tool, "verify", "-in", out).CombinedOutput()
			match := regexp.MustCompile(`(?i)(?:current|calculated) message digest\s*:\s*([0-9A-F]{64})`).FindSubmatch(report)
			if match == nil {
				t.Fatalf("osslsigncode printed no digest:\n%s", report)
			}
			want := strings.ToLower(string(match[1]))
			for which, b := range map[string][]byte{"unsigned": image, "signed": signed} {
				if sum := mustAuthenticode(t, b); hex.EncodeToString(sum[:]) != want {
					t.Errorf("the digest of the %s image is %x, and osslsigncode has %s", which, sum, want)
				}
			}
		})
	}
}

func writeSigningKey(t *testing.T, dir string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: certificate},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func run(t *testing.T, name string, arguments ...string) {
	t.Helper()
	if out, err := exec.Command(name, arguments...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, arguments, err, out)
	}
}
