package evidence

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

// Document is the evidence document: what a node's hardware says, all that is
// needed to check it, and the transparent statements of what it runs. Each of
// those is JSON that log/receipt reads.
type Document struct {
	Format         string            `json:"format"` // [DocumentFormat]; set by Marshal
	Platform       string            `json:"platform"`
	Challenge      ChallengeSource   `json:"challenge"`
	TLSKey         []byte            `json:"tlsKey"`           // DER SubjectPublicKeyInfo
	Report         []byte            `json:"report,omitempty"` // sev-snp, tdx, nitro
	Quote          *Quote            `json:"quote,omitempty"`  // tpm
	Endorsements   []Endorsement     `json:"endorsements" ijson:"max=14"`
	DeviceEvidence []byte            `json:"deviceEvidence,omitempty"`
	HPKEKey        []byte            `json:"hpkeKey,omitempty"`
	Release        json.RawMessage   `json:"release"`
	Rebuilds       []json.RawMessage `json:"rebuilds,omitempty" ijson:"max=64"`
	Channel        json.RawMessage   `json:"channel,omitempty"`
	Withdrawals    []json.RawMessage `json:"withdrawals,omitempty" ijson:"max=64"`
}

// ChallengeSource is what a challenge was made of: the client's nonce, 32
// bytes, or the signed checkpoint that dates the evidence. Exactly one is set.
type ChallengeSource struct {
	Nonce      []byte `json:"nonce,omitempty"`
	Checkpoint string `json:"checkpoint,omitempty"`
}

// Challenge returns the challenge, of a source that is well formed.
func (s ChallengeSource) Challenge() (Challenge, error) {
	if err := s.validate("/challenge"); err != nil {
		return Challenge{}, err
	}
	if s.Checkpoint != "" {
		return CheckpointChallenge([]byte(s.Checkpoint)), nil
	}
	return NonceChallenge([32]byte(s.Nonce)), nil
}

// Quote is a TPM's signed statement about its PCRs.
type Quote struct {
	Attest    []byte `json:"attest"`    // TPMS_ATTEST
	Signature []byte `json:"signature"` // TPMT_SIGNATURE
}

// Endorsement is something that vouches for hardware, or an event log by which
// to read its registers. Type is one of [EndorsementTypes].
type Endorsement struct {
	Type string `json:"type"`
	Data []byte `json:"data"`
}

// Types of endorsements that the node itself collects; the others are pushed.
const (
	AKPublic = "ak-public" // TPMT_PUBLIC of the attestation key
	EventLog = "event-log" // TCG PC Client, crypto agile
)

var endorsementTypes = []string{
	"vcek", "vlek", "ask", "ark", "crl", // AMD
	"pck-chain", "tcb-info", "qe-identity", "root-crl", "pck-crl", // Intel
	AKPublic, "ak-certificate", EventLog, "ccel",
}

// EndorsementTypes returns the closed list of endorsement types.
func EndorsementTypes() []string { return slices.Clone(endorsementTypes) }

// ParseDocument reads an evidence document.
func ParseDocument(b []byte) (*Document, error) {
	d := new(Document)
	if err := ijson.Unmarshal(b, d, MaxDocumentBytes); err != nil {
		return nil, fmt.Errorf("reading an evidence document: %w", err)
	}
	if err := d.validate(); err != nil {
		return nil, fmt.Errorf("reading an evidence document: %w", err)
	}
	return d, nil
}

// Marshal checks the document and writes it in canonical JSON.
func (d *Document) Marshal() ([]byte, error) {
	out := *d
	out.Format = DocumentFormat
	if err := out.validate(); err != nil {
		return nil, fmt.Errorf("writing an evidence document: %w", err)
	}
	b, err := ijson.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("writing an evidence document: %w", err)
	}
	if len(b) > MaxDocumentBytes {
		return nil, fmt.Errorf("writing an evidence document: %d bytes; the limit is %d", len(b), MaxDocumentBytes)
	}
	return b, nil
}

// Endorsement returns the data of the endorsement of that type, nil if the
// document has none.
func (d *Document) Endorsement(kind string) []byte {
	for _, e := range d.Endorsements {
		if e.Type == kind {
			return e.Data
		}
	}
	return nil
}

// UserData returns the user data that the document's hardware must have been
// given, if the release's leaf has that hash.
func (d *Document) UserData(leafHash [32]byte) ([64]byte, error) {
	challenge, err := d.Challenge.Challenge()
	if err != nil {
		return [64]byte{}, fmt.Errorf("reading an evidence document: %w", err)
	}
	return UserData(UserDataInput{
		Platform: d.Platform, Challenge: challenge,
		TLSKey: d.TLSKey, HPKEKey: d.HPKEKey, DeviceEvidence: d.DeviceEvidence,
		LeafHash: leafHash,
	}), nil
}

func (d *Document) validate() error {
	if d.Format != DocumentFormat {
		return ijson.Errorf("/format", "%q is not %s", clip(d.Format), DocumentFormat)
	}
	if err := d.Challenge.validate("/challenge"); err != nil {
		return err
	}
	if err := checkBytes("/tlsKey", d.TLSKey, maxKeyBytes); err != nil {
		return err
	}
	if _, err := x509.ParsePKIXPublicKey(d.TLSKey); err != nil {
		return ijson.Errorf("/tlsKey", "not the DER SubjectPublicKeyInfo of a key: %v", err)
	}
	if err := d.validatePlatform(); err != nil {
		return err
	}
	if err := validateEndorsements(d.Endorsements); err != nil {
		return err
	}
	if len(d.DeviceEvidence) > maxDeviceBytes {
		return ijson.Errorf("/deviceEvidence", "%d bytes; the limit is %d", len(d.DeviceEvidence), maxDeviceBytes)
	}
	if len(d.HPKEKey) > maxKeyBytes {
		return ijson.Errorf("/hpkeKey", "%d bytes; the limit is %d", len(d.HPKEKey), maxKeyBytes)
	}
	if len(d.Release) == 0 {
		return ijson.Errorf("", "member \"release\" is missing; it is required")
	}
	return validateStatements(d.Release, d.Channel, d.Rebuilds, d.Withdrawals)
}

