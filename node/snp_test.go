package node

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"
)

// simulatedTSM answers as the kernel of a simulated SEV-SNP guest does.
func simulatedTSM(t *testing.T, g *guest, provider string, table func() ([]byte, error)) *faketsm.Client {
	t.Helper()
	return &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": &faketsm.ReportSubsystem{
		MakeEntry: func() *faketsm.ReportEntry {
			return &faketsm.ReportEntry{InAttrs: map[string]*faketsm.ReportAttributeState{
				"inblob": {}, "privlevel": {},
			}}
		},
		ReadAttr: func(e *faketsm.ReportEntry, attribute string) ([]byte, error) {
			switch attribute {
			case "provider":
				return []byte(provider + "\n"), nil
			case "auxblob":
				return table()
			case "outblob":
				return g.report([64]byte(e.InAttrs["inblob"].Value))
			}
			return nil, os.ErrNotExist
		},
		CheckInAttr: func(e *faketsm.ReportEntry, attribute string, contents []byte) error {
			if attribute == "inblob" && len(contents) != 64 {
				return errors.New("inblob is not 64 bytes")
			}
			return nil
		},
		Random: rand.Reader,
	}}}
}

func TestSNP(t *testing.T) {
	g := &guest{launchDigest: [48]byte{1, 2, 3}}
	endorsements := chip().Endorsements()
	for name, test := range map[string]struct {
		table func() ([]byte, error)
		wants []string
	}{
		"the host has certificates": {
			func() ([]byte, error) {
				return certificateTable(map[string][]byte{"vcek": endorsements["vcek"], "ask": endorsements["ask"], "ark": endorsements["ark"]}), nil
			},
			[]string{"vcek", "ask", "ark"},
		},
		"the host has none":         {func() ([]byte, error) { return nil, nil }, nil},
		"the host does not know":    {func() ([]byte, error) { return nil, os.ErrNotExist }, nil},
		"the host hands over waste": {func() ([]byte, error) { return bytes.Repeat([]byte{0xff}, 4096), nil }, nil},
		"one is no certificate": {
			func() ([]byte, error) {
				return certificateTable(map[string][]byte{"vcek": []byte("waste"), "ask": endorsements["ask"]}), nil
			},
			[]string{"ask"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			attester, err := NewSNP(simulatedTSM(t, g, snpProvider, test.table))
			if err != nil {
				t.Fatal(err)
			}
			registers, err := attester.Registers(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := checkRegisters(PlatformSNP, registers); err != nil {
				t.Error(err)
			}
			if !strings.HasPrefix(registers["launchDigest"], "01020300") || registers["guestPolicy"] != "0000000000030000" || registers["vmpl"] != "00000000" {
				t.Errorf("registers: %v", registers)
			}
			h := [64]byte(bytes.Repeat([]byte{0x5a}, 64))
			a, err := attester.Attest(t.Context(), h)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a.Report[0x50:0x90], h[:]) || a.Quote != nil {
				t.Error("the report is not over the user data")
			}
			if len(a.Endorsements) != len(test.wants) {
				t.Fatalf("%d endorsements, want %v", len(a.Endorsements), test.wants)
			}
			for _, e := range a.Endorsements {
				if want := endorsements[e.Type]; !bytes.Equal(e.Data, want) {
					t.Errorf("the endorsement %s is not the host's", e.Type)
				}
			}
		})
	}
	if _, err := NewSNP(simulatedTSM(t, g, "tdx_guest", func() ([]byte, error) { return nil, nil })); err == nil || !strings.Contains(err.Error(), "tdx_guest") {
		t.Errorf("a TDX guest is taken as SEV-SNP: %v", err)
	}
}

// Values that differ in every byte, so that an offset or a byte order that is
// wrong shows.
func TestSNPRegisters(t *testing.T) {
	reported := make([]byte, snpReportBytes)
	for i := range reported {
		reported[i] = byte(i ^ i>>8)
	}
	binary.LittleEndian.PutUint64(reported[0x08:], 0x1122334455667788)
	binary.LittleEndian.PutUint32(reported[0x30:], 0x01020304)
	got, err := SNPRegisters(reported)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"guestPolicy":  "1122334455667788",
		"vmpl":         "01020304",
		"launchDigest": hex.EncodeToString(reported[144:192]),
		"hostData":     hex.EncodeToString(reported[192:224]),
		"idKeyDigest":  hex.EncodeToString(reported[224:272]),
	} {
		if got[name] != want {
			t.Errorf("%s is %s, want %s", name, got[name], want)
		}
	}
	for _, length := range []int{0, snpReportBytes - 1, snpReportBytes + 1} {
		if _, err := SNPRegisters(make([]byte, length)); err == nil {
			t.Errorf("a report of %d bytes is read", length)
		}
	}
}

func FuzzSNPEndorsements(f *testing.F) {
	endorsements := chip().Endorsements()
	f.Add(certificateTable(map[string][]byte{"vcek": endorsements["vcek"]}))
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, table []byte) {
		seen := make(map[string]bool)
		for _, e := range snpEndorsements(table) {
			if seen[e.Type] || len(e.Data) == 0 || !bytes.Contains(table, e.Data) {
				t.Errorf("the endorsement %s stands twice, or is not in the table", e.Type)
			}
			seen[e.Type] = true
		}
	})
}

// certificateTable writes a host's table (GHCB specification, §4.1.8.1).
func certificateTable(certificates map[string][]byte) []byte {
	var entries, data []byte
	offset := uint32(24 * (len(certificates) + 1))
	for guid, kind := range snpCertificates {
		der, ok := certificates[kind]
		if !ok {
			continue
		}
		id, err := hex.DecodeString(guid)
		if err != nil {
			panic(err)
		}
		entries = append(entries, id...)
		entries = binary.LittleEndian.AppendUint32(entries, offset+uint32(len(data)))
		entries = binary.LittleEndian.AppendUint32(entries, uint32(len(der)))
		data = append(data, der...)
	}
	return append(append(entries, make([]byte, 24)...), data...)
}
