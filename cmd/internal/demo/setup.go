//go:build linux

package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vitrine-dev/vitrine/log/statement"
)

const (
	product = "hello-inference"
	origin  = "vitrine.example/demo"
)

// place is where everything of the story stands.
type place struct {
	witnesses [2]*process
	log       *process
	staple    *process
	node      *demoNode
	changed   *demoNode // boots something else, in tpm mode
	recipe    string    // folder of the recipe that is built
	image     string    // folder of the artefacts
	release   string    // transparent statement
	index     int64     // of the release
	upstream  string    // the inference server beside simulated nodes
}

// foundations makes keys and starts two witnesses and a log.
func (s *story) foundations(ctx context.Context) error {
	for _, args := range [][]string{
		{"keygen", "publisher"}, {"keygen", "rebuilder"}, {"keygen", "channel"}, {"keygen", "stranger"},
		{"keygen", "--log", origin, "log"},
		{"keygen", "--witness", "witness-1.example", "witness-1"},
		{"keygen", "--witness", "witness-2.example", "witness-2"},
	} {
		if _, err := s.must(ctx, args...); err != nil {
			return err
		}
	}
	logKey, err := s.read("log.vkey")
	if err != nil {
		return err
	}
	for i := range s.witnesses {
		name := fmt.Sprintf("witness-%d", i+1)
		if s.witnesses[i], err = s.start(ctx, name, true, "witness", "serve", "--dir", name, "--key", name+".key", "--log", logKey, "--listen", "127.0.0.1:0", "--json"); err != nil {
			return err
		}
	}
	s.say("   Two processes on one machine are not two independent parties: here they only show the protocol.")
	if err := s.writeTlogPolicy("tlog.policy", "all"); err != nil {
		return err
	}
	if err := s.writeAdmission(); err != nil {
		return err
	}
	if s.log, err = s.startLog(ctx, "log", "tlog.policy"); err != nil {
		return err
	}
	s.saw["origin"], s.saw["log"] = origin, s.log.hello["url"]
	s.saw["witnesses"] = []string{s.witnesses[0].hello["key"], s.witnesses[1].hello["key"]}
	s.saw["independent"] = false
	return nil
}

func (s *story) startLog(ctx context.Context, dir, policy string) (*process, error) {
	return s.start(ctx, dir, true, "log", "serve", "--dir", dir, "--key", "log.key", "--policy", policy, "--admission", "admission.yaml",
		"--listen", "127.0.0.1:0", "--republish", "2s", "--checkpoint-interval", "500ms", "--receipt-timeout", "4s", "--json")
}

// writeTlogPolicy writes a tlog-policy over both witnesses: "all" or "any".
func (s *story) writeTlogPolicy(name, quorum string) error {
	text, err := s.tlogPolicy(quorum)
	if err != nil {
		return err
	}
	return s.write(name, text)
}

func (s *story) tlogPolicy(quorum string) (string, error) {
	logKey, err := s.read("log.vkey")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("log %s\nwitness w1 %s %s\nwitness w2 %s %s\ngroup both %s w1 w2\nquorum both\n", logKey,
		s.witnesses[0].hello["key"], s.witnesses[0].hello["url"], s.witnesses[1].hello["key"], s.witnesses[1].hello["url"], quorum), nil
}

// indented reads a file as a YAML block string.
func (s *story) indented(name, indent string) (string, error) {
	text, err := s.read(name)
	if err != nil {
		return "", err
	}
	return indent + strings.ReplaceAll(text, "\n", "\n"+indent), nil
}

func (s *story) writeAdmission() error {
	text := "vitrine: admission/v1\nwriters:\n"
	for _, w := range []struct{ key, role string }{{"publisher", "publisher"}, {"rebuilder", "rebuilder"}, {"channel", "channel"}} {
		key, err := s.indented(w.key+".pub", "      ")
		if err != nil {
			return err
		}
		text += fmt.Sprintf("  - name: %s\n    roles: [%s]\n    products: [%s]\n    key: |\n%s\n", w.key, w.role, product, key)
	}
	return s.write("admission.yaml", text)
}

