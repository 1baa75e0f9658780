package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

// TestFieldsDoNotRunTogether shows what the length before each field is for.
func TestFieldsDoNotRunTogether(t *testing.T) {
	base := UserDataInput{Platform: TPM, Challenge: NonceChallenge(sampleNonce), TLSKey: []byte("key"), LeafHash: [32]byte{1}}
	h := UserData(base)
	for name, change := range map[string]func(*UserDataInput){
		"platform":        func(in *UserDataInput) { in.Platform = TDX },
		"challenge":       func(in *UserDataInput) { in.Challenge[5] ^= 1 },
		"kind":            func(in *UserDataInput) { in.Challenge[0] = byCheckpoint },
		"TLS key":         func(in *UserDataInput) { in.TLSKey = []byte("another") },
		"HPKE key":        func(in *UserDataInput) { in.HPKEKey = []byte("key") },
		"device evidence": func(in *UserDataInput) { in.DeviceEvidence = []byte("key") },
		"leaf hash":       func(in *UserDataInput) { in.LeafHash[31] ^= 1 },
	} {
		in := base
		change(&in)
		if UserData(in) == h {
			t.Errorf("%s does not go into the user data", name)
		}
	}
	hpke, device := base, base
	hpke.HPKEKey, device.DeviceEvidence = []byte("x"), []byte("x")
	if UserData(hpke) == UserData(device) {
		t.Error("an HPKE key and device evidence are exchangeable")
	}
}

func TestDocumentUserData(t *testing.T) {
	d := sampleDocument(t, SEVSNP)
	leafHash := [32]byte{7}
	h, err := d.UserData(leafHash)
	if err != nil {
		t.Fatal(err)
	}
	want := UserData(UserDataInput{
		Platform: SEVSNP, Challenge: NonceChallenge(sampleNonce), TLSKey: d.TLSKey,
		HPKEKey: d.HPKEKey, DeviceEvidence: d.DeviceEvidence, LeafHash: leafHash,
	})
	if h != want {
		t.Error("the document's user data is not that of its members")
	}
	d.Challenge = ChallengeSource{}
	if _, err := d.UserData(leafHash); err == nil {
		t.Error("a document without challenge has user data")
	}
}

func TestMarshalRefuses(t *testing.T) {
	for name, change := range map[string]func(*Document){
		"no platform":      func(d *Document) { d.Platform = "" },
		"no challenge":     func(d *Document) { d.Challenge = ChallengeSource{} },
		"no key":           func(d *Document) { d.TLSKey = nil },
		"short report":     func(d *Document) { d.Report = d.Report[:1183] },
		"no release":       func(d *Document) { d.Release = nil },
		"release not JSON": func(d *Document) { d.Release = json.RawMessage("{") },
		"long release": func(d *Document) {
			d.Release = json.RawMessage(`{"x":"` + strings.Repeat("x", MaxTransparentBytes) + `"}`)
		},
		"many rebuilds":    func(d *Document) { d.Rebuilds = slices.Repeat([]json.RawMessage{statementJSON("x")}, MaxRebuilds+1) },
		"long endorsement": func(d *Document) { d.Endorsements[0].Data = make([]byte, maxEndorsementBytes+1) },
		"long device":      func(d *Document) { d.DeviceEvidence = make([]byte, maxDeviceBytes+1) },
		"long HPKE key":    func(d *Document) { d.HPKEKey = make([]byte, maxKeyBytes+1) },
		"long note": func(d *Document) {
			d.Challenge = ChallengeSource{Checkpoint: sampleNote + strings.Repeat("— a AAAA\n", 2000)}
		},
		"too much altogether": func(d *Document) {
			d.Rebuilds = slices.Repeat([]json.RawMessage{json.RawMessage(`{"x":"` + strings.Repeat("x", MaxTransparentBytes-100) + `"}`)}, 16)
		},
	} {
		d := sampleDocument(t, SEVSNP)
		change(d)
		if b, err := d.Marshal(); err == nil {
			t.Errorf("%s: wrote %d bytes", name, len(b))
		}
	}
	if _, err := ParseDocument(make([]byte, MaxDocumentBytes+1)); err == nil || !strings.Contains(err.Error(), "the limit is") {
		t.Errorf("a long document: %v", err)
	}
	if _, err := ParsePush(make([]byte, MaxPushBytes+1)); err == nil || !strings.Contains(err.Error(), "the limit is") {
		t.Errorf("a long push: %v", err)
	}
	many := &Push{Rebuilds: slices.Repeat([]json.RawMessage{json.RawMessage(`{"x":"` + strings.Repeat("x", MaxTransparentBytes-100) + `"}`)}, 9)}
	if b, err := many.Marshal(); err == nil {
		t.Errorf("a push of %d bytes is written", len(b))
	}
}

// TestMostThereMayBe shows that the limits on lists are those of the constants.
func TestMostThereMayBe(t *testing.T) {
	p := &Push{
		Rebuilds:    slices.Repeat([]json.RawMessage{statementJSON("x")}, MaxRebuilds),
		Withdrawals: slices.Repeat([]json.RawMessage{statementJSON("x")}, MaxWithdrawals),
	}
	d := sampleDocument(t, SEVSNP)
	d.Rebuilds, d.Withdrawals, d.Endorsements = p.Rebuilds, p.Withdrawals, nil
	for _, kind := range EndorsementTypes() {
		d.Endorsements = append(d.Endorsements, Endorsement{kind, []byte{1}})
	}
	p.Endorsements = d.Endorsements
	if _, err := ParsePush(marshal(t, p)); err != nil {
		t.Error(err)
	}
	if _, err := ParseDocument(marshal(t, d)); err != nil {
		t.Error(err)
	}
}