// validatePlatform checks that the platform's own kind of evidence is there and
// no other.
func (d *Document) validatePlatform() error {
	switch d.Platform {
	case TPM:
		if d.Report != nil {
			return ijson.Errorf("/report", "not for platform %s, which has a quote", TPM)
		}
		if d.Quote == nil {
			return ijson.Errorf("", "member \"quote\" is missing; platform %s requires it", TPM)
		}
		if err := checkBytes("/quote/attest", d.Quote.Attest, maxAttestBytes); err != nil {
			return err
		}
		return checkBytes("/quote/signature", d.Quote.Signature, maxSignatureBytes)
	case SEVSNP, TDX, Nitro:
		if d.Quote != nil {
			return ijson.Errorf("/quote", "not for platform %s, which has a report", d.Platform)
		}
		if d.Report == nil {
			return ijson.Errorf("", "member \"report\" is missing; platform %s requires it", d.Platform)
		}
		if d.Platform == SEVSNP && len(d.Report) != snpReportBytes {
			return ijson.Errorf("/report", "%d bytes; a report of %s has %d", len(d.Report), SEVSNP, snpReportBytes)
		}
		return checkBytes("/report", d.Report, maxReportBytes)
	}
	return ijson.Errorf("/platform", "%q is not %s, %s, %s or %s", clip(d.Platform), SEVSNP, TDX, Nitro, TPM)
}

func (s ChallengeSource) validate(path string) error {
	switch {
	case len(s.Nonce) > 0 && s.Checkpoint != "":
		return ijson.Errorf(path, "both nonce and checkpoint; write one of them")
	case s.Checkpoint != "":
		return checkNote(path+"/checkpoint", s.Checkpoint)
	case len(s.Nonce) == 0:
		return ijson.Errorf(path, "neither nonce nor checkpoint; write one of them")
	case len(s.Nonce) != 32:
		return ijson.Errorf(path+"/nonce", "%d bytes; a nonce has 32", len(s.Nonce))
	}
	return nil
}

// checkNote checks the outline of a signed checkpoint (C2SP signed-note). What
// it says, the reader of the document checks with its keys.
func checkNote(path, note string) error {
	if len(note) > MaxNoteBytes {
		return ijson.Errorf(path, "%d bytes; the limit is %d", len(note), MaxNoteBytes)
	}
	_, signatures, ok := strings.Cut(note, "\n\n")
	if !ok || !strings.HasPrefix(signatures, "— ") || !strings.HasSuffix(note, "\n") {
		return ijson.Errorf(path, "not a signed note: text, an empty line, and signature lines, each ended by a newline")
	}
	if strings.ContainsFunc(note, func(r rune) bool { return r != '\n' && (r < 0x20 || r == 0x7f) }) {
		return ijson.Errorf(path, "has a control character other than newline")
	}
	return nil
}

func validateEndorsements(endorsements []Endorsement) error {
	seen := map[string]bool{}
	for i, e := range endorsements {
		at := "/endorsements/" + strconv.Itoa(i)
		if !slices.Contains(endorsementTypes, e.Type) {
			return ijson.Errorf(at+"/type", "%q is not one of %s", clip(e.Type), strings.Join(endorsementTypes, ", "))
		}
		if seen[e.Type] {
			return ijson.Errorf(at+"/type", "%s stands twice; keep one", e.Type)
		}
		seen[e.Type] = true
		if err := checkBytes(at+"/data", e.Data, maxEndorsementBytes); err != nil {
			return err
		}
	}
	return nil
}

// validateStatements checks that transparent statements, where they are there,
// are objects within bounds. log/receipt reads them.
func validateStatements(release, channel json.RawMessage, rebuilds, withdrawals []json.RawMessage) error {
	if len(rebuilds) > MaxRebuilds {
		return ijson.Errorf("/rebuilds", "%d rebuilds; the limit is %d", len(rebuilds), MaxRebuilds)
	}
	if len(withdrawals) > MaxWithdrawals {
		return ijson.Errorf("/withdrawals", "%d withdrawals; the limit is %d", len(withdrawals), MaxWithdrawals)
	}
	check := func(path string, statement json.RawMessage) error {
		if len(statement) > MaxTransparentBytes {
			return ijson.Errorf(path, "%d bytes; the limit of a transparent statement is %d", len(statement), MaxTransparentBytes)
		}
		if !strings.HasPrefix(string(statement), "{") {
			return ijson.Errorf(path, "not an object; want a transparent statement")
		}
		return nil
	}
	for _, one := range []struct {
		path      string
		statement json.RawMessage
	}{{"/release", release}, {"/channel", channel}} {
		if len(one.statement) == 0 {
			continue
		}
		if err := check(one.path, one.statement); err != nil {
			return err
		}
	}
	for i, s := range rebuilds {
		if err := check("/rebuilds/"+strconv.Itoa(i), s); err != nil {
			return err
		}
	}
	for i, s := range withdrawals {
		if err := check("/withdrawals/"+strconv.Itoa(i), s); err != nil {
			return err
		}
	}
	return nil
}

func checkBytes(path string, b []byte, limit int) error {
	if len(b) == 0 || len(b) > limit {
		return ijson.Errorf(path, "%d bytes; want 1 to %d", len(b), limit)
	}
	return nil
}

func clip(s string) string {
	const limit = 80
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