// build builds the recipe twice, and one that nobody can reproduce.
func (s *story) build(ctx context.Context) error {
	s.recipe = filepath.Join(s.c.Recipes, "hello-inference")
	if err := s.lock(ctx); err != nil {
		return err
	}
	a, err := s.vitrine(ctx, "build", s.recipe, "--lock", "image.lock", "--out", "image", "--check", "--go-cache", "go", "--cache", "inputs", "--json")
	if err != nil {
		return err
	}
	var good, bad reproduction
	if err := a.into(&good); err != nil {
		return err
	}
	if !good.Reproduced || a.exit != 0 {
		return fmt.Errorf("two builds of the recipe differ: %s", strings.Join(good.Causes, ", "))
	}
	s.image = good.Folder
	digests := map[string]string{}
	for _, artefact := range good.Artefacts {
		s.say("   %s  %s", artefact.SHA256, artefact.Name)
		digests[artefact.Name] = artefact.SHA256
	}
	s.say("   The same twice: other folders, umask, locale, time zone, file order, and a clock 27 hours ahead.")

	s.say("   A second recipe embeds the build time:")
	unreproducible := filepath.Join(s.c.Recipes, "unreproducible")
	if _, err := s.must(ctx, "lock", unreproducible, "--lock", "unreproducible.lock", "--cache", "inputs", "--json"); err != nil {
		return err
	}
	if a, err = s.vitrine(ctx, "build", unreproducible, "--lock", "unreproducible.lock", "--out", "unreproducible", "--check", "--go-cache", "go", "--cache", "inputs", "--json"); err != nil {
		return err
	}
	if err := a.into(&bad); err != nil {
		return err
	}
	if bad.Reproduced || a.exit != 1 || len(bad.Causes) == 0 {
		return errors.New("the recipe that embeds the build time was not caught")
	}
	for _, cause := range bad.Causes {
		s.say("   caught by the same check: %s", cause)
	}
	s.saw["digests"], s.saw["caught"] = digests, bad.Causes
	return nil
}

type reproduction struct {
	Reproduced bool   `json:"reproduced"`
	Folder     string `json:"folder"`
	Artefacts  []struct {
		Name   string `json:"name"`
		SHA256 string `json:"sha256"`
	} `json:"artefacts"`
	Causes []string `json:"causes"`
}

// lock names the inputs as they are now. The lock in the repository is the one
// that its authors had: where a mirror has moved on or a source has changed, the
// demo says so and goes on with its own.
func (s *story) lock(ctx context.Context) error {
	args := func(recipe string) []string {
		return []string{"lock", recipe, "--lock", "image.lock", "--cache", "inputs", "--json"}
	}
	a, err := s.vitrine(ctx, args(s.recipe)...)
	if err != nil {
		return err
	}
	if a.exit != 0 {
		if s.c.Mode == TPM {
			return fmt.Errorf("the recipe cannot be locked: %s", tail(a.stderr))
		}
		s.say("   No Debian mirror can be reached, so the image has no kernel: %s", tail(a.stderr))
		s.recipe = filepath.Join(s.c.Recipes, "hello-inference-no-kernel")
		_, err = s.must(ctx, args(s.recipe)...)
		s.saw["lock"] = "without kernel"
		return err
	}
	committed, err := os.ReadFile(filepath.Join(s.recipe, "image.lock"))
	mine, err2 := os.ReadFile(s.path("image.lock"))
	switch {
	case err2 != nil:
		return err2
	case err == nil && string(committed) == string(mine):
		s.say("   The inputs are still those of the repository's lock.")
		s.saw["lock"] = "as committed"
	default:
		s.say("   Locked anew in the demo's folder: %s.", whatMoved(committed, mine))
		s.saw["lock"] = "anew"
	}
	return nil
}

