package receipt

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/vectors"
)

func describePolicy(p *Policy) map[string]any {
	want := map[string]any{
		"origin":    p.Origin(),
		"logURL":    p.LogURL(),
		"witnesses": len(p.Witnesses()),
	}
	if text, err := p.TesseraWitnessPolicy(); err == nil {
		want["tesseraWitnessPolicy"] = string(text)
	}
	return want
}

func policyVectors(t testing.TB) []vectors.Vector {
	var out []vectors.Vector
	accept := func(name, why, text string) {
		p := mustPolicy(t, text)
		out = append(out, vectors.Vector{
			Name: name, Why: why, Valid: true, Input: text,
			Given: map[string]any{"unwitnessed": p.Unwitnessed()}, Want: describePolicy(p),
		})
	}
	refuse := func(name, why, names, text string) {
		out = append(out, vectors.Vector{
			Name: name, Why: why, Error: names, Input: text,
			Given: map[string]any{"unwitnessed": name == "unwitnessed-with-quorum"},
		})
	}
	logLine := "log " + testLog.vkey() + "\n"
	accept("one-witness", "a quorum of one witness", logLine+"witness w1 "+w1.vkey()+" https://w1.vitrine.example/prefix\nquorum w1\n")
	accept("two-of-three", "a group with a number", policyText("group two 2 w1 w2 w3", "quorum two"))
	accept("all", "a group of all its members", policyText("group both all w1 w2", "quorum both"))
	accept("any", "a group of any of its members", policyText("group some any w1 w2 w3", "quorum some"))
	accept("groups-of-groups", "a group in a group",
		strings.Replace(policyText("group pair all w1 w2", "group either 1 pair w3", "quorum either"), w3.vkey(), w3.vkey()+" https://w3.vitrine.example/", 1))
	accept("white-space", "tabs, blanks and comments", "\t# a comment\n\n  log\t"+testLog.vkey()+"  \n \t \nwitness w1 "+w1.vkey()+"\n#quorum w2\nquorum\tw1\t\n")
	accept("name-beyond-ascii", "a witness's name is opaque", logLine+"witness žába "+w1.vkey()+"\nquorum žába\n")
	accept("none", "no witness, said in two places", logLine+"quorum none\n")

	head := policyText()
	head = head[:len(head)-1] // without the empty tail line
	for _, c := range []struct{ name, why, names, text string }{
		{"empty", "nothing at all", "does not end with a newline", ""},
		{"blank", "one empty line", "names no log", "\n"},
		{"cut-off", "the last line is not ended", "does not end with a newline", head + "quorum w1"},
		{"no-log", "no log", "names no log", "witness w1 " + w1.vkey() + "\nquorum w1\n"},
		{"two-logs", "two logs", "line 2 of the policy: a second log", logLine + "log " + newTestKey("other.example", algEd25519).vkey() + "\nquorum none\n"},
		{"no-quorum", "no quorum", "has no quorum", head},
		{"two-quorums", "two quorums, even the same", "line 7 of the policy: a second quorum", head + "quorum w1\nquorum w1\n"},
		{"none-not-said", "quorum none, and no unwitnessed: true beside it", "quorum none", logLine + "quorum none\n"},
		{"unwitnessed-with-quorum", "unwitnessed: true beside a quorum", "unwitnessed: true", head + "quorum w1\n"},
		{"quorum-undefined", "a quorum that nothing defines", "line 6 of the policy: the quorum", head + "quorum w4\n"},
		{"quorum-before", "a quorum defined after its use", "line 2 of the policy: the quorum", logLine + "quorum w1\nwitness w1 " + w1.vkey() + "\n"},
		{"quorum-words", "two names in a quorum", "line 6 of the policy: a quorum is written", head + "quorum w1 w2\n"},
		{"member-undefined", "a member that nothing defines", "line 6 of the policy: group g has the member", head + "group g any w4\nquorum g\n"},
		{"member-later", "a member defined after its use", "line 6 of the policy: group g has the member", head + "group g any h\ngroup h any w1\nquorum g\n"},
		{"member-itself", "a group in itself", "line 6 of the policy: group g has the member", head + "group g any g\nquorum g\n"},
		{"member-none", "none as a member", "line 6 of the policy: group g has the member", head + "group g any none\nquorum g\n"},
		{"member-twice", "a member twice in one group", "line 6 of the policy: w1 is already a member", head + "group g 2 w1 w1\nquorum g\n"},
		{"member-of-two", "a member of two groups", "line 7 of the policy: w1 is already a member", head + "group g all w1 w2\ngroup h all w1 w3\nquorum h\n"},
		{"threshold-zero", "a threshold of 0", "line 6 of the policy: the threshold", head + "group g 0 w1\nquorum g\n"},
		{"threshold-high", "a threshold above the number of members", "line 6 of the policy: the threshold", head + "group g 3 w1 w2\nquorum g\n"},
		{"threshold-form", "a leading zero", "line 6 of the policy: the threshold", head + "group g 01 w1\nquorum g\n"},
		{"threshold-sign", "a sign", "line 6 of the policy: the threshold", head + "group g +1 w1\nquorum g\n"},
		{"threshold-missing", "no threshold", "line 6 of the policy: the threshold", head + "group g w1 w2\nquorum g\n"},
		{"group-empty", "a group without members", "line 6 of the policy: a group is written", head + "group g all\nquorum g\n"},
		{"name-twice", "two witnesses of one name", "line 3 of the policy: the name", logLine + "witness w " + w1.vkey() + "\nwitness w " + w2.vkey() + "\nquorum w\n"},
		{"name-group", "a group with a witness's name", "line 6 of the policy: the name", head + "group w1 any w2\nquorum w1\n"},
		{"name-reserved", "a witness called none", "line 2 of the policy: the name", logLine + "witness none " + w1.vkey() + "\nquorum none\n"},
		{"key-twice", "one public key under two names", "line 3 of the policy: witness w2 has the public key of witness w1", logLine + "witness w1 " + w1.vkey() + "\nwitness w2 " + testKey{"another.example", algCosignature, w1.key}.vkey() + "\nquorum w1\n"},
		{"key-of-log", "the log is its own witness", "line 2 of the policy: witness w1 has the public key of the log", logLine + "witness w1 " + testKey{"w1.vitrine.example", algCosignature, testLog.key}.vkey() + "\nquorum w1\n"},
		{"log-key-type", "a cosignature key for the log", "line 1 of the policy: the key of log.vitrine.example has signature type 0x04", "log " + testKey{testLog.name, algCosignature, testLog.key}.vkey() + "\nquorum none\n"},
		{"witness-key-type", "a log's kind of key for a witness: no time in its signature", "line 2 of the policy: the key of w1.vitrine.example has signature type 0x01", logLine + "witness w1 " + testKey{w1.name, algEd25519, w1.key}.vkey() + "\nquorum w1\n"},
		{"witness-key-ml-dsa", "a type of key that is not known", "signature type 0x06", logLine + "witness w1 " + testKey{w1.name, 0x06, w1.key}.vkey() + "\nquorum w1\n"},
		{"vkey-hash", "a vkey whose hash is another key's", "line 2 of the policy: the key of witness w1", logLine + "witness w1 " + strings.Replace(w1.vkey(), w1.vkey()[len(w1.name)+1:len(w1.name)+9], "00000000", 1) + "\nquorum w1\n"},
		{"log-vkey-hash", "the log's vkey with a hash that is another key's", "line 1 of the policy: the log's key", strings.Replace(logLine, testLog.vkey()[len(testLog.name)+1:len(testLog.name)+9], "00000000", 1) + "quorum none\n"},
		{"vkey-form", "no vkey", "is not a vkey", logLine + "witness w1 https://w1.vitrine.example/\nquorum w1\n"},
		{"vkey-short", "a key of 31 bytes", "31 bytes", logLine + "witness w1 w1.vitrine.example+00000000+" + base64.StdEncoding.EncodeToString(w1.raw()[:32]) + "\nquorum w1\n"},
		{"vkey-padding", "a vkey without base64 padding", "is not a vkey", logLine + "witness w1 " + strings.TrimRight(w1.vkey()[:len(w1.vkey())-1], "=") + "\nquorum w1\n"},
		{"keyword", "a keyword that is not known", "line 6 of the policy: unknown keyword", head + "timeout 5s\nquorum w1\n"},
		{"keyword-case", "a keyword in other case", "line 2 of the policy: unknown keyword", logLine + "Witness w1 " + w1.vkey() + "\nquorum w1\n"},
		{"carriage-return", "lines that end as on Windows", "line 1 of the policy: has the control character U+000D", strings.ReplaceAll(head+"quorum w1\n", "\n", "\r\n")},
		{"no-break-space", "a space that is none of the two", "line 6 of the policy: unknown keyword", head + "quorum\u00a0w1\n"},
		{"comment-after", "a comment after other words", "line 6 of the policy: has a '#'", head + "quorum w1 # one\n"},
		{"witness-words", "a word too many", "line 2 of the policy: a witness is written", logLine + "witness w1 " + w1.vkey() + " https://w1.vitrine.example/ https://w1.vitrine.example/\nquorum w1\n"},
		{"url-scheme", "a URL that is not http", "line 1 of the policy: \"ftp://", "log " + testLog.vkey() + " ftp://log.vitrine.example/\nquorum none\n"},
		{"url-user", "a URL with a password", "line 1 of the policy: \"https://", "log " + testLog.vkey() + " https://me:secret@log.vitrine.example/\nquorum none\n"},
		{"url-query", "a URL with a query", "line 2 of the policy: \"https://", logLine + "witness w1 " + w1.vkey() + " https://w1.vitrine.example/?a=b\nquorum w1\n"},
		{"many-witnesses", "33 witnesses", "line 34 of the policy: more than 32 witnesses", logLine + manyWitnesses(33) + "quorum x0\n"},
	} {
		refuse(c.name, c.why, c.names, c.text)
	}
	out = append(out, vectors.Vector{
		Name: "bad-utf8", Why: "a name that is not UTF-8, which JSON and YAML cannot carry", Error: "line 2 of the policy: not UTF-8",
		Given: map[string]any{"unwitnessed": false}, InputBase64: []byte(logLine + "witness w\xff " + w1.vkey() + "\nquorum w\xff\n"),
	})
	return out
}

