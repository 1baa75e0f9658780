package builder

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vitrine-dev/vitrine/builder/image"
	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// ExplanationFormat is the value of the member "format" in an explanation.
const ExplanationFormat = "https://vitrine.dev/rebuild-explanation/v1"

// Absent stands for a digest where one side has nothing.
const Absent = "absent"

// maxDifferences bounds the files that are listed, of all artefacts together: an
// explanation is read by a person, and stored by a log.
const maxDifferences = 1000

// Difference is an artefact that two builds do not have alike. Published and
// Rebuilt are SHA-256 digests, or Absent.
type Difference struct {
	Artefact  string `json:"artefact"`
	Published string `json:"published"`
	Rebuilt   string `json:"rebuilt"`
	// Follows names the artefacts, or the files of an artefact, that this one
	// is computed from and that differ, too. Whoever looks for the cause looks
	// there.
	Follows []string `json:"follows,omitempty"`
	// Files are the files inside that differ, if both manifests are known.
	Files []FileDifference `json:"files,omitempty"`
}

// FileDifference is a file, in a file system or the initrd, that differs.
type FileDifference struct {
	Path      string `json:"path"`
	Published string `json:"published"` // SHA-256, Absent, or what else is there: "drwxr-xr-x 0:0"
	Rebuilt   string `json:"rebuilt"`
	// Follows is set where the file only repeats what differs elsewhere.
	Follows string `json:"follows,omitempty"`
}

// String is one line for people.
func (d Difference) String() string {
	s := fmt.Sprintf("%s differs: %s published, %s rebuilt", d.Artefact, d.Published, d.Rebuilt)
	if len(d.Follows) > 0 {
		s += " (follows from " + strings.Join(d.Follows, ", ") + ")"
	}
	return s
}

// Compare says in what a rebuilt image differs from a published one, and nil if
// in nothing. A manifest without Files compares artefacts alone, as they stand
// in a statement. A manifest's own digest is not compared: it repeats the others.
func Compare(published, rebuilt *Manifest) []Difference {
	names := map[string]bool{}
	digests := func(m *Manifest) map[string]string {
		all := map[string]string{}
		for _, a := range m.Artefacts {
			if a.Name != ManifestName {
				all[a.Name], names[a.Name] = a.SHA256, true
			}
		}
		return all
	}
	a, b := digests(published), digests(rebuilt)
	differs := func(name string) bool { return names[name] && a[name] != b[name] }
	var all []Difference
	for name := range names {
		if differs(name) {
			all = append(all, Difference{
				Artefact:  name,
				Published: orAbsent(a[name]),
				Rebuilt:   orAbsent(b[name]),
				Follows:   slices.DeleteFunc(madeOf(name, names), func(part string) bool { return !differs(part) }),
			})
		}
	}
	if len(published.Files) > 0 && len(rebuilt.Files) > 0 {
		compareFiles(all, published, rebuilt)
	}
	slices.SortFunc(all, func(x, y Difference) int {
		// Causes first, then by name.
		if cause := len(x.Follows) == 0; cause != (len(y.Follows) == 0) {
			return sign(cause)
		}
		return strings.Compare(x.Artefact, y.Artefact)
	})
	return all
}

// madeOf gives the artefacts that an artefact is computed from (package image).
func madeOf(name string, names map[string]bool) []string {
	var volumes []string
	for n := range names {
		if strings.HasSuffix(n, ".erofs") {
			volumes = append(volumes, n)
		}
	}
	slices.Sort(volumes)
	base, isVerity := strings.CutSuffix(name, ".verity")
	switch {
	case isVerity:
		return []string{base + ".erofs"}
	case name == image.InitrdName: // holds the root hashes
		return volumes
	case name == image.UKIName:
		return []string{image.KernelName, image.CmdlineName, image.InitrdName}
	case name == image.DiskName:
		return append(volumes, image.UKIName)
	}
	return nil
}

func orAbsent(digest string) string {
	if digest == "" {
		return Absent
	}
	return digest
}

