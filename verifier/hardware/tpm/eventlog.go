package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// Bounds of a log. OVMF writes some tens of events into some tens of KiB.
const (
	maxLogEvents = 4096
	// evNoAction events are notes to the parser and extend nothing (PC Client
	// Platform Firmware Profile, §10.4.1).
	evNoAction = 0x03
)

// eventLog is a firmware's log, replayed. The library's own replay is not used:
// it takes a register that the log never mentions for a match, and drops
// events that stand in the way of one.
type eventLog struct {
	events []tcg.Event
	replay [24][32]byte
}

func (a *appraisal) readEventLog() *hardware.Rejection {
	data := a.evidence.EventLog
	if len(data) == 0 {
		return nil
	}
	refuse := func(format string, args ...any) *hardware.Rejection {
		return hardware.Refuse("hardware/tpm/event-log-malformed", "reading an event log of %d bytes: "+format, append([]any{len(data)}, args...)...)
	}
	if len(data) > hardware.MaxCollateralBytes {
		return hardware.Refuse("hardware/collateral-size", "the event log has %d bytes, more than %d", len(data), hardware.MaxCollateralBytes)
	}
	if err := checkAlgorithms(data); err != nil {
		return refuse("%v", err)
	}
	parsed, err := tcg.ParseEventLog(data, tcg.ParseOpts{})
	if err != nil {
		return refuse("%v", err)
	}
	if !slices.Contains(parsed.Algs, register.HashSHA256) {
		return refuse("it has no SHA-256 digests")
	}
	log := &eventLog{events: parsed.Events(register.HashSHA256)}
	if len(log.events) > maxLogEvents {
		return refuse("it has %d events, more than %d", len(log.events), maxLogEvents)
	}
	extended := false // has PCR 0 been extended
	for n, e := range log.events {
		if e.Index < 0 || e.Index >= len(log.replay) {
			return refuse("event %d is for PCR %d, which no TPM has", n, e.Index)
		}
		if e.Type == evNoAction {
			if locality, ok := startupLocality(e); ok {
				if extended {
					return refuse("event %d gives the start-up locality after PCR 0 was extended", n)
				}
				log.replay[0] = [32]byte{31: locality}
			}
			continue
		}
		if len(e.Digest) != sha256.Size {
			return refuse("event %d (PCR %d) has a SHA-256 digest of %d bytes", n, e.Index, len(e.Digest))
		}
		pcr := &log.replay[e.Index]
		*pcr = sha256.Sum256(append(pcr[:], e.Digest...))
		extended = extended || e.Index == 0
	}
	a.log = log
	return nil
}

// checkAlgorithms holds the log's first event (TCG_EfiSpecIDEvent; Profile,
// §10.4.5.1; integers are little-endian) to as many digest algorithms as a TPM
// has banks, each once. The library allocates a digest anew for each algorithm
// of the list that bears its name: a log of 1 MiB could keep it busy for days,
// and it is read before any signature.
func checkAlgorithms(data []byte) error {
	const (
		sizeAt    = 4 + 4 + 20 // PCR index, event type, SHA-1 digest
		specAt    = sizeAt + 4
		numAlgsAt = 16 + 4 + 4 // signature, platform class, versions and UINTN size
		algBytes  = 2 + 2      // name and digest size
	)
	if len(data) < specAt+numAlgsAt+4 {
		return fmt.Errorf("it ends within its first event")
	}
	spec := data[specAt:]
	if size := binary.LittleEndian.Uint32(data[sizeAt:]); uint64(size) < uint64(len(spec)) {
		spec = spec[:size]
	}
	if len(spec) < numAlgsAt+4 {
		return fmt.Errorf("it does not begin with a list of digest algorithms")
	}
	n, list := binary.LittleEndian.Uint32(spec[numAlgsAt:]), spec[numAlgsAt+4:]
	if n > maxBanks || uint64(len(list)) < uint64(n)*algBytes {
		return fmt.Errorf("it lists %d digest algorithms, more than %d or than it holds", n, maxBanks)
	}
	seen := map[uint16]bool{}
	for ; n > 0; n-- {
		name := binary.LittleEndian.Uint16(list)
		if seen[name] {
			return fmt.Errorf("it lists the digest algorithm %#04x twice", name)
		}
		seen[name], list = true, list[algBytes:]
	}
	return nil
}

// startupLocality reads TCG_EfiStartupLocalityEvent: PCR 0 begins with the
// locality from which the TPM was started (Profile, §10.4.5.3).
func startupLocality(e tcg.Event) (byte, bool) {
	name, ok := bytes.CutPrefix(e.Data, []byte("StartupLocality\x00"))
	if !ok || len(name) != 1 || e.Index != 0 {
		return 0, false
	}
	return name[0], true
}

// facts tells the log event by event. A digest was replayed to what the TPM
// signed; an event's data was only if it hashes to that digest, and is
// otherwise whatever the sender wrote there. An event's type is always the
// sender's word.
func (l *eventLog) facts() []hardware.Fact {
	var facts []hardware.Fact
	for _, e := range l.events {
		if e.Type == evNoAction {
			continue
		}
		covered := sha256.Sum256(e.Data)
		facts = append(facts, hardware.Fact{
			Name:       fmt.Sprintf("event pcr%d", e.Index),
			Label:      e.Type.TCGString(), // unlike digest and PCR the type is not measured
			Value:      fmt.Sprintf("%x %s", e.Digest, printable(e.Data)),
			Unverified: !bytes.Equal(covered[:], e.Digest),
		})
	}
	return facts
}

// printable shows an event's data as one line of ASCII, quoted, cut where it is
// long: text, text in UTF-16 as UEFI has it, or hex.
func printable(data []byte) string {
	const most = 120
	text := strings.TrimRight(string(data), "\x00")
	if len(data) >= 4 && len(data)%2 == 0 && data[1] == 0 && data[3] == 0 {
		units := make([]uint16, 0, len(data)/2)
		for i := 0; i < len(data) && len(units) < most+1; i += 2 {
			units = append(units, uint16(data[i])|uint16(data[i+1])<<8)
		}
		text = strings.TrimRight(string(utf16.Decode(units)), "\x00")
	}
	for _, r := range text {
		if r < 0x20 || r > 0x7e {
			text = fmt.Sprintf("hex %x", data[:min(len(data), most/2)])
			if len(data) > most/2 {
				text += "…"
			}
			return strconv.QuoteToASCII(text)
		}
	}
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.QuoteToASCII(text)
}
