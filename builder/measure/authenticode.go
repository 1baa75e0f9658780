package measure

import (
	"crypto/sha256"
	"fmt"
	"io"
)

// authenticode computes the SHA-256 Authenticode digest of an image, which
// UEFI firmware extends into PCR 4 when it loads an application (Microsoft,
// "Windows Authenticode Portable Executable Signature Format", "Calculating
// the PE Image Hash"; TCG PC Client Platform Firmware Profile 3.3.4.5).
//
// It is the digest of the file without the CheckSum field, without the data
// directory's certificate table entry, and without the certificate table: the
// same for an image before and after it was signed. [parsePE] has made sure
// that the sections follow one another, so hashing them in order of offset is
// hashing the file from beginning to end.
func authenticode(f *peFile) ([32]byte, error) {
	h := sha256.New()
	rest := f.headers
	at := 0
	skip := func(offset, length int) {
		h.Write(rest[:offset-at])
		rest = rest[offset-at+length:]
		at = offset + length
	}
	skip(f.checksumOffset, 4)
	if f.securityOffset >= 0 {
		skip(f.securityOffset, 8)
	}
	h.Write(rest)
	body := int64(len(f.headers))
	if _, err := io.Copy(h, io.NewSectionReader(f.file, body, f.certificates.offset-body)); err != nil {
		return [32]byte{}, fmt.Errorf("hashing the PE image: %w", err)
	}
	return [32]byte(h.Sum(nil)), nil
}
