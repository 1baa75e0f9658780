package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

// bytesOf are n bytes that everybody can make again.
func bytesOf(n int, name string) []byte {
	var out []byte
	for i := 0; len(out) < n; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "vitrine test bytes: %s %d", name, i))
		out = append(out, sum[:]...)
	}
	return out[:n]
}

func spki(t testing.TB) []byte {
	t.Helper()
	seed := sha256.Sum256([]byte("vitrine test key, not secret: tls"))
	b, err := x509.MarshalPKIXPublicKey(ed25519.NewKeyFromSeed(seed[:]).Public())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	sampleNonce = [32]byte(bytesOf(32, "nonce"))
	sampleNote  = "log.vitrine.example\n7\n" + base64.StdEncoding.EncodeToString(bytesOf(32, "root")) + "\n\n" +
		"— log.vitrine.example " + base64.StdEncoding.EncodeToString(bytesOf(68, "signature")) + "\n" +
		"— w1.vitrine.example " + base64.StdEncoding.EncodeToString(bytesOf(76, "cosignature")) + "\n"
)

// statementJSON stands for a transparent statement, which this package does not
// read.
func statementJSON(name string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(
		`{"format":"https://vitrine.dev/transparent-statement/v1","leaf":%q,"receipts":["c2sp.org/tlog-proof@v1\n…"]}`,
		base64.StdEncoding.EncodeToString([]byte(name))))
}

func sampleDocument(t testing.TB, platform string) *Document {
	d := &Document{
		Platform:  platform,
		Challenge: ChallengeSource{Nonce: sampleNonce[:]},
		TLSKey:    spki(t),
		Release:   statementJSON("release"),
	}
	switch platform {
	case SEVSNP:
		d.Report = bytesOf(1184, "report")
		d.Endorsements = []Endorsement{{"vcek", bytesOf(40, "vcek")}, {"ask", bytesOf(40, "ask")}, {"ark", bytesOf(40, "ark")}}
		d.Rebuilds = []json.RawMessage{statementJSON("rebuild 1"), statementJSON("rebuild 2")}
		d.Channel = statementJSON("channel")
		d.Withdrawals = []json.RawMessage{statementJSON("withdrawal")}
		d.DeviceEvidence = bytesOf(40, "device")
		d.HPKEKey = bytesOf(32, "hpke")
	case TPM:
		d.Challenge = ChallengeSource{Checkpoint: sampleNote}
		d.Quote = &Quote{Attest: bytesOf(129, "attest"), Signature: bytesOf(72, "signature")}
		d.Endorsements = []Endorsement{{AKPublic, bytesOf(90, "ak")}, {EventLog, bytesOf(60, "log")}}
	default:
		d.Report = bytesOf(200, platform)
	}
	return d
}