func manyWitnesses(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "witness x%d %s\n", i, newTestKey(fmt.Sprintf("x%d.vitrine.example", i), algCosignature).vkey())
	}
	return b.String()
}

func TestPolicyVectors(t *testing.T) {
	vectors.Check(t, "policy-tlog", policyVectors(t), func(v vectors.Vector) (map[string]any, error) {
		p, err := ParsePolicy(string(v.Bytes()), v.Given["unwitnessed"].(bool))
		if err != nil {
			if kindOf(err) != Malformed {
				t.Errorf("%s: %v is not Malformed", v.Name, err)
			}
			return nil, err
		}
		return describePolicy(p), nil
	})
}

func describeReceipt(r *Receipt) map[string]any {
	return map[string]any{
		"index":     r.Index,
		"size":      r.Size,
		"root":      fmt.Sprintf("%x", r.Root),
		"freshness": r.Freshness.Format(time.RFC3339),
		"seniority": r.Seniority.Format(time.RFC3339),
		"cosigners": strings.Join(strings.Fields(r.cosigners()), " "),
	}
}

func receiptVectors(t testing.TB) []vectors.Vector {
	var out []vectors.Vector
	twoOfThree := policyText("group two 2 w1 w2 w3", "quorum two")
	leaf := sampleLeaves()[sampleIndex]
	given := func(policy string, leaf []byte) map[string]any {
		return map[string]any{
			"policy":      policy,
			"unwitnessed": strings.Contains(policy, "quorum none"),
			"leaf":        string(leaf),
			"now":         testNow.Format(time.RFC3339),
		}
	}
	accept := func(name, why, policy string, receipt []byte) {
		r, err := mustPolicy(t, policy).Verify(leaf, receipt, testNow)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, vectors.Vector{Name: name, Why: why, Valid: true, Given: given(policy, leaf), Input: string(receipt), Want: describeReceipt(r)})
	}
	refuse := func(name, why string, kind Kind, receipt []byte) {
		out = append(out, vectors.Vector{Name: name, Why: why, Error: string(kind), Given: given(twoOfThree, leaf), Input: string(receipt)})
	}
	hour, minute := w1.at(ago(time.Hour)), w2.at(ago(time.Minute))
	good := sampleReceipt(t, testLog.sign, hour, minute)
	edit := func(from, to string) []byte {
		if !bytes.Contains(good, []byte(from)) {
			t.Fatalf("the receipt has no %q", from)
		}
		return bytes.Replace(good, []byte(from), []byte(to), 1)
	}

	accept("two-of-three", "two cosignatures: fresh as the older, senior as the newer", twoOfThree, good)
	accept("three-of-three", "three cosignatures: fresh as the second newest, senior as the second oldest", twoOfThree,
		sampleReceipt(t, testLog.sign, w3.at(ago(25*time.Hour)), hour, minute))
	accept("groups-of-groups", "the pair gives freshness, the third witness seniority",
		policyText("group pair all w1 w2", "group either any pair w3", "quorum either"),
		sampleReceipt(t, testLog.sign, w3.at(ago(25*time.Hour)), hour, minute))
	accept("one-witness", "a quorum of one", policyText("quorum w2"), good)
	accept("unknown-keys", "lines by keys that the policy does not name are for others", twoOfThree,
		sampleReceipt(t, newTestKey("other.example", algEd25519).sign, hour, newTestKey("w4.vitrine.example", algCosignature).at(testNow), testLog.sign, minute))
	accept("one-from-the-future", "61 s ahead counts for nothing; two others do", twoOfThree,
		sampleReceipt(t, testLog.sign, hour, minute, w3.at(testNow.Add(61*time.Second))))
	accept("within-tolerance", "60 s ahead counts", twoOfThree, sampleReceipt(t, testLog.sign, hour, w3.at(testNow.Add(60*time.Second))))
	accept("unwitnessed", "no quorum proves a time: as stale and as young as can be", "log "+testLog.vkey()+"\nquorum none\n", good)

	refuse("empty", "nothing at all", Malformed, nil)
	refuse("header", "another version", Malformed, edit("tlog-proof@v1", "tlog-proof@v2"))
	refuse("extra", "extra data, which nothing authenticates", Malformed, edit("\nindex", "\nextra AAAA\nindex"))
	refuse("index-missing", "no index", Malformed, edit("index 4\n", ""))
	refuse("index-zero", "a leading zero", Malformed, edit("index 4", "index 04"))
	refuse("index-negative", "a negative index", Malformed, edit("index 4", "index -4"))
	refuse("index-beyond", "an index beyond the tree", Malformed, edit("index 4", "index 7"))
	refuse("carriage-return", "lines that end as on Windows", Malformed, bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")))
	firstHash := strings.Split(string(good), "\n")[2]
	refuse("hash-short", "a proof line of 31 bytes", Malformed, edit(firstHash, base64.StdEncoding.EncodeToString(make([]byte, 31))))
	refuse("hash-bits", "a proof line with stray bits, which a lax base64 reader drops", Malformed, edit(firstHash, firstHash[:42]+string(firstHash[42]+1)+"="))
	refuse("hash-many", "64 proof lines", Malformed, edit(firstHash, strings.Repeat(firstHash+"\n", 63)+firstHash))
	refuse("no-note", "no checkpoint", Malformed, good[:bytes.Index(good, []byte("\n\n"))+1])
	refuse("cut-off", "the last line is not ended", Malformed, good[:len(good)-1])
	refuse("trailing", "a line that is no signature", Malformed, append(bytes.Clone(good), "hello\n"...))
	refuse("blank-at-end", "an empty line at the end", Malformed, append(bytes.Clone(good), '\n'))
	refuse("hyphen", "a hyphen in place of the dash", Malformed, edit("— w1", "- w1"))
	refuse("two-spaces", "two spaces after a key's name", Malformed, edit("— w1.vitrine.example ", "— w1.vitrine.example  "))
	refuse("note-size", "a leading zero in the tree's size", Malformed, edit("\n7\n", "\n07\n"))
	refuse("note-control", "a control character", Malformed, edit("\n7\n", "\n7\n\x00"))
	refuse("twice", "a witness's line twice", Malformed, sampleReceipt(t, testLog.sign, hour, hour))
	refuse("twice-other-time", "two lines by one witness, of two times", Malformed, sampleReceipt(t, testLog.sign, hour, w1.at(ago(time.Minute))))
	refuse("signatures-many", "65 signature lines", Malformed, sampleReceipt(t, append(manyCosignatures(62), testLog.sign, hour, minute)...))

	other := newTestKey("other.example", algEd25519)
	refuse("wrong-log", "another log's checkpoint", WrongLog, bytes.Replace(good, []byte("\n"+testLog.name+"\n"), []byte("\nother.example\n"), 1))
	refuse("wrong-origin", "another log's checkpoint that this one signed too", WrongLog, signedAs(t, "other.example", testLog.sign, hour, minute))
	refuse("log-unsigned", "not signed by the log", LogSignature, sampleReceipt(t, hour, minute))
	refuse("log-other-key", "signed by another key of the log's name", LogSignature, sampleReceipt(t, testKey{testLog.name, algEd25519, other.key}.sign, hour, minute))
	refuse("log-forged", "signed by another key under the log's name and hash", LogSignature, sampleReceipt(t, forge(testLog, other).sign, hour, minute))
	refuse("root", "another root than was signed", LogSignature, editRoot(t, good))

	refuse("no-witness", "no cosignature", Quorum, sampleReceipt(t, testLog.sign))
	refuse("one-witness-missing", "one cosignature of two", Quorum, sampleReceipt(t, testLog.sign, hour))
	refuse("strangers", "enough cosignatures, by others", Quorum, sampleReceipt(t, append(manyCosignatures(3), testLog.sign, hour)...))
	refuse("witness-forged", "a bad cosignature is not skipped, even where there are enough", Quorum,
		sampleReceipt(t, testLog.sign, hour, minute, forge(w3, other).at(ago(time.Minute))))
	refuse("witness-other-text", "a cosignature on another checkpoint", Quorum,
		sampleReceipt(t, testLog.sign, hour, func(string) string { return w2.cosign(testLog.name+"\n1\n"+firstHash+"\n", ago(time.Minute)) }))
	refuse("witness-redated", "a cosignature with another time than was signed", Quorum, sampleReceipt(t, testLog.sign, hour, redate(w2, ago(time.Hour), testNow)))
	refuse("witness-undated", "a cosignature of the time 0 counts for nothing", Quorum, sampleReceipt(t, testLog.sign, hour, w2.at(time.Unix(0, 0))))
	refuse("witness-plain", "a witness's plain signature, without time", Quorum, sampleReceipt(t, testLog.sign, hour, testKey{w2.name, algEd25519, w2.key}.sign))
	refuse("future", "the quorum rests on a cosignature 61 s ahead", Future, sampleReceipt(t, testLog.sign, hour, w2.at(testNow.Add(61*time.Second))))
	refuse("far-future", "a time beyond 63 bits", Future, sampleReceipt(t, testLog.sign, hour, func(text string) string { return w2.cosignUnix(text, 1<<63) }))

	refuse("other-index", "the proof of another index", Inclusion, edit("index 4", "index 5"))
	refuse("hash-changed", "a proof line changed", Inclusion, edit(firstHash, tlog.Hash{1}.String()))
	refuse("hash-missing", "a proof line too few", Inclusion, edit(firstHash+"\n", ""))
	refuse("hash-too-many", "a proof line too many", Inclusion, edit(firstHash+"\n", firstHash+"\n"+firstHash+"\n"))
	out = append(out, vectors.Vector{Name: "other-leaf", Why: "another leaf", Error: string(Inclusion), Given: given(twoOfThree, []byte("leaf 5")), Input: string(good)})
	return out
}