func TestEndorsementLookup(t *testing.T) {
	d := sampleDocument(t, TPM)
	if got := d.Endorsement(AKPublic); !bytes.Equal(got, bytesOf(90, "ak")) {
		t.Errorf("%x", got)
	}
	if got := d.Endorsement("vcek"); got != nil {
		t.Errorf("an endorsement that is not there: %x", got)
	}
}

func TestErrors(t *testing.T) {
	for code, status := range statuses {
		e := NewError(code, "why it is so: \"quoted\", \xff, "+strings.Repeat("long ", 2000))
		body := e.Marshal()
		if len(body) > MaxErrorBytes {
			t.Errorf("%s: a body of %d bytes", code, len(body))
		}
		read, err := ParseError(status, body)
		if err != nil || read.Code != code || read.Status != status || !strings.HasPrefix(read.Detail, "why it is so: \"quoted\", \ufffd") {
			t.Errorf("%s: %v, %v", code, read, err)
		}
		if _, err := ParseError(http.StatusTeapot, body); err == nil {
			t.Errorf("%s: accepted with another status", code)
		}
	}
	for name, body := range map[string]string{
		"empty":          "",
		"another code":   `{"code":"log/malformed","detail":"x"}`,
		"unknown member": `{"code":"node/attester","detail":"x","trust":1}`,
		"HTML":           "<html>",
		"long":           `{"code":"node/attester","detail":"` + strings.Repeat("x", MaxErrorBytes) + `"}`,
	} {
		if e, err := ParseError(http.StatusInternalServerError, []byte(body)); err == nil {
			t.Errorf("%s: %v", name, e)
		}
	}
}

// TestDocumented holds codes and endorsement types to docs/formats.md.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Evidence document")
	if !ok {
		t.Fatal("docs/formats.md has no section Evidence document")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	_, told, ok := strings.Cut(section, "Errors: HTTP status")
	if !ok {
		t.Fatal("docs/formats.md has no errors")
	}
	documented := map[string]bool{}
	for _, code := range regexp.MustCompile("`(node/[a-z-]+)`").FindAllStringSubmatch(told, -1) {
		documented[code[1]] = true
		if _, ok := statuses[code[1]]; !ok {
			t.Errorf("docs/formats.md has the code %s, the package has not", code[1])
		}
	}
	for code := range statuses {
		if !documented[code] {
			t.Errorf("docs/formats.md does not have the code %s", code)
		}
	}
	_, types, ok := strings.Cut(section, "endorsement types:")
	if !ok {
		t.Fatal("docs/formats.md has no endorsement types")
	}
	types, _, _ = strings.Cut(types, ". ")
	var listed []string
	for _, kind := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(types, -1) {
		listed = append(listed, kind[1])
	}
	if !slices.Equal(listed, EndorsementTypes()) {
		t.Errorf("docs/formats.md has the types %v, the package %v", listed, EndorsementTypes())
	}
}

func FuzzParseDocument(f *testing.F) {
	for _, input := range vectors.Inputs(f, "evidence") {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDocument(b)
		if err != nil {
			return
		}
		again, err := d.Marshal()
		if err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		d2, err := ParseDocument(again)
		if err != nil {
			t.Fatalf("read again: %v", err)
		}
		h, err1 := d.UserData(sha256.Sum256(b))
		h2, err2 := d2.UserData(sha256.Sum256(b))
		if err1 != nil || err2 != nil || h != h2 {
			t.Fatalf("user data changed: %v, %v", err1, err2)
		}
	})
}

func FuzzParsePush(f *testing.F) {
	for _, input := range vectors.Inputs(f, "push") {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePush(b)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%v is no Error", err)
			}
			if _, err := ParseError(e.Status, e.Marshal()); err != nil {
				t.Fatalf("the error cannot be told: %v", err)
			}
			return
		}
		again, err := p.Marshal()
		if err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		if _, err := ParsePush(again); err != nil {
			t.Fatalf("read again: %v", err)
		}
	})
}

func FuzzParseNonce(f *testing.F) {
	for _, input := range vectors.Inputs(f, "challenge") {
		f.Add(string(input))
	}
	f.Fuzz(func(t *testing.T, s string) {
		nonce, err := ParseNonce(s)
		if (err == nil) != (FormatNonce(nonce) == s && len(s) == 43) {
			t.Fatalf("%q: %v", s, err)
		}
	})
}

func FuzzParseError(f *testing.F) {
	f.Add(503, NewError(CodeNoStatement, "nothing was pushed yet").Marshal())
	f.Add(400, []byte(`{"code":"node/bad-push","detail":""}`))
	f.Add(400, []byte(`{"code":"node/bad-push"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e, err := ParseError(status, body)
		if err == nil && statuses[e.Code] != status {
			t.Fatalf("%v with status %d", e, status)
		}
	})
}