func marshal(t testing.TB, m interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A change replaces text in a document.
type change struct{ name, why, names, from, to string }

func faults(t testing.TB, document []byte, changes []change) []vectors.Vector {
	t.Helper()
	var out []vectors.Vector
	for _, c := range changes {
		if bytes.Count(document, []byte(c.from)) != 1 {
			t.Fatalf("%s: the document has not exactly one %s", c.name, c.from)
		}
		out = append(out, vectors.Vector{Name: c.name, Why: c.why, Error: c.names, Input: strings.Replace(string(document), c.from, c.to, 1)})
	}
	return out
}

func describeDocument(d *Document) map[string]any {
	leafHash := sha256.Sum256([]byte("\x00the release's leaf"))
	h, err := d.UserData(leafHash)
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	return map[string]any{
		"platform":     d.Platform,
		"endorsements": len(d.Endorsements),
		"rebuilds":     len(d.Rebuilds),
		"withdrawals":  len(d.Withdrawals),
		"channel":      d.Channel != nil,
		"userData":     hex.EncodeToString(h[:]), // for the leaf hash SHA-256(0x00 || "the release's leaf")
	}
}

func documentVectors(t testing.TB) []vectors.Vector {
	var out []vectors.Vector
	for _, platform := range []string{SEVSNP, TDX, Nitro, TPM} {
		d := sampleDocument(t, platform)
		out = append(out, vectors.Vector{
			Name: platform, Why: "a document of platform " + platform, Valid: true,
			Input: string(marshal(t, d)), Want: describeDocument(d),
		})
	}
	b64 := base64.StdEncoding.EncodeToString
	nonce := `"challenge":{"nonce":"` + b64(sampleNonce[:]) + `"}`
	report := b64(bytesOf(1184, "report"))
	note, _ := json.Marshal(sampleNote)
	endorsements := fmt.Sprintf(`"endorsements":[{"data":%q,"type":"vcek"},{"data":%q,"type":"ask"},{"data":%q,"type":"ark"}]`,
		b64(bytesOf(40, "vcek")), b64(bytesOf(40, "ask")), b64(bytesOf(40, "ark")))
	out = append(out, faults(t, marshal(t, sampleDocument(t, SEVSNP)), []change{
		{"format", "another version", "/format", "evidence/v1", "evidence/v2"},
		{"platform-unknown", "a platform that is not known", "/platform", `"platform":"sev-snp"`, `"platform":"sgx"`},
		{"platform-missing", "no platform", `"platform" is missing`, `"platform":"sev-snp",`, ""},
		{"unknown-member", "a member that is not known", "/verdict: unknown member", `"platform":`, `"verdict":"trust me","platform":`},
		{"duplicate", "a member that stands twice", "/platform: the member stands twice", `"platform":`, `"platform":"tpm","platform":`},
		{"null", "null in place of an absent member", "/channel: null", `"channel":` + string(statementJSON("channel")), `"channel":null`},
		{"challenge-missing", "no challenge", `"challenge" is missing`, nonce + ",", ""},
		{"challenge-empty", "neither nonce nor checkpoint", "/challenge: neither", nonce, `"challenge":{}`},
		{"challenge-both", "nonce and checkpoint", "/challenge: both", nonce, strings.TrimSuffix(nonce, "}") + `,"checkpoint":` + string(note) + "}"},
		{"nonce-short", "a nonce of 31 bytes", "/challenge/nonce", nonce, `"challenge":{"nonce":"` + b64(sampleNonce[:31]) + `"}`},
		{"nonce-base64url", "a nonce in base64url", "/challenge/nonce", nonce, `"challenge":{"nonce":"__________________________________________8="}`},
		{"checkpoint-unsigned", "a checkpoint without signatures", "/challenge/checkpoint", nonce, `"challenge":{"checkpoint":"log.vitrine.example\n7\nAAAA\n"}`},
		{"checkpoint-cut-off", "a checkpoint whose last line is not ended", "/challenge/checkpoint", nonce, `"challenge":{"checkpoint":` + strings.Replace(string(note), `\n"`, `"`, 1) + `}`},
		{"tls-key", "bytes that are no key", "/tlsKey", b64(spki(t)), b64([]byte("key"))},
		{"report-short", "a report that is cut off", "/report", report, b64(bytesOf(1183, "report"))},
		{"report-missing", "no report", `"report" is missing`, `,"report":"` + report + `"`, ""},
		{"quote-too", "a quote beside the report", "/quote", `"report":`, `"quote":{"attest":"AAAA","signature":"AAAA"},"report":`},
		{"endorsement-unknown", "a kind of endorsement that is not known", "/endorsements/2/type", `"type":"ark"`, `"type":"root"`},
		{"endorsement-twice", "a kind of endorsement twice", "/endorsements/2/type", `"type":"ark"`, `"type":"ask"`},
		{"endorsement-empty", "an endorsement of no bytes", "/endorsements/2/data", b64(bytesOf(40, "ark")), ""},
		{"endorsements-missing", "no list of endorsements", `"endorsements" is missing`, endorsements + ",", ""},
		{"rebuilds-empty", "an empty list where the member may be absent", "/rebuilds: empty", `"rebuilds":[` + string(statementJSON("rebuild 1")) + "," + string(statementJSON("rebuild 2")) + "]", `"rebuilds":[]`},
		{"release-missing", "no release", `"release" is missing`, `"release":` + string(statementJSON("release")) + ",", ""},
		{"release-string", "a release that is no object", "/release", string(statementJSON("release")), `"hello"`},
		{"release-duplicate", "a member that stands twice in a transparent statement", "/release/leaf: the member stands twice",
			string(statementJSON("release")), strings.Replace(string(statementJSON("release")), `"leaf":`, `"leaf":"AAAA","leaf":`, 1)},
		{"device-base64", "device evidence without padding", "/deviceEvidence", `"deviceEvidence":"` + b64(bytesOf(40, "device")), `"deviceEvidence":"` + strings.TrimRight(b64(bytesOf(40, "device")), "=")},
		{"hpke-empty", "an empty key where the member may be absent", "/hpkeKey", b64(bytesOf(32, "hpke")), ""},
	})...)
	out = append(out, faults(t, marshal(t, sampleDocument(t, TPM)), []change{
		{"tpm-report", "a report in place of the quote", "/quote", `"platform":"tpm"`, `"platform":"tdx"`},
		{"tpm-report-too", "a report beside the quote", "/report", `"quote":`, `"report":"AAAA","quote":`},
		{"tpm-quote-missing", "no quote", `"quote" is missing`, `"quote":{"attest":"` + b64(bytesOf(129, "attest")) + `","signature":"` + b64(bytesOf(72, "signature")) + `"},`, ""},
		{"tpm-signature-missing", "a quote without signature", `/quote: member "signature" is missing`, `,"signature":"` + b64(bytesOf(72, "signature")) + `"`, ""},
		{"tpm-attest-empty", "a quote of no bytes", "/quote/attest", b64(bytesOf(129, "attest")), ""},
	})...)
	return append(out,
		vectors.Vector{Name: "empty", Why: "nothing at all", Error: "not JSON"},
		vectors.Vector{Name: "trailing", Why: "two documents", Error: "something follows", Input: string(marshal(t, sampleDocument(t, TDX))) + "{}"},
		vectors.Vector{Name: "bad-utf8", Why: "a byte that is not UTF-8", Error: "/format", InputBase64: []byte("{\"format\":\"\xff\"}")},
	)
}

func TestDocumentVectors(t *testing.T) {
	vectors.Check(t, "evidence", documentVectors(t), func(v vectors.Vector) (map[string]any, error) {
		d, err := ParseDocument(v.Bytes())
		if err != nil {
			var format *FormatError
			if !errors.As(err, &format) {
				t.Errorf("%s: %v is no FormatError", v.Name, err)
			}
			return nil, err
		}
		if again := marshal(t, d); string(again) != v.Input {
			t.Errorf("%s: written again it is %s", v.Name, again)
		}
		return describeDocument(d), nil
	})
}

func describePush(p *Push) map[string]any {
	return map[string]any{
		"release": p.Release != nil, "rebuilds": len(p.Rebuilds), "channel": p.Channel != nil,
		"withdrawals": len(p.Withdrawals), "checkpoint": p.Checkpoint != "", "endorsements": len(p.Endorsements),
	}
}

func pushVectors(t testing.TB) []vectors.Vector {
	full := &Push{
		Release:      statementJSON("release"),
		Rebuilds:     []json.RawMessage{statementJSON("rebuild")},
		Channel:      statementJSON("channel"),
		Withdrawals:  []json.RawMessage{statementJSON("withdrawal")},
		Checkpoint:   sampleNote,
		Endorsements: []Endorsement{{"vcek", bytesOf(40, "vcek")}},
	}
	checkpoint := &Push{Checkpoint: sampleNote}
	out := []vectors.Vector{
		{Name: "full", Why: "every member", Valid: true, Input: string(marshal(t, full)), Want: describePush(full)},
		{Name: "checkpoint", Why: "a newer checkpoint alone", Valid: true, Input: string(marshal(t, checkpoint)), Want: describePush(checkpoint)},
	}
	note, _ := json.Marshal(sampleNote)
	out = append(out, faults(t, marshal(t, full), []change{
		{"format", "another version", "/format", "push/v1", "push/v2"},
		{"unknown-member", "a member that is not known", "/platform: unknown member", `"format":"https://vitrine.dev/push/v1"`, `"format":"https://vitrine.dev/push/v1","platform":"tpm"`},
		{"duplicate", "a member that stands twice", "/checkpoint: the member stands twice", `"checkpoint":`, `"checkpoint":"hello","checkpoint":`},
		{"checkpoint-form", "a checkpoint that is no signed note", "/checkpoint", string(note), `"hello"`},
		{"checkpoint-empty", "an empty text where the member may be absent", "/checkpoint: empty", string(note), `""`},
		{"rebuilds-many", "65 rebuilds", "/rebuilds", string(statementJSON("rebuild")), strings.Repeat("{},", 64) + "{}"},
		{"withdrawals-many", "65 withdrawals", "/withdrawals", string(statementJSON("withdrawal")), strings.Repeat("{},", 64) + "{}"},
		{"withdrawal-list", "a withdrawal that is no object", "/withdrawals/0", string(statementJSON("withdrawal")), "[]"},
		{"release-null", "null in place of an absent member", "/release: null", `"release":` + string(statementJSON("release")), `"release":null`},
		{"endorsement-unknown", "a kind of endorsement that is not known", "/endorsements/0/type", `"vcek"`, `"VCEK"`},
	})...)
	return append(out,
		vectors.Vector{Name: "nothing", Why: "no member", Error: "nothing in it", Input: `{"format":"https://vitrine.dev/push/v1"}`},
		vectors.Vector{Name: "empty", Why: "nothing at all", Error: "not JSON"},
		vectors.Vector{Name: "cut-off", Why: "half a push", Error: "not JSON", Input: string(marshal(t, full)[:300])},
	)
}

func TestPushVectors(t *testing.T) {
	vectors.Check(t, "push", pushVectors(t), func(v vectors.Vector) (map[string]any, error) {
		p, err := ParsePush(v.Bytes())
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Code != CodeBadPush || e.Status != 400 {
				t.Errorf("%s: %v is no %s", v.Name, err, CodeBadPush)
			}
			return nil, err
		}
		return describePush(p), nil
	})
}

