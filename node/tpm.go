package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/attestationkey"
	"github.com/vitrine-dev/vitrine/node/evidence"
)

// Where Linux shows a TPM: through the kernel's resource manager, so that
// nobody else's objects crowd out the attestation key, and the firmware's event
// log beside it.
const (
	TPMDevice   = "/dev/tpmrm0"
	TPMEventLog = "/sys/kernel/security/tpm0/binary_bios_measurements"
)

// maxEventLogBytes bounds the firmware's event log. One of an ordinary boot has
// some 20 to 60 KB.
const maxEventLogBytes = 1 << 20

// readAttempts is how often the PCRs are read while they change under it.
const readAttempts = 3

// quotedPCRs are all that firmware, boot loader and our init may extend.
// PCR 10 is left out: it grows with each file that IMA measures, and no
// statement can name its value.
var quotedPCRs = []uint{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15}

// TPM is the attester for a machine whose boot a TPM 2.0 measured.
type TPM struct {
	mu       sync.Mutex // a transport carries one command at a time
	tpm      transport.TPM
	close    func() error
	key      *attestationkey.Key
	eventLog []byte
}

// OpenTPM opens a TPM by its device file and reads the firmware's event log;
// [TPMDevice] and [TPMEventLog] are Linux's names for them.
func OpenTPM(device, eventLog string) (*TPM, error) {
	f, err := os.Open(eventLog)
	if err != nil {
		return nil, fmt.Errorf("opening the firmware's event log: %w", err)
	}
	defer f.Close()
	tpm, err := linuxtpm.Open(device)
	if err != nil {
		return nil, fmt.Errorf("opening the TPM: %w", err)
	}
	t, err := NewTPM(tpm, f)
	if err != nil {
		return nil, errors.Join(err, tpm.Close())
	}
	t.close = tpm.Close
	return t, nil
}

// NewTPM returns the attester for a TPM that is reached through tpm, and whose
// firmware wrote eventLog. It makes the attestation key.
func NewTPM(tpm transport.TPM, eventLog io.Reader) (*TPM, error) {
	events, err := io.ReadAll(io.LimitReader(eventLog, maxEventLogBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the firmware's event log: %w", err)
	}
	if len(events) > maxEventLogBytes {
		return nil, fmt.Errorf("the firmware's event log has more than %d bytes", maxEventLogBytes)
	}
	key, err := attestationkey.Create(tpm)
	if err != nil {
		return nil, err
	}
	return &TPM{
		tpm:      tpm,
		close:    func() error { return nil },
		key:      key,
		eventLog: events,
	}, nil
}

// Close unloads the attestation key, and closes the TPM if OpenTPM opened it.
func (t *TPM) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(t.key.Close(), t.close())
}

// Platform returns "tpm".
func (t *TPM) Platform() string { return PlatformTPM }

// Registers reads the mandatory PCRs.
func (t *TPM) Registers(context.Context) (map[string]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	values, err := t.readPCRs()
	if err != nil {
		return nil, err
	}
	registers := make(map[string]string)
	for _, name := range statement.MandatoryRegisters(PlatformTPM) {
		for pcr, value := range values {
			if name == "pcr"+strconv.FormatUint(uint64(pcr), 10) {
				registers[name] = hex.EncodeToString(value)
			}
		}
	}
	return registers, nil
}

// Attest quotes the PCRs over SHA-256(h): extraData may not be longer than the
// largest digest that a TPM knows, which for many is 32 bytes (TPM 2.0 Library,
// Part 2, §10.4.3). A quote holds the digest of the PCRs alone; their values are
// what the event log beside it replays to.
func (t *TPM) Attest(_ context.Context, h [64]byte) (*Attestation, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	qualifyingData := evidence.QuoteData(h)
	quoted, err := tpm2.Quote{
		SignHandle: tpm2.AuthHandle{
			Handle: t.key.Handle,
			Name:   t.key.Name,
			Auth:   tpm2.PasswordAuth(nil),
		},
		QualifyingData: tpm2.TPM2BData{Buffer: qualifyingData[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, // the key's own
		PCRSelect:      selectPCRs(quotedPCRs),
	}.Execute(t.tpm)
	if err != nil {
		return nil, fmt.Errorf("having the TPM quote its PCRs: %w", err)
	}
	a := &Attestation{
		Quote:        &evidence.Quote{Attest: quoted.Quoted.Bytes(), Signature: tpm2.Marshal(quoted.Signature)},
		Endorsements: []evidence.Endorsement{{Type: evidence.AKPublic, Data: t.key.Public}},
	}
	if len(t.eventLog) > 0 {
		a.Endorsements = append(a.Endorsements, evidence.Endorsement{Type: evidence.EventLog, Data: t.eventLog})
	}
	return a, nil
}

// readPCRs reads the quoted PCRs as they stand at one moment. A TPM answers
// with at most eight values (TPM 2.0 Library, Part 3, §22.4), and counts the
// changes between.
func (t *TPM) readPCRs() (map[uint][]byte, error) {
	for range readAttempts {
		values := make(map[uint][]byte, len(quotedPCRs))
		first, counter, torn := true, uint32(0), false
		for rest := quotedPCRs; len(rest) > 0 && !torn; {
			read, err := tpm2.PCRRead{PCRSelectionIn: selectPCRs(rest)}.Execute(t.tpm)
			if err != nil {
				return nil, fmt.Errorf("reading the TPM's PCRs: %w", err)
			}
			n := len(read.PCRValues.Digests)
			if n == 0 || n > len(rest) {
				return nil, fmt.Errorf("the TPM gave %d values for %d PCRs: it has no SHA-256 bank, or one that leaves PCRs out", n, len(rest))
			}
			// The values come in the order of the selection, which is that
			// of quotedPCRs: ascending.
			if want := selectPCRs(rest[:n]); !bytes.Equal(tpm2.Marshal(read.PCRSelectionOut), tpm2.Marshal(want)) {
				return nil, errors.New("the TPM gave the values of other PCRs than were asked for: its SHA-256 bank leaves PCRs out")
			}
			for i, value := range read.PCRValues.Digests {
				if len(value.Buffer) != sha256.Size {
					return nil, fmt.Errorf("the TPM gave %d bytes for PCR %d, and not %d", len(value.Buffer), rest[i], sha256.Size)
				}
				values[rest[i]] = value.Buffer
			}
			torn = !first && read.PCRUpdateCounter != counter
			first, counter = false, read.PCRUpdateCounter
			rest = rest[n:]
		}
		if !torn {
			return values, nil
		}
	}
	return nil, fmt.Errorf("the PCRs changed under each of %d readings", readAttempts)
}

// selectPCRs selects PCRs of the SHA-256 bank.
func selectPCRs(pcrs []uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash:      tpm2.TPMAlgSHA256,
		PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...),
	}}}
}
