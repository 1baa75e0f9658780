package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// Addenda is where a log keeps what its statements name by digest. An error
// that wraps ErrUnavailable says that it does not have those bytes.
type Addenda interface {
	Addendum(ctx context.Context, d statement.Digest, maxBytes int64) ([]byte, error)
}

// Rebuilt is how a rebuild ended.
type Rebuilt struct {
	Outcome statement.Outcome

	// Output is what was built; nil with CouldNotBuild.
	Output *Output
	// Differences are those of the artefacts, and Claims what else the release
	// says that its recipe does not: with NotReproduced at least one of them.
	Differences []Difference
	Claims      []ClaimDifference
	// Explanation tells both to people and machines; an addendum.
	Explanation []byte
	// Reason says why nothing was built, with CouldNotBuild. It is published.
	Reason string
	// Detail says it to whoever owns this machine: with its folders and mirrors,
	// and what the compiler printed.
	Detail string
}

// ClaimDifference is a member of a release statement that is not what recipe,
// lock and artefacts give: a register, a version, a volume.
type ClaimDifference struct {
	Member    string `json:"member"` // "measurements/tpm/qemu-q35/pcr11"
	Published string `json:"published"`
	Rebuilt   string `json:"rebuilt"`
}

// Rebuild builds a release again, from the recipe and lock that it names, and
// compares every artefact and every register that it states. Nothing but the
// release's own addenda and the fetchers in o is used. The fetchers need not be
// trusted, and neither need the publisher.
//
// Artefacts alone would not do: a release may list honest artefacts beside the
// registers of another image.
//
// An error says that this machine could not try; whatever is wrong with the
// release is an outcome.
func Rebuild(ctx context.Context, release *statement.Signed, addenda Addenda, fetchers []Fetcher, o Options) (*Rebuilt, error) {
	r, ok := release.Release()
	if !ok {
		return nil, errors.New("rebuilding: the statement is not a release")
	}
	got, err := rebuild(ctx, release.Statement, r, addenda, fetchers, o)
	switch {
	case err == nil:
		return got, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case isLocalTrouble(err), errors.Is(err, errUnread):
		return nil, fmt.Errorf("rebuilding: %w", err)
	}
	return &Rebuilt{Outcome: statement.CouldNotBuild, Reason: oneLine(publicReason(err, o.WorkDir)), Detail: err.Error()}, nil
}

// publicReason leaves out of an error what belongs to this machine: what its
// compiler printed, its mirrors, whose addresses may hold passwords, and its
// folders. A reason is published.
func publicReason(err error, workDir string) string {
	var compile *CompileError
	var input *InputError
	switch {
	case errors.As(err, &compile):
		return compile.Public()
	case errors.As(err, &input) && input.Input.Kind == DebianPackage:
		return input.Public()
	}
	reason := err.Error()
	for _, dir := range []string{workDir, os.TempDir()} {
		if dir != "" && dir != "/" {
			reason = strings.ReplaceAll(reason, dir, "...")
		}
	}
	return reason
}

// errUnread says that the log could not be asked for an addendum, which says
// nothing about whether it has it.
var errUnread = errors.New("the log could not be read")

func getAddendum(ctx context.Context, addenda Addenda, what string, d statement.Digest, maxBytes int64) ([]byte, error) {
	b, err := addenda.Addendum(ctx, d, maxBytes)
	if err != nil && !errors.Is(err, ErrUnavailable) {
		return nil, fmt.Errorf("getting the %s: %w: %w", what, errUnread, err)
	}
	if err != nil {
		return nil, fmt.Errorf("getting the %s: %w", what, err)
	}
	if got := statement.DigestOf(b); got != d {
		return nil, fmt.Errorf("getting the %s: %w: bytes with SHA-256 %s came for %s", what, ErrChanged, got.SHA256, d.SHA256)
	}
	return b, nil
}