// compareFiles fills in Files.
func compareFiles(all []Difference, published, rebuilt *Manifest) {
	left := maxDifferences
	slices.SortFunc(all, func(x, y Difference) int { return strings.Compare(x.Artefact, y.Artefact) })
	for i := range all {
		d := &all[i]
		a, b := contents(published, d.Artefact), contents(rebuilt, d.Artefact)
		paths := map[string]bool{}
		for p := range a {
			paths[p] = a[p] != b[p]
		}
		for p := range b {
			paths[p] = a[p] != b[p]
		}
		for p, differs := range paths {
			if !differs {
				continue
			}
			f := FileDifference{Path: p, Published: show(a, b, p), Rebuilt: show(b, a, p)}
			if d.Artefact == image.InitrdName && p == guestconfig.VolumesPath && len(d.Follows) > 0 {
				f.Follows = strings.Join(d.Follows, ", ")
			}
			d.Files = append(d.Files, f)
		}
		slices.SortFunc(d.Files, func(x, y FileDifference) int { return strings.Compare(x.Path, y.Path) })
		d.Files = d.Files[:min(len(d.Files), left)]
		left -= len(d.Files)
		if d.Artefact == image.InitrdName && slices.ContainsFunc(d.Files, func(f FileDifference) bool { return f.Follows == "" }) {
			d.Follows = nil // it has a cause of its own
		}
	}
}

// contents gives the files of one artefact by path.
func contents(m *Manifest, artefact string) map[string]File {
	all := map[string]File{}
	for _, f := range m.Files {
		if f.Artefact == artefact {
			all[f.Path] = f
		}
	}
	return all
}

// show gives the digest of a file or, if that is not what differs, the rest.
func show(files, others map[string]File, path string) string {
	f, ok := files[path]
	other, both := others[path]
	switch {
	case !ok:
		return Absent
	case f.SHA256 != "" && (!both || f.SHA256 != other.SHA256):
		return f.SHA256
	case f.Target != "" && (!both || f.Target != other.Target):
		return "-> " + f.Target
	}
	return fmt.Sprintf("%s %d:%d", f.Mode, f.UID, f.GID)
}

// Causes gives the files and artefacts that differ and do not merely follow
// from another difference, as "ARTEFACT: PATH" or "ARTEFACT".
func Causes(differences []Difference) []string {
	var all []string
	for _, d := range differences {
		named := false
		for _, f := range d.Files {
			if f.Follows == "" {
				all = append(all, d.Artefact+": "+f.Path)
				named = true
			}
		}
		if !named && len(d.Follows) == 0 {
			all = append(all, d.Artefact)
		}
	}
	return all
}

// Explanation is the addendum of a rebuild statement that says not-reproduced.
type Explanation struct {
	Format      string       `json:"format"`
	Product     string       `json:"product"`
	Version     string       `json:"version"`
	Recipe      string       `json:"recipe"` // SHA-256
	Lock        string       `json:"lock"`   // SHA-256
	Causes      []string     `json:"causes"`
	Differences []Difference `json:"differences"`
	// Claims is what the statement says beside the artefacts, such as registers.
	Claims []ClaimDifference `json:"claims,omitempty"`
}

// Explain writes the explanation of what Compare found.
func Explain(rebuilt *Manifest, differences []Difference, claims []ClaimDifference) ([]byte, error) {
	e := Explanation{
		Format:      ExplanationFormat,
		Product:     rebuilt.Product,
		Version:     rebuilt.Version,
		Recipe:      rebuilt.Recipe,
		Lock:        rebuilt.Lock,
		Causes:      Causes(differences),
		Differences: differences,
		Claims:      claims,
	}
	b, err := json.Marshal(e, jsontext.WithIndent("  "), jsontext.EscapeForHTML(false))
	if err != nil {
		return nil, fmt.Errorf("encoding the explanation: %w", err)
	}
	return append(b, '\n'), nil
}
