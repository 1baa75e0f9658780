package measure

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
)

// recorded reads a file of the recorded boot.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/boot", name))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(name, ".gz") {
		return b
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	return b
}

func recordedPCRs(t *testing.T) map[string]string {
	t.Helper()
	pcrs := make(map[string]string)
	for line := range strings.Lines(string(recorded(t, "pcrs.txt"))) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		pcrs[name] = value
	}
	return pcrs
}

func recordedEvents(t *testing.T) []tcg.Event {
	t.Helper()
	log, err := tcg.ParseEventLog(recorded(t, "eventlog.bin"), tcg.ParseOpts{})
	if err != nil {
		t.Fatal(err)
	}
	return log.Events(register.HashSHA256)
}

// TestBankReplaysRecordedBoot checks the arithmetic of extending against what a
// real vTPM held.
func TestBankReplaysRecordedBoot(t *testing.T) {
	var bank pcrBank
	for _, e := range recordedEvents(t) {
		bank.extend(e.Index, [32]byte(e.Digest), "")
	}
	for pcr, value := range bank.values {
		if pcr == 10 { // extended by IMA after the log
			continue
		}
		if want := recordedPCRs(t)[pcrName(pcr)]; hex.EncodeToString(value[:]) != want {
			t.Errorf("PCR %d is %x after the replay, and the vTPM had %s", pcr, value, want)
		}
	}
}

// TestPredictionMatchesRecordedBoot predicts a boot from the recorded disk and
// variables and from a UKI that has the recorded one's small sections, and
// compares event by event, register by register.
func TestPredictionMatchesRecordedBoot(t *testing.T) {
	r, err := TPM(TPMInput{
		UKI: reader(buildUKI(buildKernel("6.1.0-54-cloud-amd64"),
			testSection{".osrel", []byte("NAME=x\n")},
			testSection{".cmdline", []byte("console=ttyS0 panic=-1")},
			testSection{".initrd", []byte("another initrd")},
		)),
		Disk: reader(recorded(t, "gpt.bin")),
		Vars: reader(recorded(t, "vars.fd.gz")),
	})
	if err != nil {
		t.Fatal(err)
	}
	predicted := make(map[string][]Event)
	for _, e := range r.Events {
		predicted[e.Register] = append(predicted[e.Register], e)
	}
	log := make(map[string][]string)
	for _, e := range recordedEvents(t) {
		log[pcrName(e.Index)] = append(log[pcrName(e.Index)], hex.EncodeToString(e.Digest))
	}
	// What the test's UKI does not share with the recorded one.
	differs := func(e Event) bool {
		return slices.ContainsFunc([]string{"the UKI", "the kernel", "content of section .linux", "content of section .initrd", "Linux initrd"},
			func(part string) bool { return strings.Contains(e.Description, part) })
	}
	for _, name := range []string{"pcr2", "pcr3", "pcr4", "pcr5", "pcr6", "pcr7", "pcr8", "pcr9", "pcr11", "pcr12", "pcr13", "pcr14", "pcr15"} {
		if len(predicted[name]) != len(log[name]) {
			t.Errorf("%s: %d events are predicted, and %d were recorded", name, len(predicted[name]), len(log[name]))
			continue
		}
		same := true
		for i, e := range predicted[name] {
			if equal := e.Digest == log[name][i]; equal == differs(e) {
				t.Errorf("%s, event %d (%s): predicted %s, recorded %s", name, i, e.Description, e.Digest, log[name][i])
			}
			same = same && !differs(e)
		}
		if equal := r.Registers[name] == recordedPCRs(t)[name]; equal != same {
			t.Errorf("%s is predicted as %s, and the vTPM had %s", name, r.Registers[name], recordedPCRs(t)[name])
		}
	}
}

// TestTPMRegisters compares with registers that are computed here, from the
// rules alone.
func TestTPMRegisters(t *testing.T) {
	kernel := buildKernel("6.12.1")
	uki := buildUKI(kernel,
		testSection{".initrd", []byte("initrd")}, // not in the order of measuring
		testSection{".cmdline", []byte("quiet")},
		testSection{".uname", []byte("6.12")}, // not measured
	)
	r, err := TPM(TPMInput{UKI: reader(uki)})
	if err != nil {
		t.Fatal(err)
	}
	extend := func(digests ...[32]byte) string {
		var pcr [32]byte
		for _, d := range digests {
			pcr = sha256.Sum256(append(pcr[:], d[:]...))
		}
		return hex.EncodeToString(pcr[:])
	}
	sum := func(s string) [32]byte { return sha256.Sum256([]byte(s)) }
	zero := sum("\x00\x00\x00\x00")
	initrd := sum("initrd")
	want := map[string]string{
		"pcr2": extend(zero), "pcr3": extend(zero), "pcr6": extend(zero),
		"pcr4":  extend(sum("Calling EFI Application from Boot Option"), zero, mustAuthenticode(t, uki), mustAuthenticode(t, kernel)),
		"pcr9":  extend(sum("q\x00u\x00i\x00e\x00t\x00\x00\x00"), initrd),
		"pcr11": extend(sum(".linux\x00"), sum(string(kernel)), sum(".cmdline\x00"), sum("quiet"), sum(".initrd\x00"), initrd),
		"pcr8":  extend(), "pcr12": extend(), "pcr13": extend(), "pcr14": extend(), "pcr15": extend(),
	}
	for name, value := range want {
		if r.Registers[name] != value {
			t.Errorf("%s is %s, want %s", name, r.Registers[name], value)
		}
	}
	for pcr := range pcrCount {
		name := pcrName(pcr)
		_, determined := r.Registers[name]
		if _, wanted := want[name]; determined != wanted {
			t.Errorf("%s: determined is %v, want %v", name, determined, wanted)
		}
		if determined == (r.Undetermined[name] != "") {
			t.Errorf("%s has both a value and a reason to have none, or neither", name)
		}
	}
	for _, e := range r.Events {
		if r.Undetermined[e.Register] != "" {
			t.Errorf("there is an event %q for the undetermined %s", e.Description, e.Register)
		}
	}
}