func TestChallengeVectors(t *testing.T) {
	text := FormatNonce(sampleNonce)
	made := []vectors.Vector{
		{Name: "nonce", Why: "0x01 and the nonce; the input is as it stands in a URL", Valid: true, Given: map[string]any{"kind": "nonce"}, Input: text,
			Want: map[string]any{"challenge": "01" + hex.EncodeToString(sampleNonce[:])}},
		{Name: "checkpoint", Why: "0x02 and the SHA-256 of the note, cosignature lines included", Valid: true, Given: map[string]any{"kind": "checkpoint"}, Input: sampleNote,
			Want: map[string]any{"challenge": fmt.Sprintf("02%x", sha256.Sum256([]byte(sampleNote)))}},
		{Name: "nonce-empty", Why: "no nonce", Error: CodeBadNonce, Given: map[string]any{"kind": "nonce"}},
		{Name: "nonce-short", Why: "31 bytes", Error: CodeBadNonce, Given: map[string]any{"kind": "nonce"}, Input: base64.RawURLEncoding.EncodeToString(sampleNonce[:31])},
		{Name: "nonce-long", Why: "33 bytes", Error: CodeBadNonce, Given: map[string]any{"kind": "nonce"}, Input: base64.RawURLEncoding.EncodeToString(bytesOf(33, "nonce"))},
		{Name: "nonce-padding", Why: "base64url with padding", Error: CodeBadNonce, Given: map[string]any{"kind": "nonce"}, Input: text + "="},
		{Name: "nonce-standard", Why: "standard base64", Error: CodeBadNonce, Given: map[string]any{"kind": "nonce"}, Input: strings.Repeat("/", 42) + "8"},
		{Name: "nonce-bits", Why: "stray bits, which a lax reader drops", Error: CodeBadNonce, Given: map[string]any{"kind": "nonce"}, Input: strings.Repeat("A", 42) + "B"},
		{Name: "nonce-newline", Why: "a line break, which a lax reader drops", Error: CodeBadNonce, Given: map[string]any{"kind": "nonce"}, Input: text[:20] + "\n" + text[20:]},
		{Name: "checkpoint-form", Why: "no signed note", Error: "/challenge/checkpoint", Given: map[string]any{"kind": "checkpoint"}, Input: "hello"},
	}
	vectors.Check(t, "challenge", made, func(v vectors.Vector) (map[string]any, error) {
		var c Challenge
		if v.String("kind") == "nonce" {
			nonce, err := ParseNonce(v.Input)
			if err != nil {
				return nil, err
			}
			c = NonceChallenge(nonce)
		} else {
			var err error
			if c, err = (ChallengeSource{Checkpoint: v.Input}).Challenge(); err != nil {
				return nil, err
			}
		}
		return map[string]any{"challenge": hex.EncodeToString(c[:])}, nil
	})
}

