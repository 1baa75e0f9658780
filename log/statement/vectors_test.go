package statement

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/ijson"
	"github.com/vitrine-dev/vitrine/log/vectors"
)

// An edit changes one place of a JSON document.
type edit struct {
	pointer string
	value   any // absent to remove the member
}

type absentValue struct{}

var absent absentValue

// apply returns the document with the edits made, in canonical form.
func apply(t testing.TB, document []byte, edits ...edit) []byte {
	t.Helper()
	var doc any
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		if err := set(doc, strings.Split(e.pointer, "/")[1:], e.value); err != nil {
			t.Fatalf("%s: %v", e.pointer, err)
		}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = ijson.Canonical(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func set(doc any, tokens []string, value any) error {
	last := len(tokens) == 1
	switch x := doc.(type) {
	case map[string]any:
		if !last {
			return set(x[tokens[0]], tokens[1:], value)
		}
		if value == absent {
			if _, ok := x[tokens[0]]; !ok {
				return fmt.Errorf("there is nothing to remove")
			}
			delete(x, tokens[0])
			return nil
		}
		x[tokens[0]] = value
		return nil
	case []any:
		i, err := strconv.Atoi(tokens[0])
		if err != nil || i >= len(x) {
			return fmt.Errorf("no element %s", tokens[0])
		}
		if last {
			x[i] = value
			return nil
		}
		return set(x[i], tokens[1:], value)
	}
	return fmt.Errorf("nothing at %s", tokens[0])
}

func samplePayload(t testing.TB, name string) []byte {
	t.Helper()
	payload, err := samples(t)[name].Payload()
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func describe(s *Statement, payload []byte) map[string]any {
	return map[string]any{
		"identity":      IDOf(payload).String(),
		"predicateType": s.Predicate.predicateType(),
		"product":       s.Product(),
		"subjects":      len(s.Subjects),
	}
}

func payloadVectors(t testing.TB) []vectors.Vector {
	var out []vectors.Vector
	accept := func(name, why string, payload []byte) {
		s, err := ParsePayload(payload)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, vectors.Vector{Name: name, Why: why, Valid: true, Input: string(payload), Want: describe(s, payload)})
	}
	refuse := func(name, why, names string, payload []byte) {
		out = append(out, vectors.Vector{Name: name, Why: why, Error: names, Input: string(payload)})
	}

	accept("release", "a release for two platforms, one register of which may hold anything", samplePayload(t, "release"))
	accept("rebuild-reproduced", "the same bits came out", samplePayload(t, "reproduced"))
	accept("rebuild-not-reproduced", "other bits came out", samplePayload(t, "not-reproduced"))
	accept("rebuild-could-not-build", "none came out", samplePayload(t, "could-not-build"))
	accept("withdrawal", "a release, an artefact and a register's value are withdrawn", samplePayload(t, "withdrawal"))
	accept("withdrawal-reinstates", "the same is taken back", apply(t, samplePayload(t, "withdrawal"), edit{"/predicate/reinstates", true}))
	accept("channel", "one release is current", samplePayload(t, "channel"))
	accept("in-toto-members", "members of in-toto's own layer that we do not know are tolerated",
		apply(t, samplePayload(t, "channel"),
			edit{"/subject/0/annotations", map[string]any{"depth": []any{1, "two", nil}}},
			edit{"/futureMember", true}))

	for _, c := range payloadFaults {
		payload := samplePayload(t, c.of)
		if len(c.edits) > 0 {
			payload = apply(t, payload, c.edits...)
		}
		if c.from != "" {
			if !bytes.Contains(payload, []byte(c.from)) {
				t.Fatalf("%s: the payload has no %s", c.name, c.from)
			}
			payload = bytes.Replace(payload, []byte(c.from), []byte(c.to), 1)
		}
		refuse(c.name, c.why, c.names, payload)
	}
	refuse("empty", "nothing at all", "not JSON", nil)
	refuse("cut-off", "half a payload", "not JSON", samplePayload(t, "channel")[:200])
	refuse("trailing-newline", "a newline after the document", "not in canonical form", append(samplePayload(t, "channel"), '\n'))
	refuse("trailing-document", "two documents", "something follows", append(samplePayload(t, "channel"), "{}"...))
	refuse("list", "not an object", "want an object, have a list", []byte("[]"))
	out = append(out, vectors.Vector{
		Name: "bad-utf8", Why: "a byte that is not UTF-8, which a lax reader replaces", Error: "/predicate/product",
		InputBase64: bytes.Replace(samplePayload(t, "channel"), []byte("hello-"), []byte("hello\xff"), 1),
	})
	return out
}

func TestPayloadVectors(t *testing.T) {
	vectors.Check(t, "statement", payloadVectors(t), func(v vectors.Vector) (map[string]any, error) {
		s, err := ParsePayload(v.Bytes())
		if err != nil {
			var format *FormatError
			if !errors.As(err, &format) {
				t.Errorf("%s: %v is no FormatError", v.Name, err)
			}
			return nil, err
		}
		return describe(s, v.Bytes()), nil
	})
}

func leafVectors(t testing.TB) []vectors.Vector {
	publisher := publicKey(t, testKey("publisher"))
	given := map[string]any{"key": string(publisher.PEM())}
	sign := func(name string) []byte {
		leaf, err := Sign(samplePayload(t, name), testKey("publisher"))
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	var out []vectors.Vector
	accept := func(name, why, verdict string, key *PublicKey, leaf []byte) {
		s, err := Parse(leaf)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, vectors.Vector{
			Name: name, Why: why, Valid: true, Input: string(leaf),
			Given: map[string]any{"key": string(key.PEM())},
			Want: map[string]any{
				"identity":  s.ID.String(),
				"hint":      fmt.Sprintf("%x", s.Hint),
				"leafHash":  fmt.Sprintf("%x", s.LeafHash()),
				"signature": verdict,
			},
		})
	}
	refuse := func(name, why, names string, leaf []byte) {
		out = append(out, vectors.Vector{Name: name, Why: why, Error: names, Given: given, Input: string(leaf)})
	}
	channel := sign("channel")
	accept("ed25519", "signed with Ed25519", "valid", publisher, channel)
	accept("ecdsa-p256", "signed with ECDSA on P-256; this signature is RFC 6979's", "valid",
		publicKey(t, testKeyP256("publisher")), signDeterministic(t, samplePayload(t, "channel"), vectors.KeyP256("publisher")))
	accept("unknown-key", "well formed, but the hint is another key's", "unknown key", publicKey(t, testKey("stranger")), channel)
	accept("bad-signature", "well formed, but the signature is over something else", "bad signature", publisher,
		replaceSignature(t, channel, sign("release")))
	strangersHint := publicKey(t, testKey("stranger")).Hint()
	accept("false-hint", "the hint is that of a key that did not sign", "bad signature", publicKey(t, testKey("stranger")),
		apply(t, channel, edit{"/verificationMaterial/publicKey/hint", base64.StdEncoding.EncodeToString(strangersHint[:])}))

	signature := []any{map[string]any{"sig": "AAAA"}}
	for _, c := range []struct {
		name, why, names string
		edits            []edit
	}{
		{"old-media-type", "bundle v0.2", "/mediaType", []edit{{"/mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.2"}}},
		{"no-media-type", "the media type is absent", "/mediaType", []edit{{"/mediaType", absent}}},
		{"keyid", "a keyid beside the signature", "/dsseEnvelope/signatures/0/keyid", []edit{{"/dsseEnvelope/signatures/0/keyid", "publisher"}}},
		{"no-signature", "no signature", "/dsseEnvelope", []edit{{"/dsseEnvelope/signatures", absent}}},
		{"two-signatures", "two signatures", "/dsseEnvelope/signatures", []edit{{"/dsseEnvelope/signatures", append(signature, signature...)}}},
		{"empty-signature", "a signature of no bytes", "/dsseEnvelope/signatures/0/sig", []edit{{"/dsseEnvelope/signatures/0/sig", absent}}},
		{"long-signature", "a signature of 129 bytes", "/dsseEnvelope/signatures/0/sig",
			[]edit{{"/dsseEnvelope/signatures/0/sig", base64.StdEncoding.EncodeToString(make([]byte, 129))}}},
		{"payload-type", "another payload type", "/dsseEnvelope/payloadType", []edit{{"/dsseEnvelope/payloadType", "application/json"}}},
		{"payload", "a payload that is no statement", "its payload", []edit{{"/dsseEnvelope/payload", base64.StdEncoding.EncodeToString([]byte("{}"))}}},
		{"no-envelope", "no envelope", "dsseEnvelope", []edit{{"/dsseEnvelope", absent}}},
		{"message-signature", "a signature without an envelope", "dsseEnvelope",
			[]edit{{"/dsseEnvelope", absent}, {"/messageSignature", map[string]any{"signature": "AAAA"}}}},
		{"no-key", "no verification material", "/verificationMaterial", []edit{{"/verificationMaterial", absent}}},
		{"certificate", "a certificate in place of the hint", "/verificationMaterial",
			[]edit{{"/verificationMaterial", map[string]any{"certificate": map[string]any{"rawBytes": "AAAA"}}}}},
		{"no-hint", "the hint is absent", "/verificationMaterial/publicKey/hint", []edit{{"/verificationMaterial/publicKey/hint", absent}}},
		{"short-hint", "a hint of 31 bytes", "/verificationMaterial/publicKey/hint",
			[]edit{{"/verificationMaterial/publicKey/hint", base64.StdEncoding.EncodeToString(make([]byte, 31))}}},
		{"hex-hint", "a hint in hex", "/verificationMaterial/publicKey/hint",
			[]edit{{"/verificationMaterial/publicKey/hint", hexBytes(32, "hint")}}},
		{"tlog-entries", "an entry of a transparency log in the bundle", "/verificationMaterial/tlogEntries",
			[]edit{{"/verificationMaterial/tlogEntries", []any{map[string]any{"logIndex": "1"}}}}},
		{"timestamps", "timestamps in the bundle", "/verificationMaterial/timestampVerificationData",
			[]edit{{"/verificationMaterial/timestampVerificationData", map[string]any{"rfc3161Timestamps": []any{map[string]any{"signedTimestamp": "AAAA"}}}}}},
		{"unknown-member", "a member that bundle v0.3 does not have", "not a Sigstore bundle", []edit{{"/note", "hello"}}},
		{"null-member", "null, which protojson reads as absent", "not the canonical form of the bundle",
			[]edit{{"/verificationMaterial/timestampVerificationData", nil}}},
		{"empty-list", "an empty list, which protojson reads as absent", "not the canonical form of the bundle",
			[]edit{{"/verificationMaterial/tlogEntries", []any{}}}},
	} {
		refuse(c.name, c.why, c.names, apply(t, channel, c.edits...))
	}
	replace := func(from, to string) []byte {
		if !bytes.Contains(channel, []byte(from)) {
			t.Fatalf("the leaf has no %s", from)
		}
		return bytes.Replace(channel, []byte(from), []byte(to), 1)
	}
	refuse("original-name", "protobuf's own member name, which protojson reads too", "canonical form", replace(`"mediaType"`, `"media_type"`))
	refuse("white-space", "a space after a colon", "not in canonical form", replace(`"mediaType":`, `"mediaType": `))
	refuse("escape", "an escaped letter", "not in canonical form", replace(`"mediaType"`, `"medi\u0061Type"`))
	refuse("duplicate", "a member that stands twice", "/mediaType: the member stands twice", replace(`"mediaType":`, `"mediaType":"other","mediaType":`))
	refuse("base64url", "a signature in base64url, which protojson reads too", "not the canonical form of the bundle",
		apply(t, channel, edit{"/dsseEnvelope/signatures/0/sig", base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 64))}))
	refuse("no-padding", "a signature without base64 padding, which protojson reads too", "not the canonical form of the bundle",
		apply(t, channel, edit{"/dsseEnvelope/signatures/0/sig", base64.RawStdEncoding.EncodeToString(make([]byte, 64))}))
	refuse("order", "members in another order", "not in canonical form", reorder(t, channel))
	refuse("newline", "a newline after the bundle", "not in canonical form", append(bytes.Clone(channel), '\n'))
	refuse("empty", "nothing at all", "not JSON", nil)
	return out
}

