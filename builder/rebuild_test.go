package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// storedAddenda are those of a release, as a log keeps them.
type storedAddenda map[string][]byte

func (a storedAddenda) Addendum(_ context.Context, d statement.Digest, maxBytes int64) ([]byte, error) {
	b, ok := a[d.SHA256]
	if !ok || int64(len(b)) > maxBytes {
		return nil, fmt.Errorf("%w: the log has no addendum %s of at most %d bytes", ErrUnavailable, d.SHA256, maxBytes)
	}
	return b, nil
}

// store keeps recipe, lock, local inputs and manifest, which is what a publisher
// stores.
func store(t *testing.T, out *Output, in Inputs, cache Cache) storedAddenda {
	t.Helper()
	a := storedAddenda{}
	put := func(b []byte) { a[statement.DigestOf(b).SHA256] = b }
	put(in.Recipe)
	put(in.Lock)
	l, err := ParseLock("image.lock", in.Lock)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{out.Path(ManifestName)}
	for _, i := range l.Local() {
		files = append(files, cache.Path(i.SHA256))
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		put(b)
	}
	return a
}

func TestRebuild(t *testing.T) {
	out, in, cache, measurements := buildTiny(t, "testdata/tiny")
	addenda := store(t, out, in, cache)

	// A second image, whose server says something else.
	dir := filepath.Join(t.TempDir(), "recipe")
	copyTree(t, "testdata/tiny", dir)
	replaceInFile(t, filepath.Join(dir, "program/embedded/text.txt"), "embedded", "planted!")
	planted, _, _, plantedMeasurements := buildTiny(t, dir)
	manifest, err := os.ReadFile(planted.Path(ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	addenda[statement.DigestOf(manifest).SHA256] = manifest
	// It is published as if it came from the recipe of the first.
	claimed := *planted.Manifest
	claimed.Recipe, claimed.Lock = out.Manifest.Recipe, out.Manifest.Lock
	forged := &Output{planted.Dir, planted.Artefacts, &claimed}

	without := func(digest string) storedAddenda {
		less := storedAddenda{}
		for d, b := range addenda {
			if d != digest {
				less[d] = b
			}
		}
		return less
	}
	l, err := ParseLock("image.lock", in.Lock)
	if err != nil {
		t.Fatal(err)
	}
	module := l.Modules[0].SHA256
	tampered := without("")
	tampered[module] = append(slices.Clone(addenda[module]), 0)

	// The planted image with a manifest that is none.
	garbage := []byte("{}")
	addenda[statement.DigestOf(garbage).SHA256] = garbage
	unexplained := &Output{planted.Dir, slices.Clone(planted.Artefacts), &claimed}
	for i := range unexplained.Artefacts {
		if unexplained.Artefacts[i].Name == ManifestName {
			unexplained.Artefacts[i].SHA256 = statement.DigestOf(garbage).SHA256
		}
	}
	// Bytes under another's digest, from a log whose client does not compare.
	swapped := without("")
	swapped[out.Manifest.Recipe] = append(slices.Clone(in.Recipe), "# other bytes\n"...)

	for name, c := range map[string]struct {
		out     *Output
		m       []statement.Measurement
		change  func(*statement.Release)
		addenda storedAddenda
		want    statement.Outcome
		summary string
	}{
		"honest":                         {out, measurements, nil, addenda, statement.Reproduced, "the same bits came out"},
		"without the manifest":           {out, measurements, nil, without(statement.DigestOf(mustRead(t, out.Path(ManifestName))).SHA256), statement.Reproduced, "the same bits came out"},
		"another image":                  {forged, plantedMeasurements, nil, addenda, statement.NotReproduced, "root.erofs: usr/bin/server"},
		"another image, and no manifest": {unexplained, plantedMeasurements, nil, addenda, statement.NotReproduced, "root.erofs"},
		"another's registers":            {out, plantedMeasurements, nil, addenda, statement.NotReproduced, "measurements/sev-snp/simulated/launchDigest"},
		"a register left open": {out, measurements, func(r *statement.Release) {
			r.Measurements[0].Registers["launchDigest"] = statement.Register{Any: "trust me"}
		}, addenda, statement.NotReproduced, "launchDigest"},
		"a value more": {out, measurements, func(r *statement.Release) {
			r.Measurements[0].Registers["vmpl"] = statement.Register{OneOf: []string{"00000000", "00000003"}}
		}, addenda, statement.NotReproduced, "vmpl"},
		"a shape more":  {out, append(slices.Clone(measurements), statement.Measurement{Platform: "sev-snp", Shape: "other", Registers: measurements[0].Registers}), nil, addenda, statement.NotReproduced, "other"},
		"another epoch": {out, measurements, func(r *statement.Release) { r.SecurityEpoch = 9 }, addenda, statement.NotReproduced, "securityEpoch"},
		"another root":  {out, measurements, func(r *statement.Release) { r.Volumes[0].VerityRoot = strings.Repeat("ab", 32) }, addenda, statement.NotReproduced, "volumes"},
		"a hole that is not told": {out, measurements, func(r *statement.Release) {
			r.NotCovered = slices.DeleteFunc(r.NotCovered, func(n statement.NotCovered) bool { return n.What == "acpi-tables" })
		}, addenda, statement.NotReproduced, "notCovered/acpi-tables"},
		"one that only they know": {out, measurements, func(r *statement.Release) {
			r.NotCovered = append(r.NotCovered, statement.NotCovered{What: "moon", Why: "it is far away"})
		}, addenda, statement.Reproduced, "the same bits came out"},
		"another builder, the same bits": {out, measurements, func(r *statement.Release) { r.Builder.Version = "0.0.9" }, addenda, statement.Reproduced, "the same bits came out"},
		"another builder, other bits":    {forged, plantedMeasurements, func(r *statement.Release) { r.Builder.Version = "0.0.9" }, addenda, statement.CouldNotBuild, "built by version 0.0.9 of the builder"},
		"another recipe's bytes":         {out, measurements, nil, swapped, statement.CouldNotBuild, "getting the recipe: it is not what"},
		"no recipe":                      {out, measurements, nil, without(out.Manifest.Recipe), statement.CouldNotBuild, "getting the recipe"},
		"no module":                      {out, measurements, nil, without(module), statement.CouldNotBuild, "cannot be fetched"},
		"a module of other bytes":        {out, measurements, nil, tampered, statement.CouldNotBuild, "not what the lock names"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ReleaseStatement(c.out, in, Version, c.m)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := s.Payload()
			if err != nil {
				t.Fatal(err)
			}
			if s, err = statement.ParsePayload(payload); err != nil { // a copy to change
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(s.Predicate.(*statement.Release))
			}
			release := signRelease(t, s)
			got, err := Rebuild(t.Context(), release, c.addenda, nil, Options{OutDir: filepath.Join(t.TempDir(), "out"), Toolchain: tinyTools()})
			if err != nil {
				t.Fatal(err)
			}
			if got.Outcome != c.want || !strings.Contains(got.Summary(), c.summary) {
				t.Errorf("got %s: %s, want %s: %s", got.Outcome, got.Summary(), c.want, c.summary)
			}
			if (got.Explanation != nil) != (c.want == statement.NotReproduced) {
				t.Errorf("the explanation is %s", got.Explanation)
			}
			if got.Explanation != nil && !strings.Contains(string(got.Explanation), c.summary[strings.LastIndexByte(c.summary, '/')+1:]) {
				t.Errorf("the explanation does not name the cause: %s", got.Explanation)
			}
			said, err := got.Statement(release, 7)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := said.Payload(); err != nil {
				t.Errorf("the rebuild cannot be stated: %v", err)
			}
		})
	}
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRebuildKeepsSecrets releases a module whose source does not compile: what
// the compiler quotes of it, and the folders that it names, are not published.
func TestRebuildKeepsSecrets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recipe")
	copyTree(t, "testdata/tiny", dir)
	out, _, _, measurements := buildTiny(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "program/server/wrong.go"), []byte("package main\n\nvar _ int = sesame_open\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, cache := lockTiny(t, dir)
	work := t.TempDir()
	_, err := Build(t.Context(), in, Options{OutDir: filepath.Join(t.TempDir(), "out"), WorkDir: work, Toolchain: tinyTools()})
	var compile *CompileError
	if !errors.As(err, &compile) || !strings.Contains(err.Error(), "sesame") {
		t.Fatalf("the compiler says %v", err)
	}
	claimed := *out.Manifest
	claimed.Lock = statement.DigestOf(in.Lock).SHA256
	forged := &Output{out.Dir, out.Artefacts, &claimed}
	s, err := ReleaseStatement(forged, in, Version, measurements)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Rebuild(t.Context(), signRelease(t, s), store(t, forged, in, cache), nil, Options{OutDir: filepath.Join(t.TempDir(), "out"), WorkDir: work, Toolchain: tinyTools()})
	if err != nil {
		t.Fatal(err)
	}
	if got.Outcome != statement.CouldNotBuild || !strings.Contains(got.Reason, "./server") || strings.Contains(got.Reason, "sesame") || strings.Contains(got.Reason, work) {
		t.Errorf("got %s: %s", got.Outcome, got.Reason)
	}
}

// TestReasonsNameNothingOfThisMachine: a reason is published.
func TestReasonsNameNothingOfThisMachine(t *testing.T) {
	in := inputOf("a package")
	in.Kind, in.Name = DebianPackage, "pool/main/x/x_1.0_amd64.deb"
	gone := serveFiles(t, nil)
	secret := strings.Replace(gone, "http://", "http://user:sesame@", 1)
	work := t.TempDir()
	_, unavailable := (Cache{work}).Get(t.Context(), in, []Fetcher{&Mirrors{URLs: []string{secret}}})
	wrong := serveFiles(t, map[string]string{"/" + in.Name: "b package"})
	_, changed := (Cache{work}).Get(t.Context(), in, []Fetcher{&Mirrors{URLs: []string{wrong}}})
	_, unpacked := unpackedSize(filepath.Join(work, "no.zip"), 1)
	for _, c := range []struct {
		err  error
		want string
	}{
		{unavailable, "getting the debian package pool/main/x/x_1.0_amd64.deb (SHA-256 " + in.SHA256 + "): it cannot be fetched"},
		{changed, "getting the debian package pool/main/x/x_1.0_amd64.deb (SHA-256 " + in.SHA256 + "): it is not what the lock names"},
		{unpacked, "open .../no.zip: no such file or directory"},
	} {
		if got := publicReason(c.err, work); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if strings.Contains(unavailable.Error(), "sesame") {
		t.Errorf("a password is shown: %v", unavailable)
	}
}

// TestALargeReleaseIsSpokenOf lists so many artefacts that only just a release
// statement can be made of them.
func TestALargeReleaseIsSpokenOf(t *testing.T) {
	r := &statement.Release{
		Product: "p", Version: "1", SecurityEpoch: 1,
		Source: statement.Source{URI: "x", Commit: strings.Repeat("a", 40)},
		Recipe: statement.Reference{Name: "r", Digest: statement.DigestOf(nil)}, Lock: statement.Reference{Name: "l", Digest: statement.DigestOf(nil)},
		Builder: statement.Builder{ID: statement.BuilderID, Version: "1"},
		Volumes: []statement.Volume{}, NotCovered: []statement.NotCovered{},
		Measurements: []statement.Measurement{{Platform: "nitro", Shape: "s", Registers: map[string]statement.Register{}}},
	}
	for _, name := range statement.MandatoryRegisters("nitro") {
		r.Measurements[0].Registers[name] = statement.Register{Any: "x"}
	}
	s := &statement.Statement{Predicate: r}
	for i := 0; ; i++ {
		s.Subjects = append(s.Subjects, statement.Subject{Name: fmt.Sprintf("a%d", i), Digest: statement.DigestOf(nil)})
		if fits(s) != nil {
			s.Subjects = s.Subjects[:len(s.Subjects)-1]
			break
		}
	}
	for last := &s.Subjects[len(s.Subjects)-1]; fits(s) == nil; last.Name += "a" {
		if len(last.Name) == 64 {
			last = &s.Subjects[0]
		}
	}
	s.Subjects[len(s.Subjects)-1].Name = strings.TrimSuffix(s.Subjects[len(s.Subjects)-1].Name, "a")
	release := signRelease(t, s)

	out := &Output{}
	for i := range 12 {
		name := fmt.Sprintf("a%d", i)
		digest := statement.DigestOf(nil).SHA256
		if i == 11 {
			digest = digestFor('b')
		}
		out.Artefacts = append(out.Artefacts, Artefact{Name: name, SHA256: digest})
	}
	for _, g := range []*Rebuilt{
		{Outcome: statement.NotReproduced, Output: out, Explanation: []byte("why")},
		{Outcome: statement.CouldNotBuild, Reason: strings.Repeat("x", maxReasonBytes)},
	} {
		said, err := g.Statement(release, 1<<53-1)
		if err != nil {
			t.Fatal(err)
		}
		if err := fits(said); err != nil {
			t.Errorf("%s: %v", g.Outcome, err)
		}
		if p := said.Predicate.(*statement.Rebuild); g.Outcome == statement.NotReproduced && p.Got[0].Name != "a11" {
			t.Errorf("what differs is not named first, but %v", p.Got)
		}
	}
}