// whatMoved says in what two locks differ.
func whatMoved(old, now []byte) string {
	if len(old) == 0 {
		return "the repository has no lock for this recipe"
	}
	type named struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Folder  string `json:"folder"`
		SHA256  string `json:"sha256"`
	}
	var a, b struct {
		Go       string  `json:"go"`
		Packages []named `json:"packages"`
		Modules  []named `json:"modules"`
	}
	if json.Unmarshal(old, &a) != nil || json.Unmarshal(now, &b) != nil {
		return "the repository's lock cannot be read"
	}
	var moved []string
	if a.Go != b.Go {
		moved = append(moved, "Go is "+b.Go+" and was "+a.Go)
	}
	for _, p := range b.Packages {
		for _, q := range a.Packages {
			if p.Version != q.Version && strings.TrimRight(p.Name, "0123456789") == strings.TrimRight(q.Name, "0123456789") {
				moved = append(moved, fmt.Sprintf("the mirror has %s %s and had %s", p.Name, p.Version, q.Version))
			}
		}
	}
	for _, p := range b.Modules {
		for _, q := range a.Modules {
			if p.Folder == q.Folder && p.SHA256 != q.SHA256 {
				moved = append(moved, "the source in "+p.Folder+" has changed")
			}
		}
	}
	if len(moved) == 0 {
		return "the inputs have changed"
	}
	return strings.Join(moved, "; ")
}

// published is what vitrine publish --json says.
type published struct {
	Index       int64  `json:"index"`
	Identity    string `json:"identity"`
	Receipt     bool   `json:"receipt"`
	Transparent string `json:"transparent"`
	Cosigned    []struct {
		Witness string `json:"witness"`
		Time    string `json:"time"`
	} `json:"cosigned"`
	Detail string `json:"detail"`
}

// publish publishes the release with one witness down, and again with both.
func (s *story) publish(ctx context.Context) error {
	measured, err := s.must(ctx, "measure", "image", s.image, "--recipe", s.recipe, "--lock", "image.lock", "--cache", "inputs", "--json")
	if err != nil {
		return err
	}
	var predicted struct {
		Measurements []statement.Measurement `json:"measurements"`
	}
	if err := measured.into(&predicted); err != nil {
		return err
	}
	for _, m := range predicted.Measurements {
		s.say("   predicted from the artefacts: %d registers of %s, shape %s", len(m.Registers), m.Platform, m.Shape)
	}
	s.saw["measurements"] = predicted.Measurements

	s.say("   With witness 2 stopped:")
	s.witnesses[1].stop()
	args := append([]string{"publish", s.image, "--recipe", s.recipe, "--lock", "image.lock", "--key", "publisher.key", "--cache", "inputs"}, s.toLog()...)
	var without, with published
	a, err := s.vitrine(ctx, args...)
	if err != nil {
		return err
	}
	if err := a.into(&without); err != nil {
		return err
	}
	if without.Receipt || a.exit != 1 {
		return errors.New("a receipt was given out without the second witness")
	}
	s.say("   entry %d, no receipt: %s", without.Index, without.Detail)

	s.say("   With witness 2 back, the same command:")
	if s.witnesses[1], err = s.again(ctx, s.witnesses[1]); err != nil {
		return err
	}
	if a, err = s.must(ctx, args...); err != nil {
		return err
	}
	if err := a.into(&with); err != nil {
		return err
	}
	switch {
	case !with.Receipt || len(with.Cosigned) != 2:
		return fmt.Errorf("the receipt has %d cosignatures and not both", len(with.Cosigned))
	case with.Index != without.Index || with.Identity != without.Identity:
		return fmt.Errorf("the receipt is for entry %d (%s), and the entry was %d (%s)", with.Index, with.Identity, without.Index, without.Identity)
	}
	s.release, s.index = with.Transparent, with.Index
	s.say("   entry %d, the same one, cosigned by both; statement %s", with.Index, with.Identity)
	s.saw["index"], s.saw["identity"], s.saw["withoutReceipt"], s.saw["cosigned"] = with.Index, with.Identity, without.Detail, with.Cosigned
	if err := s.copyForFork(); err != nil {
		return err
	}
	return s.publishChannel(ctx)
}

func (s *story) toLog() []string {
	return []string{"--log", s.log.hello["url"], "--log-policy", "tlog.policy", "--json"}
}

func (s *story) publishChannel(ctx context.Context) error {
	_, err := s.must(ctx, append([]string{"channel", "publish", "stable", s.release, "--sequence", "1", "--key", "channel.key", "--out", "channel-1.json"}, s.toLog()...)...)
	return err
}
