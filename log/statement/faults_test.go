package statement

// payloadFaults are the ways in which a payload can be wrong: a sample, what is
// done to it, and what the error must name.
var payloadFaults = []struct {
	name, why, names string
	of               string
	edits            []edit
	from, to         string // replaced in the bytes
}{
	// The document.
	{name: "white-space", why: "a space after a colon", names: "not in canonical form", of: "channel", from: `"_type":`, to: `"_type": `},
	{name: "member-order", why: "members in another order", names: "not in canonical form", of: "channel",
		from: `"channel":"stable","issuedAt":"2026-03-01T00:00:00Z"`, to: `"issuedAt":"2026-03-01T00:00:00Z","channel":"stable"`},
	{name: "escape", why: "an escaped letter", names: "not in canonical form", of: "channel", from: `"stable"`, to: `"st\u0061ble"`},
	{name: "duplicate-member", why: "a member that stands twice", names: "/predicate/sequence: the member stands twice", of: "channel",
		from: `"sequence":12`, to: `"sequence":12,"sequence":13`},
	{name: "duplicate-in-toto-member", why: "a member that stands twice in a part that is tolerated", names: "the member stands twice", of: "channel",
		from: `{"_type"`, to: `{"Zebra":{"a":1,"a":2},"_type"`},
	{name: "statement-type", why: "in-toto Statement v0.1", names: "/_type", of: "channel", edits: []edit{{"/_type", "https://in-toto.io/Statement/v0.1"}}},
	{name: "predicate-type", why: "a predicate that is not ours", names: "/predicateType", of: "channel", edits: []edit{{"/predicateType", "https://slsa.dev/provenance/v1"}}},
	{name: "predicate-version", why: "a version that is not known", names: "/predicateType", of: "channel", edits: []edit{{"/predicateType", "https://vitrine.dev/predicate/channel/v2"}}},
	{name: "predicate-reserved", why: "a reserved name", names: "/predicateType", of: "channel", edits: []edit{{"/predicateType", "https://vitrine.dev/predicate/machines/v1"}}},
	{name: "predicate-missing", why: "no predicate", names: `"predicate" is missing`, of: "channel", edits: []edit{{"/predicate", absent}}},
	{name: "predicate-other", why: "the predicate is of another type", names: "/predicate/channel: unknown member", of: "channel", edits: []edit{{"/predicateType", WithdrawalType}}},
	{name: "unknown-member", why: "a member that the predicate does not have", names: "/predicate/urgent: unknown member", of: "channel", edits: []edit{{"/predicate/urgent", true}}},
	{name: "unknown-case", why: "a member in other case, which a lax reader takes for ours", names: "/Subject: unknown member", of: "channel", edits: []edit{{"/Subject", []any{}}}},
	{name: "missing-member", why: "a member of the predicate is absent", names: `/predicate: member "sequence" is missing`, of: "channel", edits: []edit{{"/predicate/sequence", absent}}},
	{name: "null-member", why: "null in place of a value", names: "/predicate/sequence: want an integer, have null", of: "channel", edits: []edit{{"/predicate/sequence", nil}}},
	{name: "string-for-number", why: "an integer in quotes", names: "/predicate/sequence: want an integer, have a string", of: "channel", edits: []edit{{"/predicate/sequence", "12"}}},
	{name: "fraction", why: "a number that is no integer", names: "/predicate/sequence", of: "channel", from: `"sequence":12`, to: `"sequence":12.5`},
	{name: "exponent", why: "an integer with an exponent", names: "/predicate/sequence", of: "channel", from: `"sequence":12`, to: `"sequence":1e3`},
	{name: "minus-zero", why: "minus zero", names: "/predicate/sequence", of: "channel", from: `"sequence":12`, to: `"sequence":-0`},
	{name: "too-large", why: "2^53", names: "/predicate/sequence", of: "channel", from: `"sequence":12`, to: `"sequence":9007199254740992`},
	{name: "in-toto-fraction", why: "a number that is no integer, in a part that is tolerated", names: "/subject/0/size", of: "channel",
		from: `"name":"1.2.0"}`, to: `"name":"1.2.0","size":1.5}`},

	// Subjects and digests.
	{name: "subject-empty", why: "no subject", names: "/subject", of: "channel", edits: []edit{{"/subject", []any{}}}},
	{name: "subject-missing", why: "no list of subjects", names: `"subject" is missing`, of: "channel", edits: []edit{{"/subject", absent}}},
	{name: "subject-name-missing", why: "a subject without a name", names: "/subject/0", of: "channel", edits: []edit{{"/subject/0/name", absent}}},
	{name: "subject-name-twice", why: "two subjects of one name", names: "/subject/1/name", of: "release", edits: []edit{{"/subject/1/name", "disk.img"}}},
	{name: "subject-name-slash", why: "a path as a name", names: "/subject/0/name", of: "release", edits: []edit{{"/subject/0/name", "../disk.img"}}},
	{name: "subject-name-case", why: "an artefact's name in upper case", names: "/subject/1/name", of: "release", edits: []edit{{"/subject/1/name", "UKI.efi"}}},
	{name: "digest-other", why: "a digest by another algorithm beside SHA-256", names: "/subject/0/digest/sha512", of: "channel", edits: []edit{{"/subject/0/digest/sha512", "00"}}},
	{name: "digest-missing", why: "a digest of nothing", names: "/subject/0/digest", of: "channel", edits: []edit{{"/subject/0/digest", map[string]any{}}}},
	{name: "digest-short", why: "a digest of 31 bytes", names: "/subject/0/digest/sha256", of: "channel", edits: []edit{{"/subject/0/digest/sha256", hexBytes(31, "short")}}},
	{name: "digest-case", why: "upper-case hex", names: "/subject/0/digest/sha256", of: "channel", edits: []edit{{"/subject/0/digest/sha256", "ABCDEF" + hexBytes(29, "upper")}}},

	// Release.
	{name: "release-artefact-release", why: "an artefact with the name that is the release's in a rebuild statement", names: "/subject/0/name", of: "release", edits: []edit{{"/subject/0/name", "release"}}},
	{name: "release-product", why: "a product with a space", names: "/predicate/product", of: "release", edits: []edit{{"/predicate/product", "hello inference"}}},
	{name: "release-version", why: "an empty version", names: "/predicate/version", of: "release", edits: []edit{{"/predicate/version", ""}}},
	{name: "release-epoch", why: "security epoch 0", names: "/predicate/securityEpoch", of: "release", edits: []edit{{"/predicate/securityEpoch", 0}}},
	{name: "release-commit", why: "an abbreviated commit", names: "/predicate/source/commit", of: "release", edits: []edit{{"/predicate/source/commit", "9f404f2"}}},
	{name: "release-source", why: "no source", names: "/predicate/source/uri", of: "release", edits: []edit{{"/predicate/source/uri", ""}}},
	{name: "release-recipe-name", why: "a recipe's name with a folder", names: "/predicate/recipe/name", of: "release", edits: []edit{{"/predicate/recipe/name", "recipes/image.yaml"}}},
	{name: "release-lock", why: "no lock", names: `member "lock" is missing`, of: "release", edits: []edit{{"/predicate/lock", absent}}},
	{name: "release-builder", why: "a builder that is not known", names: "/predicate/builder/id", of: "release", edits: []edit{{"/predicate/builder/id", "https://vitrine.dev/builder/v2"}}},
	{name: "release-volumes-null", why: "null in place of a list", names: "/predicate/volumes", of: "release", edits: []edit{{"/predicate/volumes", nil}}},
	{name: "release-volume-root", why: "a verity root of 20 bytes", names: "/predicate/volumes/0/verityRoot", of: "release", edits: []edit{{"/predicate/volumes/0/verityRoot", hexBytes(20, "root")}}},
	{name: "release-volume-size", why: "a volume of no size", names: "/predicate/volumes/0/sizeBytes", of: "release", edits: []edit{{"/predicate/volumes/0/sizeBytes", 0}}},
	{name: "release-volume-twice", why: "two volumes of one name", names: "/predicate/volumes/1/name", of: "release", edits: []edit{{"/predicate/volumes", []any{
		map[string]any{"name": "root", "verityRoot": hexBytes(32, "a"), "sizeBytes": 1}, map[string]any{"name": "root", "verityRoot": hexBytes(32, "b"), "sizeBytes": 1}}}}},
	{name: "release-not-measured", why: "no measurement", names: "/predicate/measurements", of: "release", edits: []edit{{"/predicate/measurements", []any{}}}},
	{name: "release-measured-twice", why: "two measurements of one platform and shape", names: "/predicate/measurements/1/shape", of: "release", edits: []edit{
		{"/predicate/measurements/1/platform", "tpm"}, {"/predicate/measurements/1/shape", "qemu-q35"}, {"/predicate/measurements/1/registers", sampleRegisters("tpm")}}},
	{name: "release-platform", why: "a platform that is not known", names: "/predicate/measurements/0/platform", of: "release", edits: []edit{{"/predicate/measurements/0/platform", "sgx"}}},
	{name: "release-shape", why: "a shape in upper case", names: "/predicate/measurements/0/shape", of: "release", edits: []edit{{"/predicate/measurements/0/shape", "QEMU"}}},
	{name: "release-register-missing", why: "a mandatory register is absent", names: `"vmpl" is missing`, of: "release", edits: []edit{{"/predicate/measurements/1/registers/vmpl", absent}}},
	{name: "release-register-unknown", why: "a register that the platform does not list", names: "/predicate/measurements/0/registers/pcr1", of: "release", edits: []edit{{"/predicate/measurements/0/registers/pcr1", map[string]any{"any": "why not"}}}},
	{name: "release-register-other-platform", why: "a register of another platform", names: "/predicate/measurements/0/registers/mrtd", of: "release", edits: []edit{{"/predicate/measurements/0/registers/mrtd", map[string]any{"any": "why not"}}}},
	{name: "release-register-both", why: "a value and any", names: "/predicate/measurements/0/registers/pcr4", of: "release", edits: []edit{{"/predicate/measurements/0/registers/pcr4/any", "why not"}}},
	{name: "release-register-neither", why: "no value, and not any", names: "/predicate/measurements/0/registers/pcr4", of: "release", edits: []edit{{"/predicate/measurements/0/registers/pcr4", map[string]any{}}}},
	{name: "release-register-string", why: "a value without oneOf", names: "/predicate/measurements/0/registers/pcr4", of: "release", edits: []edit{{"/predicate/measurements/0/registers/pcr4", hexBytes(32, "pcr4")}}},
	{name: "release-register-empty", why: "a list of no values", names: "/predicate/measurements/0/registers/pcr4/oneOf", of: "release", edits: []edit{{"/predicate/measurements/0/registers/pcr4", map[string]any{"oneOf": []any{}}}}},
	{name: "release-register-length", why: "a value of another register's length", names: "/predicate/measurements/0/registers/pcr4/oneOf/0", of: "release", edits: []edit{{"/predicate/measurements/0/registers/pcr4/oneOf/0", hexBytes(48, "pcr4")}}},
	{name: "release-register-prefix", why: "a value with 0x", names: "/predicate/measurements/0/registers/pcr4/oneOf/0", of: "release", edits: []edit{{"/predicate/measurements/0/registers/pcr4/oneOf/0", "0x" + hexBytes(31, "pcr4")}}},
	{name: "release-register-value-twice", why: "one value twice", names: "/predicate/measurements/0/registers/pcr4/oneOf/1", of: "release", edits: []edit{{"/predicate/measurements/0/registers/pcr4", map[string]any{"oneOf": []any{hexBytes(32, "x"), hexBytes(32, "x")}}}}},
	{name: "release-register-many", why: "17 values", names: "/predicate/measurements/0/registers/pcr4/oneOf", of: "release", edits: []edit{{"/predicate/measurements/0/registers/pcr4", map[string]any{"oneOf": manyValues(17)}}}},
	{name: "release-register-no-reason", why: "any without a reason", names: "/predicate/measurements/0/registers/pcr0/any", of: "release", edits: []edit{{"/predicate/measurements/0/registers/pcr0/any", ""}}},
	{name: "release-text-line", why: "two lines where one is wanted", names: "/predicate/notCovered/0/why", of: "release", edits: []edit{{"/predicate/notCovered/0/why", "one\ntwo"}}},
	{name: "release-text-bidi", why: "a right-to-left override, which lets text look like other text", names: "/predicate/notCovered/0/why", of: "release", edits: []edit{{"/predicate/notCovered/0/why", "evil \u202etxt"}}},
	{name: "release-not-covered", why: "an entry without a reason", names: "/predicate/notCovered/0", of: "release", edits: []edit{{"/predicate/notCovered/0/why", absent}}},

	// Rebuild.
	{name: "rebuild-no-release", why: "the release is not among the subjects", names: "/subject", of: "reproduced", edits: []edit{{"/subject/2/name", "third"}}},
	{name: "rebuild-other-release", why: "subject and predicate name two releases", names: "/subject/2/digest/sha256", of: "reproduced", edits: []edit{{"/subject/2/digest/sha256", hexBytes(32, "other")}}},
	{name: "rebuild-no-artefact", why: "the release is the only subject", names: "/subject", of: "reproduced", edits: []edit{{"/subject", []any{
		map[string]any{"name": "release", "digest": map[string]any{"sha256": sampleIdentity}}}}}},
	{name: "rebuild-index", why: "a negative index", names: "/predicate/release/index", of: "reproduced", edits: []edit{{"/predicate/release/index", -1}}},
	{name: "rebuild-outcome", why: "an outcome that is not known", names: "/predicate/outcome", of: "reproduced", edits: []edit{{"/predicate/outcome", "Reproduced"}}},
	{name: "rebuild-reproduced-got", why: "reproduced, and yet artefacts that came out", names: "/predicate/got", of: "not-reproduced", edits: []edit{{"/predicate/outcome", "reproduced"}}},
	{name: "rebuild-reproduced-reason", why: "reproduced, and yet a reason", names: "/predicate/reason", of: "reproduced", edits: []edit{{"/predicate/reason", "none"}}},
	{name: "rebuild-reproduced-explanation", why: "reproduced, and yet an explanation", names: "/predicate/explanation", of: "reproduced", edits: []edit{{"/predicate/explanation", map[string]any{"sha256": hexBytes(32, "e")}}}},
	{name: "rebuild-unexplained", why: "not reproduced, and no explanation", names: `"explanation" is missing`, of: "not-reproduced", edits: []edit{{"/predicate/explanation", absent}}},
	{name: "rebuild-got-nothing", why: "not reproduced, and no artefacts that came out", names: `"got" is missing`, of: "not-reproduced", edits: []edit{{"/predicate/got", absent}}},
	{name: "rebuild-got-empty", why: "an empty list where the member may be absent", names: "/predicate/got", of: "not-reproduced", edits: []edit{{"/predicate/got", []any{}}}},
	{name: "rebuild-got-twice", why: "one artefact came out twice", names: "/predicate/got/1/name", of: "not-reproduced", edits: []edit{{"/predicate/got/1/name", "disk.img"}}},
	{name: "rebuild-no-reason", why: "could not build, and no reason", names: `"reason" is missing`, of: "could-not-build", edits: []edit{{"/predicate/reason", absent}}},
	{name: "rebuild-explained", why: "could not build, and yet an explanation", names: "/predicate/explanation", of: "could-not-build", edits: []edit{{"/predicate/explanation", map[string]any{"sha256": hexBytes(32, "e")}}}},

	// Withdrawal.
	{name: "withdrawal-reinstates-missing", why: "silence is not false", names: `"reinstates" is missing`, of: "withdrawal", edits: []edit{{"/predicate/reinstates", absent}}},
	{name: "withdrawal-reinstates-string", why: "a boolean in quotes", names: "/predicate/reinstates", of: "withdrawal", edits: []edit{{"/predicate/reinstates", "false"}}},
	{name: "withdrawal-reason", why: "no reason", names: "/predicate/reason", of: "withdrawal", edits: []edit{{"/predicate/reason", ""}}},
	{name: "withdrawal-since-zone", why: "a time that is not in UTC", names: "/predicate/since", of: "withdrawal", edits: []edit{{"/predicate/since", "2026-03-01T00:00:00+00:00"}}},
	{name: "withdrawal-since-fraction", why: "a time with a fraction", names: "/predicate/since", of: "withdrawal", edits: []edit{{"/predicate/since", "2026-03-01T00:00:00.5Z"}}},
	{name: "withdrawal-since-date", why: "a day that is not", names: "/predicate/since", of: "withdrawal", edits: []edit{{"/predicate/since", "2026-02-30T00:00:00Z"}}},
	{name: "withdrawal-register", why: "a register that is not", names: "/predicate/registers/0", of: "withdrawal", edits: []edit{{"/predicate/registers/0/register", "pcr23"}}},
	{name: "withdrawal-register-value", why: "a value of another length", names: "/predicate/registers/0/value", of: "withdrawal", edits: []edit{{"/predicate/registers/0/value", hexBytes(48, "x")}}},
	{name: "withdrawal-register-twice", why: "one register's value twice", names: "/predicate/registers/1", of: "withdrawal", edits: []edit{{"/predicate/registers", []any{
		map[string]any{"platform": "tpm", "register": "pcr11", "value": hexBytes(32, "x")}, map[string]any{"platform": "tpm", "register": "pcr11", "value": hexBytes(32, "x")}}}}},

	// Channel.
	{name: "channel-sequence", why: "sequence 0", names: "/predicate/sequence", of: "channel", edits: []edit{{"/predicate/sequence", 0}}},
	{name: "channel-name", why: "no name", names: "/predicate/channel", of: "channel", edits: []edit{{"/predicate/channel", ""}}},
	{name: "channel-never-current", why: "it ends as it begins", names: "/predicate/notAfter", of: "channel", edits: []edit{{"/predicate/notAfter", "2026-03-01T00:00:00Z"}}},
	{name: "channel-release-twice", why: "one release under two versions", names: "/subject/1/digest/sha256", of: "channel", edits: []edit{{"/subject", []any{
		map[string]any{"name": "1.2.0", "digest": map[string]any{"sha256": sampleIdentity}}, map[string]any{"name": "1.2.1", "digest": map[string]any{"sha256": sampleIdentity}}}}}},
	{name: "channel-version", why: "a subject that is not named by a version", names: "/subject/0/name", of: "channel", edits: []edit{{"/subject/0/name", "version 1.2"}}},
}

// sampleIdentity is the identity of the sample release; a test says so.
const sampleIdentity = "00bff51e66fb8742e5e158334e93edae2451fba81ab10eface9a43c055ca19a5"

func manyValues(n int) []any {
	var out []any
	for i := range n {
		out = append(out, hexBytes(32, string(rune('a'+i))))
	}
	return out
}