func TestReceiptVectors(t *testing.T) {
	vectors.Check(t, "receipt", receiptVectors(t), func(v vectors.Vector) (map[string]any, error) {
		policy, err := ParsePolicy(v.String("policy"), v.Given["unwitnessed"].(bool))
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.Parse(time.RFC3339, v.String("now"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := policy.Verify([]byte(v.String("leaf")), v.Bytes(), now)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%s: %v is no Error", v.Name, err)
			}
			// The kind is what a receipt's vector names, and it is exact.
			return nil, errors.New(string(e.Kind))
		}
		return describeReceipt(r), nil
	})
}

func transparentVectors(t testing.TB) []vectors.Vector {
	leaf := sampleLeaves()[sampleIndex]
	receipts := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, string(sampleReceipt(t, testLog.sign, w1.at(ago(time.Duration(n-i)*time.Hour)))))
		}
		return out
	}
	valid := func(n int) []byte {
		b, err := (&Transparent{Leaf: leaf, Receipts: receipts(n)}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	out := []vectors.Vector{
		{Name: "one", Why: "one receipt", Valid: true, Input: string(valid(1)), Want: map[string]any{"leaf": string(leaf), "receipts": 1}},
		{Name: "eight", Why: "as many as there may be", Valid: true, Input: string(valid(8)), Want: map[string]any{"leaf": string(leaf), "receipts": 8}},
		{Name: "white-space", Why: "this file is not signed, and may be laid out for people", Valid: true,
			Input: strings.ReplaceAll(string(valid(1)), `,"`, ",\n  \""), Want: map[string]any{"leaf": string(leaf), "receipts": 1}},
	}
	replace := func(from, to string) string {
		if !strings.Contains(string(valid(1)), from) {
			t.Fatalf("the transparent statement has no %s", from)
		}
		return strings.Replace(string(valid(1)), from, to, 1)
	}
	list := func(receipts string) string {
		s := string(valid(1))
		return s[:strings.Index(s, `"receipts":`)] + `"receipts":` + receipts + "}"
	}
	one := string(valid(1))
	quoted := one[strings.Index(one, `"receipts":[`)+len(`"receipts":[`) : len(one)-2]
	for _, c := range []struct{ name, why, names, input string }{
		{"format", "another version", "/format", replace("statement/v1", "statement/v2")},
		{"format-missing", "no format", `"format" is missing`, replace(`"format":"https://vitrine.dev/transparent-statement/v1",`, "")},
		{"unknown-member", "a member that is not known", "/note: unknown member", replace(`{"format"`, `{"note":1,"format"`)},
		{"duplicate", "a member that stands twice", "/leaf: the member stands twice", replace(`"leaf":`, `"leaf":"AAAA","leaf":`)},
		{"leaf-empty", "a leaf of no bytes", "/leaf", replace(`"leaf":"bGVhZiA0"`, `"leaf":""`)},
		{"leaf-base64", "a leaf in base64 with a line break", "/leaf: not standard base64", replace(`"leaf":"bGVhZiA0"`, `"leaf":"bGVh\nZiA0"`)},
		{"no-receipt", "no receipt", "/receipts", list("[]")},
		{"nine", "nine receipts", "/receipts", list("[" + strings.Repeat(quoted+",", 8) + quoted + "]")},
		{"twice", "one receipt twice", "/receipts/1", list("[" + quoted + "," + quoted + "]")},
		{"receipt-malformed", "a receipt that is none", "/receipts/1", list("[" + quoted + `,"hello"]`)},
		{"receipt-object", "a receipt that is no text", "/receipts/0: want a string", list("[{}]")},
		{"trailing", "something after the document", "something follows", one + "{}"},
	} {
		out = append(out, vectors.Vector{Name: c.name, Why: c.why, Error: c.names, Input: c.input})
	}
	return out
}

func TestTransparentVectors(t *testing.T) {
	vectors.Check(t, "transparent", transparentVectors(t), func(v vectors.Vector) (map[string]any, error) {
		s, err := ParseTransparent(v.Bytes())
		if err != nil {
			if kindOf(err) != Malformed {
				t.Errorf("%s: %v is not Malformed", v.Name, err)
			}
			return nil, err
		}
		return map[string]any{"leaf": string(s.Leaf), "receipts": len(s.Receipts)}, nil
	})
}
