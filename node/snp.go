package node

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"github.com/google/go-configfs-tsm/report"

	"github.com/vitrine-dev/vitrine/node/evidence"
)

// snpProvider is how the kernel's tsm interface names an SEV-SNP guest.
const snpProvider = "sev_guest"

// snpReportBytes is the length of an ATTESTATION_REPORT (SEV-SNP ABI 56860,
// §7.3, table 23).
const snpReportBytes = 1184

// maxCertificateTableBytes bounds what the host hands over beside a report.
const maxCertificateTableBytes = 64 << 10

// SNP is the attester for an AMD SEV-SNP guest.
type SNP struct {
	tsm configfsi.Client
}

// OpenSNP returns the attester for the guest that it runs in, through the
// kernel's configfs-tsm (Linux 6.7 or later, configfs mounted).
func OpenSNP() (*SNP, error) {
	client, err := linuxtsm.MakeClient()
	if err != nil {
		return nil, fmt.Errorf("opening the kernel's report interface (configfs-tsm): %w", err)
	}
	return NewSNP(client)
}

// NewSNP returns the attester that takes its reports through tsm. It refuses
// one whose reports are not SEV-SNP's.
func NewSNP(tsm configfsi.Client) (*SNP, error) {
	s := &SNP{tsm: tsm}
	if _, _, err := s.request(make([]byte, 64)); err != nil {
		return nil, err
	}
	return s, nil
}

// Platform returns "sev-snp".
func (s *SNP) Platform() string { return PlatformSNP }

// Registers reads them from a report over zeros, which no client accepts.
func (s *SNP) Registers(context.Context) (map[string]string, error) {
	reported, _, err := s.request(make([]byte, 64))
	if err != nil {
		return nil, err
	}
	return SNPRegisters(reported)
}

// Attest asks the secure processor for a report with h as REPORT_DATA.
func (s *SNP) Attest(_ context.Context, h [64]byte) (*Attestation, error) {
	reported, table, err := s.request(h[:])
	if err != nil {
		return nil, err
	}
	return &Attestation{Report: reported, Endorsements: snpEndorsements(table)}, nil
}

// request returns a report and the host's certificate table, which may be
// empty.
func (s *SNP) request(reportData []byte) (reported, table []byte, err error) {
	response, err := report.Get(s.tsm, &report.Request{InBlob: reportData, GetAuxBlob: true})
	if err != nil {
		// Some hosts have no certificates to give, and say so with an error.
		var again error
		if response, again = report.Get(s.tsm, &report.Request{InBlob: reportData}); again != nil {
			return nil, nil, fmt.Errorf("asking the secure processor for a report: %w", errors.Join(err, again))
		}
	}
	if provider := strings.TrimSpace(response.Provider); provider != snpProvider {
		return nil, nil, fmt.Errorf("the kernel's reports come from %q, not from %q", provider, snpProvider)
	}
	if len(response.OutBlob) != snpReportBytes {
		return nil, nil, fmt.Errorf("the secure processor's report has %d bytes, not %d", len(response.OutBlob), snpReportBytes)
	}
	return response.OutBlob, response.AuxBlob, nil
}

// SNPRegisters reads the registers out of an ATTESTATION_REPORT without
// verifying it (SEV-SNP ABI 56860, §7.3, table 23). Integers are little-endian
// in a report and big-endian in a register.
func SNPRegisters(reported []byte) (map[string]string, error) {
	if len(reported) != snpReportBytes {
		return nil, fmt.Errorf("the report has %d bytes, not %d", len(reported), snpReportBytes)
	}
	guestPolicy := binary.BigEndian.AppendUint64(nil, binary.LittleEndian.Uint64(reported[0x08:]))
	vmpl := binary.BigEndian.AppendUint32(nil, binary.LittleEndian.Uint32(reported[0x30:]))
	return map[string]string{
		"guestPolicy":  hex.EncodeToString(guestPolicy),
		"vmpl":         hex.EncodeToString(vmpl),
		"launchDigest": hex.EncodeToString(reported[0x90 : 0x90+48]),
		"hostData":     hex.EncodeToString(reported[0xc0 : 0xc0+32]),
		"idKeyDigest":  hex.EncodeToString(reported[0xe0 : 0xe0+48]),
	}, nil
}

// snpCertificates are the entries of a host's certificate table that evidence
// has a type for (GHCB specification 56421, §4.1.8.1, table 10).
var snpCertificates = map[string]string{
	"63da758de6644564adc5f4b93be8accd": "vcek",
	"a8074bc2a25a483eaae639c045a0b8a1": "vlek",
	"4ab7b379bbac4fe4a02f05aef327c782": "ask",
	"c0b406a4a803495297433fb6014cd0ae": "ark",
}

// snpEndorsements reads the certificate table that the host handed over with a
// report. The host is not trusted and clients check each certificate, so an
// entry that is damaged or unknown is left out, and never an error: the
// sidecar can push a better one.
func snpEndorsements(table []byte) []evidence.Endorsement {
	const entryBytes = 16 + 4 + 4 // GUID, offset, length
	if len(table) > maxCertificateTableBytes {
		return nil
	}
	var found []evidence.Endorsement
	seen := make(map[string]bool)
	for entry := table; len(entry) >= entryBytes; entry = entry[entryBytes:] {
		guid := entry[:16]
		if bytes.Equal(guid, make([]byte, 16)) {
			break // the end of the entries
		}
		offset := uint64(binary.LittleEndian.Uint32(entry[16:]))
		length := uint64(binary.LittleEndian.Uint32(entry[20:]))
		kind, known := snpCertificates[hex.EncodeToString(guid)]
		if !known || seen[kind] || length == 0 || offset+length > uint64(len(table)) {
			continue
		}
		der := table[offset : offset+length]
		if _, err := x509.ParseCertificate(der); err != nil {
			continue
		}
		seen[kind] = true
		found = append(found, evidence.Endorsement{Type: kind, Data: der})
	}
	return found
}