// isLocalTrouble tells what says nothing about the release.
func isLocalTrouble(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EACCES} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func rebuild(ctx context.Context, s *statement.Statement, r *statement.Release, addenda Addenda, fetchers []Fetcher, o Options) (*Rebuilt, error) {
	in := Inputs{Fetchers: append([]Fetcher{addendaFetcher{addenda}}, fetchers...)}
	var err error
	if in.Recipe, err = getAddendum(ctx, addenda, "recipe", r.Recipe.Digest, maxRecipeBytes); err != nil {
		return nil, err
	}
	if in.Lock, err = getAddendum(ctx, addenda, "lock", r.Lock.Digest, maxLockBytes); err != nil {
		return nil, err
	}
	if o.Cache.Dir == "" {
		// For the build and the measurements alike.
		if o.Cache.Dir, err = os.MkdirTemp(o.WorkDir, "inputs-*"); err != nil {
			return nil, err
		}
		defer removeAll(o.Cache.Dir)
	}
	out, err := Build(ctx, in, o)
	if err != nil {
		return nil, err
	}
	measurements, err := out.Measurements(ctx, in, o.Cache)
	if err != nil {
		return nil, err
	}
	again, err := ReleaseStatement(out, in, r.Builder.Version, measurements)
	if err != nil {
		return nil, err
	}
	// The published manifest only makes the explanation better: that it is not
	// there, or is none, is no fault, and no excuse for other bits.
	published, err := Published(s, nil)
	if err != nil {
		return nil, err
	}
	for _, subject := range s.Subjects {
		if subject.Name != ManifestName {
			continue
		}
		if manifest, err := addenda.Addendum(ctx, subject.Digest, maxManifestBytes); err == nil {
			if full, err := Published(s, manifest); err == nil {
				published = full
			}
		}
	}
	got := &Rebuilt{Outcome: statement.Reproduced, Output: out}
	got.Differences = Compare(published, out.Manifest)
	mine, _ := again.Release()
	got.Claims = compareClaims(r, mine)
	if !slices.Equal(sortedSubjects(s), sortedSubjects(again)) && len(got.Differences) == 0 {
		// Compare leaves the manifest's own digest out, since it repeats the
		// others. Where it alone differs, that is said here.
		got.Claims = append(got.Claims, ClaimDifference{"subject", fmt.Sprint(sortedSubjects(s)), fmt.Sprint(sortedSubjects(again))})
	}
	if len(got.Differences) == 0 && len(got.Claims) == 0 {
		return got, nil
	}
	if r.Builder.Version != Version {
		// Versions differ in the bits that they make: this one proves nothing.
		return nil, fmt.Errorf("other contents of %s came out, and the release was built by version %s of the builder, where this is %s: rebuild it with that version", got.causes(), r.Builder.Version, Version)
	}
	got.Outcome = statement.NotReproduced
	if got.Explanation, err = Explain(out.Manifest, got.Differences, got.Claims); err != nil {
		return nil, err
	}
	return got, nil
}

func sortedSubjects(s *statement.Statement) []statement.Subject {
	return slices.SortedFunc(slices.Values(s.Subjects), func(a, b statement.Subject) int { return strings.Compare(a.Name, b.Name) })
}

// compareClaims compares what a release says beside its artefacts with what
// recipe, lock and artefacts give. The builder is left out, and so are reasons
// and what a release says more about what it does not cover: another version of
// this program may word them otherwise.
func compareClaims(published, rebuilt *statement.Release) []ClaimDifference {
	var all []ClaimDifference
	add := func(member string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			all = append(all, ClaimDifference{member, fmt.Sprint(a), fmt.Sprint(b)})
		}
	}
	add("product", published.Product, rebuilt.Product)
	add("version", published.Version, rebuilt.Version)
	add("securityEpoch", published.SecurityEpoch, rebuilt.SecurityEpoch)
	add("source", published.Source, rebuilt.Source)
	for _, n := range rebuilt.NotCovered {
		if !slices.ContainsFunc(published.NotCovered, func(p statement.NotCovered) bool { return p.What == n.What }) {
			all = append(all, ClaimDifference{"notCovered/" + n.What, Absent, n.Why})
		}
	}
	add("volumes", published.Volumes, rebuilt.Volumes)
	theirs, mine := byMachine(published.Measurements), byMachine(rebuilt.Measurements)
	for _, machine := range slices.Sorted(keysOf(theirs, mine)) {
		for _, register := range slices.Sorted(keysOf(theirs[machine], mine[machine])) {
			add("measurements/"+machine+"/"+register, registerText(theirs[machine], register), registerText(mine[machine], register))
		}
	}
	return all
}