func TestLeafVectors(t *testing.T) {
	vectors.Check(t, "leaf", leafVectors(t), func(v vectors.Vector) (map[string]any, error) {
		s, err := Parse(v.Bytes())
		if err != nil {
			var format *FormatError
			if !errors.As(err, &format) {
				t.Errorf("%s: %v is no FormatError", v.Name, err)
			}
			return nil, err
		}
		key, err := ParsePublicKeyPEM([]byte(v.String("key")))
		if err != nil {
			return nil, err
		}
		verdict := "valid"
		switch _, err := s.VerifyAny([]*PublicKey{key}); {
		case errors.Is(err, ErrUnknownKey):
			verdict = "unknown key"
		case errors.Is(err, ErrBadSignature):
			verdict = "bad signature"
		}
		return map[string]any{
			"identity":  s.ID.String(),
			"hint":      fmt.Sprintf("%x", s.Hint),
			"leafHash":  fmt.Sprintf("%x", s.LeafHash()),
			"signature": verdict,
		}, nil
	})
}

// reorder swaps the first two members of a leaf.
func reorder(t testing.TB, leaf []byte) []byte {
	t.Helper()
	i := bytes.Index(leaf, []byte(`,"mediaType"`))
	j := bytes.Index(leaf, []byte(`,"verificationMaterial"`))
	if i < 0 || j < i {
		t.Fatal("the leaf is not in the order that this test knows")
	}
	return fmt.Appendf(nil, "{%s,%s%s", leaf[i+1:j], leaf[1:i], leaf[j:])
}

// replaceSignature returns leaf with the signature of other.
func replaceSignature(t testing.TB, leaf, other []byte) []byte {
	t.Helper()
	s, err := Parse(other)
	if err != nil {
		t.Fatal(err)
	}
	return apply(t, leaf, edit{"/dsseEnvelope/signatures/0/sig", base64.StdEncoding.EncodeToString(s.signature)})
}

// membersOf returns the pointers to all object members of a document.
func membersOf(t testing.TB, document []byte) []string {
	t.Helper()
	var doc any
	if err := json.Unmarshal(document, &doc); err != nil {
		t.Fatal(err)
	}
	var out []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch x := v.(type) {
		case map[string]any:
			for name, member := range x {
				out = append(out, path+"/"+name)
				walk(path+"/"+name, member)
			}
		case []any:
			for i, e := range x {
				walk(path+"/"+strconv.Itoa(i), e)
			}
		}
	}
	walk("", doc)
	return out
}
