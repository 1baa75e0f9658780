package statement

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/vitrine-dev/vitrine/log/ijson"
)

// Predicate types. A new meaning is a new version.
const (
	ReleaseType    = "https://vitrine.dev/predicate/release/v1"
	RebuildType    = "https://vitrine.dev/predicate/rebuild/v1"
	WithdrawalType = "https://vitrine.dev/predicate/withdrawal/v1"
	ChannelType    = "https://vitrine.dev/predicate/channel/v1"
)

const (
	// MaxPayloadBytes bounds a payload, so that its base64 form and signature
	// fit into [MaxLeafBytes].
	MaxPayloadBytes = 32 << 10
	// MaxLeafBytes bounds a leaf: an entry's length is 16 bits in C2SP
	// tlog-tiles.
	MaxLeafBytes = 65535
	// PayloadType is the media type of a payload, which the signature covers.
	PayloadType = "application/vnd.in-toto+json"

	statementType = "https://in-toto.io/Statement/v1"
)

// Digest is a SHA-256, written as in-toto's DigestSet with that one algorithm.
type Digest struct {
	SHA256 string `json:"sha256"` // 64 lower-case hex digits
}

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest{SHA256: hex.EncodeToString(sum[:])}
}

// Subject is something that a statement is about: a name, unique in the
// statement, and a digest. The digest alone identifies it.
type Subject struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
}

// Statement is an in-toto Statement v1 with one of this project's predicates.
type Statement struct {
	Subjects  []Subject
	Predicate Predicate
}

// Predicate is what a statement says: a *[Release], *[Rebuild], *[Withdrawal]
// or *[Channel].
type Predicate interface {
	predicateType() string
	// validate checks the predicate and its agreement with the subjects, whose
	// names are unique and whose digests are well formed.
	validate(subjects []Subject) error
}

// newPredicate returns an empty predicate of the type, or nil.
func newPredicate(predicateType string) Predicate {
	switch predicateType {
	case ReleaseType:
		return new(Release)
	case RebuildType:
		return new(Rebuild)
	case WithdrawalType:
		return new(Withdrawal)
	case ChannelType:
		return new(Channel)
	}
	return nil
}

// layer and resource are in-toto's own part of a payload. It may carry members
// that we do not know (in-toto attestation spec v1, parsing rules); nothing of
// ours is ever in them.
type layer struct {
	_             struct{}        `ijson:"open"`
	Type          string          `json:"_type"`
	Predicate     json.RawMessage `json:"predicate"`
	PredicateType string          `json:"predicateType"`
	Subject       []resource      `json:"subject"`
}

type resource struct {
	_      struct{} `ijson:"open"`
	Digest Digest   `json:"digest"`
	Name   string   `json:"name"`
}

// ID is a statement's identity: the SHA-256 of its payload.
type ID [sha256.Size]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Digest returns the identity as statements write it.
func (id ID) Digest() Digest { return Digest{SHA256: id.String()} }

// IDOf returns the identity of the statement with that payload.
func IDOf(payload []byte) ID { return sha256.Sum256(payload) }

// Payload checks the statement and returns the canonical JSON that is signed.
func (s *Statement) Payload() ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("writing a statement: %w", err)
	}
	predicate, err := ijson.Marshal(s.Predicate)
	if err != nil {
		return nil, fmt.Errorf("writing a statement's predicate: %w", err)
	}
	l := layer{Type: statementType, Predicate: predicate, PredicateType: s.Predicate.predicateType()}
	for _, subject := range s.Subjects {
		l.Subject = append(l.Subject, resource{Name: subject.Name, Digest: subject.Digest})
	}
	payload, err := ijson.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("writing a statement: %w", err)
	}
	if len(payload) > MaxPayloadBytes {
		return nil, fmt.Errorf("writing a statement: %w", ijson.Errorf("",
			"the payload has %d bytes; the limit is %d: name fewer artefacts or measurements, or store what is long under its digest", len(payload), MaxPayloadBytes))
	}
	return payload, nil
}

// ParsePayload reads a payload. It accepts canonical JSON only, and no member
// of a predicate that it does not know.
func ParsePayload(payload []byte) (*Statement, error) {
	s, err := parsePayload(payload)
	if err != nil {
		return nil, fmt.Errorf("reading a statement's payload: %w", err)
	}
	return s, nil
}

func parsePayload(payload []byte) (*Statement, error) {
	var l layer
	if err := ijson.Unmarshal(payload, &l, MaxPayloadBytes); err != nil {
		return nil, err
	}
	if l.Type != statementType {
		return nil, ijson.Errorf("/_type", "%q is not %s", ijson.Clip(l.Type), statementType)
	}
	predicate := newPredicate(l.PredicateType)
	if predicate == nil {
		return nil, ijson.Errorf("/predicateType", "%q is not known; this version knows %s, %s, %s and %s",
			ijson.Clip(l.PredicateType), ReleaseType, RebuildType, WithdrawalType, ChannelType)
	}
	if err := ijson.Unmarshal(l.Predicate, predicate, MaxPayloadBytes); err != nil {
		return nil, under("/predicate", err)
	}
	if err := ijson.CheckCanonical(payload); err != nil {
		return nil, err
	}
	s := &Statement{Predicate: predicate}
	for _, r := range l.Subject {
		s.Subjects = append(s.Subjects, Subject{Name: r.Name, Digest: r.Digest})
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// under moves an error about a part of a document to where the part stands.
func under(path string, err error) error {
	if e, ok := err.(*FormatError); ok {
		return &FormatError{Path: path + e.Path, Detail: e.Detail}
	}
	return err
}

func (s *Statement) validate() error {
	if s.Predicate == nil {
		return ijson.Errorf("/predicate", "missing; a statement says something")
	}
	if len(s.Subjects) == 0 {
		return ijson.Errorf("/subject", "empty; name what the statement is about")
	}
	names := map[string]bool{}
	for i, subject := range s.Subjects {
		at := "/subject/" + strconv.Itoa(i)
		// Which of the two it must be is the predicate's to say.
		if checkName("", subject.Name) != nil && checkVersion("", subject.Name) != nil {
			return ijson.Errorf(at+"/name", "%q is neither a name nor a version", ijson.Clip(subject.Name))
		}
		if names[subject.Name] {
			return ijson.Errorf(at+"/name", "%q stands twice; a subject's name is unique in a statement", subject.Name)
		}
		names[subject.Name] = true
		if err := checkDigest(at+"/digest", subject.Digest); err != nil {
			return err
		}
	}
	return s.Predicate.validate(s.Subjects)
}

// Release returns the release predicate, if it is one.
func (s *Statement) Release() (*Release, bool) { p, ok := s.Predicate.(*Release); return p, ok }

// Rebuild returns the rebuild predicate, if it is one.
func (s *Statement) Rebuild() (*Rebuild, bool) { p, ok := s.Predicate.(*Rebuild); return p, ok }

// Withdrawal returns the withdrawal predicate, if it is one.
func (s *Statement) Withdrawal() (*Withdrawal, bool) {
	p, ok := s.Predicate.(*Withdrawal)
	return p, ok
}

// Channel returns the channel predicate, if it is one.
func (s *Statement) Channel() (*Channel, bool) { p, ok := s.Predicate.(*Channel); return p, ok }

// Product returns the name of the product that the statement is about.
func (s *Statement) Product() string {
	switch p := s.Predicate.(type) {
	case *Release:
		return p.Product
	case *Rebuild:
		return p.Product
	case *Withdrawal:
		return p.Product
	case *Channel:
		return p.Product
	}
	return ""
}