// byMachine indexes measurements by platform and shape.
func byMachine(all []statement.Measurement) map[string]map[string]statement.Register {
	m := map[string]map[string]statement.Register{}
	for _, each := range all {
		m[each.Platform+"/"+each.Shape] = each.Registers
	}
	return m
}

func keysOf[V any](maps ...map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		seen := map[string]bool{}
		for _, m := range maps {
			for k := range m {
				if !seen[k] && !yield(k) {
					return
				}
				seen[k] = true
			}
		}
	}
}

func registerText(m map[string]statement.Register, name string) string {
	r, ok := m[name]
	switch {
	case !ok:
		return Absent
	case r.Any != "":
		return "any"
	}
	return strings.Join(slices.Sorted(slices.Values(r.OneOf)), " ")
}

// addendaFetcher offers what a publisher stored beside the log.
type addendaFetcher struct{ addenda Addenda }

func (f addendaFetcher) Fetch(ctx context.Context, in Input) (io.ReadCloser, error) {
	if in.Kind == DebianPackage {
		return nil, ErrUnavailable
	}
	b, err := f.addenda.Addendum(ctx, statement.Digest{SHA256: in.SHA256}, MaxLocalBytes)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// Summary is the outcome in one line for people.
func (g *Rebuilt) Summary() string {
	switch g.Outcome {
	case statement.Reproduced:
		return "the same bits came out"
	case statement.CouldNotBuild:
		return g.Reason
	}
	return "other contents of " + g.causes()
}

// causes names the first few of what differs.
func (g *Rebuilt) causes() string {
	causes := Causes(g.Differences)
	for _, c := range g.Claims {
		causes = append(causes, c.Member)
	}
	const most = 4
	if len(causes) > most {
		causes = append(causes[:most], fmt.Sprintf("and %d more", len(causes)-most))
	}
	return strings.Join(causes, ", ")
}

// Statement is what a rebuilder says of the release: the predicate, over the
// release's artefacts and its identity. index is where the release stands.
func (g *Rebuilt) Statement(release *statement.Signed, index int64) (*statement.Statement, error) {
	r, ok := release.Release()
	if !ok {
		return nil, errors.New("stating a rebuild: the statement is not a release")
	}
	p := &statement.Rebuild{
		Product: r.Product, Version: r.Version,
		Release: statement.ReleaseRef{Digest: release.ID.Digest(), Index: index},
		Builder: statement.Builder{ID: statement.BuilderID, Version: Version},
		Outcome: g.Outcome,
	}
	switch g.Outcome {
	case statement.NotReproduced:
		p.Got = g.got(release.Statement.Subjects)
		d := statement.DigestOf(g.Explanation)
		p.Explanation = &d
	case statement.CouldNotBuild:
		p.Reason = g.Reason
	}
	s := &statement.Statement{Predicate: p, Subjects: slices.Clone(release.Statement.Subjects)}
	s.Subjects = append(s.Subjects, statement.Subject{Name: statement.ReleaseSubject, Digest: release.ID.Digest()})
	// A release may list so many artefacts that nothing can be said of it at
	// length. It must not keep anybody from hearing of a difference.
	for fits(s) != nil && (len(p.Got) > 1 || len(p.Reason) > 1) {
		p.Got = p.Got[:max(len(p.Got)-1, min(len(p.Got), 1))]
		p.Reason = p.Reason[:(len(p.Reason)+1)/2]
	}
	return s, nil
}

func fits(s *statement.Statement) error {
	_, err := s.Payload()
	return err
}

// got gives the artefacts that came out, those first that the release has not.
func (g *Rebuilt) got(published []statement.Subject) (differ []statement.Reference) {
	var same []statement.Reference
	for _, a := range g.Output.Artefacts {
		r := statement.Reference{Name: a.Name, Digest: statement.Digest{SHA256: a.SHA256}}
		if slices.Contains(published, statement.Subject{Name: r.Name, Digest: r.Digest}) {
			same = append(same, r)
		} else {
			differ = append(differ, r)
		}
	}
	return append(differ, same...)
}

// maxReasonBytes is what a statement takes (docs/formats.md, free text).
const maxReasonBytes = 512

// oneLine makes of an error a text that a statement takes: a compiler's message
// quotes the source, which may be a stranger's.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s)
	if len(s) > maxReasonBytes {
		s = s[:maxReasonBytes-3] + "..."
	}
	return s
}