func TestUserDataVectors(t *testing.T) {
	challenge := NonceChallenge(sampleNonce)
	leafHash := bytesOf(32, "leaf hash")
	given := func(platform string, more ...string) map[string]any {
		g := map[string]any{
			"platform": platform, "challenge": hex.EncodeToString(challenge[:]), "tlsKey": hex.EncodeToString(spki(t)),
			"hpkeKey": "", "deviceEvidence": "", "leafHash": hex.EncodeToString(leafHash),
		}
		for _, name := range more {
			g[name] = hex.EncodeToString(bytesOf(32, name))
		}
		return g
	}
	byCheckpoint := given(TPM)
	c := CheckpointChallenge([]byte(sampleNote))
	byCheckpoint["challenge"] = hex.EncodeToString(c[:])
	made := []vectors.Vector{
		{Name: "sev-snp", Why: "TLS key alone", Valid: true, Given: given(SEVSNP)},
		{Name: "tdx", Why: "another platform, all else equal", Valid: true, Given: given(TDX)},
		{Name: "nitro", Why: "another platform, all else equal", Valid: true, Given: given(Nitro)},
		{Name: "tpm", Why: "another platform; extraData is SHA-256 of H", Valid: true, Given: given(TPM)},
		{Name: "checkpoint", Why: "a challenge by checkpoint", Valid: true, Given: byCheckpoint},
		{Name: "hpke", Why: "with an HPKE key", Valid: true, Given: given(SEVSNP, "hpkeKey")},
		{Name: "device", Why: "with device evidence", Valid: true, Given: given(SEVSNP, "deviceEvidence")},
		{Name: "all", Why: "with both", Valid: true, Given: given(SEVSNP, "hpkeKey", "deviceEvidence")},
	}
	seen := map[string]string{}
	compute := func(v vectors.Vector) map[string]any {
		part := func(name string) []byte {
			b, err := hex.DecodeString(v.String(name))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		h := UserData(UserDataInput{
			Platform: v.String("platform"), Challenge: Challenge(part("challenge")), TLSKey: part("tlsKey"),
			HPKEKey: part("hpkeKey"), DeviceEvidence: part("deviceEvidence"), LeafHash: [32]byte(part("leafHash")),
		})
		want := map[string]any{"userData": hex.EncodeToString(h[:])}
		if v.String("platform") == TPM {
			q := QuoteData(h)
			want["extraData"] = hex.EncodeToString(q[:])
		}
		return want
	}
	for i, v := range made {
		made[i].Want = compute(v)
		h := made[i].Want["userData"].(string)
		if other := seen[h]; other != "" {
			t.Errorf("%s and %s have the same user data", v.Name, other)
		}
		seen[h] = v.Name
	}
	vectors.Check(t, "user-data", made, func(v vectors.Vector) (map[string]any, error) { return compute(v), nil })
}

func TestGPUNonceVectors(t *testing.T) {
	nonce, checkpoint := NonceChallenge(sampleNonce), CheckpointChallenge([]byte(sampleNote))
	compute := func(v vectors.Vector) map[string]any {
		challenge, err := hex.DecodeString(v.String("challenge"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := hex.DecodeString(v.String("tlsKey"))
		if err != nil {
			t.Fatal(err)
		}
		n := GPUNonce(Challenge(challenge), key)
		return map[string]any{"gpuNonce": hex.EncodeToString(n[:])}
	}
	made := []vectors.Vector{
		{Name: "nonce", Why: "a challenge by nonce", Valid: true, Given: map[string]any{"challenge": hex.EncodeToString(nonce[:]), "tlsKey": hex.EncodeToString(spki(t))}},
		{Name: "checkpoint", Why: "a challenge by checkpoint", Valid: true, Given: map[string]any{"challenge": hex.EncodeToString(checkpoint[:]), "tlsKey": hex.EncodeToString(spki(t))}},
	}
	for i := range made {
		made[i].Want = compute(made[i])
	}
	vectors.Check(t, "gpu-nonce", made, func(v vectors.Vector) (map[string]any, error) { return compute(v), nil })
}
