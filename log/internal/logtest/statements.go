package logtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// Recipe and Lock are the addenda of every Release.
var (
	Recipe = []byte("a recipe\n")
	Lock   = []byte("a lock\n")
)

func hexBytes(n int, s string) string {
	var out []byte
	for len(out) < n {
		sum := sha256.Sum256(append(out, s...))
		out = append(out, sum[:]...)
	}
	return hex.EncodeToString(out[:n])
}

// Release is a release of Product. Another seed gives other artefacts.
func Release(version, seed string) *statement.Statement {
	registers := make(map[string]statement.Register)
	for _, name := range statement.MandatoryRegisters("tpm") {
		n, _ := statement.RegisterBytes("tpm", name)
		registers[name] = statement.Register{OneOf: []string{hexBytes(n, seed+name)}}
	}
	return &statement.Statement{
		Subjects: artefacts(version, seed),
		Predicate: &statement.Release{
			Product: Product, Version: version, SecurityEpoch: 1,
			Source:       statement.Source{URI: "https://git.example/hello", Commit: hexBytes(20, "commit")},
			Recipe:       statement.Reference{Name: "image.yaml", Digest: statement.DigestOf(Recipe)},
			Lock:         statement.Reference{Name: "image.lock", Digest: statement.DigestOf(Lock)},
			Builder:      statement.Builder{ID: statement.BuilderID, Version: "0.1.0"},
			Volumes:      []statement.Volume{{Name: "root", VerityRoot: hexBytes(32, "root"), SizeBytes: 1 << 20}},
			Measurements: []statement.Measurement{{Platform: "tpm", Shape: "qemu-q35", Registers: registers}},
			NotCovered:   []statement.NotCovered{{What: "acpi-tables", Why: "the host writes them"}},
		},
	}
}

func artefacts(version, seed string) []statement.Subject {
	return []statement.Subject{{Name: "uki.efi", Digest: statement.DigestOf([]byte(version + seed))}}
}

// Rebuild says that the release was rebuilt. Another version of the rebuilder
// makes it another statement about the same.
func Rebuild(release *statement.Signed, builder string) *statement.Statement {
	r, _ := release.Statement.Release()
	return &statement.Statement{
		Subjects: append(release.Statement.Subjects[:len(release.Statement.Subjects):len(release.Statement.Subjects)],
			statement.Subject{Name: statement.ReleaseSubject, Digest: release.ID.Digest()}),
		Predicate: &statement.Rebuild{
			Product: r.Product, Version: r.Version,
			Release: statement.ReleaseRef{Digest: release.ID.Digest()},
			Builder: statement.Builder{ID: statement.BuilderID, Version: builder},
			Outcome: statement.Reproduced,
		},
	}
}

// Channel says that the releases are current.
func Channel(sequence int64, releases ...*statement.Signed) *statement.Statement {
	s := &statement.Statement{Predicate: &statement.Channel{
		Product: Product, Channel: "stable", Sequence: sequence,
		IssuedAt: time.Now().UTC().Truncate(time.Second), NotAfter: time.Now().UTC().Add(24 * time.Hour).Truncate(time.Second),
	}}
	for _, signed := range releases {
		r, _ := signed.Statement.Release()
		s.Subjects = append(s.Subjects, statement.Subject{Name: r.Version, Digest: signed.ID.Digest()})
	}
	return s
}

// Withdrawal withdraws a release.
func Withdrawal(release *statement.Signed, reason string) *statement.Statement {
	r, _ := release.Statement.Release()
	return &statement.Statement{
		Subjects: []statement.Subject{{Name: r.Version, Digest: release.ID.Digest()}},
		Predicate: &statement.Withdrawal{
			Product: r.Product, Registers: []statement.RegisterValue{}, Reason: reason,
			Since: time.Now().UTC().Truncate(time.Second),
		},
	}
}

// LargeRelease is a release whose payload has at least n bytes.
func LargeRelease(version string, n int) *statement.Statement {
	s := Release(version, "large")
	r := s.Predicate.(*statement.Release)
	for size := 0; size < n; size += 512 {
		r.NotCovered = append(r.NotCovered, statement.NotCovered{What: fmt.Sprintf("part-%d", size), Why: strings.Repeat("x", 480)})
	}
	return s
}