func TestUndeterminedRegisters(t *testing.T) {
	gpt := recorded(t, "gpt.bin")
	kernel := buildKernel("6.1.0")
	cmdline := testSection{".cmdline", []byte("quiet")}
	for _, test := range []struct {
		name     string
		in       TPMInput
		register string
		want     string
	}{
		{"no disk", TPMInput{UKI: reader(buildUKI(kernel, cmdline))}, "pcr5", "disk was not given"},
		{"no variables", TPMInput{UKI: reader(buildUKI(kernel, cmdline)), Disk: reader(gpt)}, "pcr7", "variables was not given"},
		{"enrolled", TPMInput{UKI: reader(buildUKI(kernel, cmdline)), Vars: reader(recorded(t, "vars-enrolled.fd.gz"))}, "pcr7", "platform key is enrolled"},
		{"old kernel", TPMInput{UKI: reader(buildUKI(buildKernel("5.10.0"), cmdline))}, "pcr9", "Linux 5.10 does not measure"},
		{"6.0", TPMInput{UKI: reader(buildUKI(buildKernel("6.0.9"), cmdline))}, "pcr9", "Linux 6.0 does not measure"},
		{"not Linux", TPMInput{UKI: reader(buildUKI(buildPE(testSection{".text", []byte("x")}), cmdline))}, "pcr9", "no version of a Linux kernel"},
		{"no command line", TPMInput{UKI: reader(buildUKI(kernel))}, "pcr9", "no section .cmdline"},
		{"signed policy", TPMInput{UKI: reader(buildUKI(kernel, cmdline, testSection{".pcrsig", []byte("{}")}))}, "pcr9", ".pcrsig or .pcrpkey"},
		{"policy key", TPMInput{UKI: reader(buildUKI(kernel, cmdline, testSection{".pcrpkey", []byte("{}")}))}, "pcr9", ".pcrsig or .pcrpkey"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := TPM(test.in)
			if err != nil {
				t.Fatal(err)
			}
			if value, there := r.Registers[test.register]; there || !strings.Contains(r.Undetermined[test.register], test.want) {
				t.Errorf("%s is %q, undetermined for %q; want a reason with %q", test.register, value, r.Undetermined[test.register], test.want)
			}
		})
	}
}

func TestTPMRefuses(t *testing.T) {
	kernel := buildKernel("6.1.0")
	good := buildUKI(kernel, testSection{".cmdline", []byte("quiet")})
	gpt := recorded(t, "gpt.bin")
	for _, test := range []struct {
		name string
		in   TPMInput
		want string
	}{
		{"nothing", TPMInput{}, "no UKI was given"},
		{"not a PE file", TPMInput{UKI: reader([]byte("#!/bin/sh"))}, "measuring the UKI: the DOS header"},
		{"kernel is no PE file", TPMInput{UKI: reader(buildUKI([]byte("zImage")))}, "reading the kernel in section .linux"},
		{"broken table", TPMInput{UKI: reader(good), Disk: reader(broken(gpt, 600, 1))}, "measuring the disk's partition table"},
		{"broken variables", TPMInput{UKI: reader(good), Vars: reader(gpt)}, "measuring the UEFI variables"},
		{"command line", TPMInput{UKI: reader(buildUKI(kernel, testSection{".cmdline", []byte("a\tb")}))}, "printable ASCII"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := TPM(test.in); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestResultJSON(t *testing.T) {
	r, err := TPM(TPMInput{UKI: reader(buildUKI(buildKernel("6.1.0"))), Disk: reader(recorded(t, "gpt.bin"))})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var shape map[string]json.RawMessage
	if err := json.Unmarshal(b, &shape); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"platform", "registers", "undetermined", "inputs", "events"} {
		if shape[key] == nil || string(shape[key]) == "null" {
			t.Errorf("the JSON has no %q", key)
		}
	}
	if got, want := string(shape["platform"]), `"tpm"`; got != want {
		t.Errorf("platform is %s, want %s", got, want)
	}
}
