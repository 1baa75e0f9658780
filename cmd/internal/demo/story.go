//go:build linux

package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/builder"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/verifier"
)

// verdict is what vitrine verify --json says, as far as the story needs it.
type verdict struct {
	Accepted  bool   `json:"accepted"`
	Isolation string `json:"isolation"`
	Sentence  string `json:"sentence"`
	Checks    []struct {
		Name   string `json:"name"`
		Result string `json:"result"`
		Saw    string `json:"saw"`
	} `json:"checks"`
	Notes     []string `json:"notes"`
	Rejection *struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"rejection"`
}

func (v *verdict) code() string {
	if v.Rejection == nil {
		return ""
	}
	return v.Rejection.Code
}

// verify asks as the client does, without printing the command.
func (s *story) verify(ctx context.Context, url, policy string, more ...string) (*verdict, error) {
	a, err := s.quietly(ctx, append([]string{"verify", url, "--policy", policy, "--state", "seen", "--json"}, more...)...)
	if err != nil {
		return nil, err
	}
	var v verdict
	if err := a.into(&v); err != nil {
		return nil, err
	}
	if (a.exit == 0) != v.Accepted {
		return nil, fmt.Errorf("the verdict says accepted: %v, and the exit status is %d", v.Accepted, a.exit)
	}
	return &v, nil
}

// expect asks, and fails unless the answer is a refusal with that code, or, with
// an empty code, acceptance.
func (s *story) expect(ctx context.Context, when, code, policy string, more ...string) (*verdict, error) {
	return s.expectAt(ctx, s.node.url, when, code, policy, more...)
}

func (s *story) expectAt(ctx context.Context, url, when, code, policy string, more ...string) (*verdict, error) {
	v, err := s.verify(ctx, url, policy, more...)
	if err != nil {
		return nil, err
	}
	if got := v.code(); got != code {
		if got == "" {
			got = "accepted"
		}
		if code == "" {
			code = "accepted"
		}
		return nil, fmt.Errorf("%s: the client should have said %s, and said %s: %s", when, code, got, v.Sentence)
	}
	if code != "" {
		s.say("   %s: refused, %s%s%s", when, s.bold, code, s.reset)
		s.say("     %s%s%s", s.dim, v.Rejection.Detail, s.reset)
	}
	return v, nil
}

// refuseUnrebuilt shows that a release that nobody rebuilt is refused.
func (s *story) refuseUnrebuilt(ctx context.Context) error {
	s.show([]string{"verify", s.node.url, "--policy", "policy.yaml"})
	v, err := s.expect(ctx, "the policy demands one rebuilder", "rebuild/threshold", "policy.yaml")
	if err != nil {
		return err
	}
	s.saw["code"], s.saw["detail"] = v.code(), v.Rejection.Detail
	return nil
}

// event is a line of vitrine monitor run --json.
type event struct {
	Event   string `json:"event"`
	Index   *int64 `json:"index"`
	Version string `json:"version"`
	Outcome string `json:"outcome"`
	Detail  string `json:"detail"`
	Alert   *struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"alert"`
}

// The releases that the monitor finds.
const (
	honest  = "1.0.0"
	planted = "1.0.1" // its digests are those of an image with one file more
	rotten  = "1.0.2" // one of its inputs is nowhere to be had
)

// monitor plants two more releases and lets a monitor judge all three.
func (s *story) monitor(ctx context.Context) error {
	s.say("   Two more releases go into the log: one whose digests are another image's, one with an input that is gone.")
	if err := s.plant(ctx); err != nil {
		return err
	}
	s.say("   The monitor has the log's address, the policy and a key of its own, and begins at entry 0:")
	m, err := s.start(ctx, "monitor", false, "monitor", "run", "--dir", "monitor", "--policy", "policy.yaml", "--key", "rebuilder.key", "--log", s.log.hello["url"], "--cache", "monitor-inputs", "--interval", "1s", "--json")
	if err != nil {
		return err
	}
	outcomes, details, published := map[string]string{}, map[string]string{}, map[string]int64{}
	alerts := []string{}
	deadline := time.After(10 * time.Minute)
	for len(published) < 3 {
		select {
		case line, ok := <-m.lines:
			if !ok {
				said, _ := s.read("monitor.log")
				return fmt.Errorf("the monitor ended: %s", tail(said))
			}
			var e event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return fmt.Errorf("the monitor printed something else than an event: %q", line)
			}
			switch e.Event {
			case "rebuilding":
				s.say("   rebuilding %s in an empty folder with empty Go caches …", e.Version)
			case "rebuilt":
				outcomes[e.Version], details[e.Version] = e.Outcome, e.Detail
				s.say("   %s: %s%s%s: %s", e.Version, s.bold, e.Outcome, s.reset, e.Detail)
			case "published":
				if e.Index != nil {
					published[e.Version] = *e.Index
				}
			case "alert":
				alerts = append(alerts, e.Alert.Code)
				s.say("   %sALERT %s%s %s", s.bad, e.Alert.Code, s.reset, e.Alert.Detail)
			}
		case <-deadline:
			return errors.New("the monitor did not publish three rebuild statements in time")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.saw["outcomes"], s.saw["details"], s.saw["published"], s.saw["alerts"] = outcomes, details, published, alerts
	for version, want := range map[string]statement.Outcome{honest: statement.Reproduced, planted: statement.NotReproduced, rotten: statement.CouldNotBuild} {
		if outcomes[version] != string(want) {
			return fmt.Errorf("release %s should be %s, and is %s: %s", version, want, outcomes[version], details[version])
		}
	}
	if len(alerts) != 1 || alerts[0] != "monitor/not-reproduced" {
		return fmt.Errorf("there should be one alert, monitor/not-reproduced, and there are %v", alerts)
	}
	return nil
}

// plant publishes the two dishonest releases.
func (s *story) plant(ctx context.Context) error {
	recipe, err := readText(filepath.Join(s.recipe, "image.yaml"))
	if err != nil {
		return err
	}
	recipe = s.relocate(recipe)

	// The honest recipe of 1.0.1, and the image that is released under it.
	open := strings.Replace(recipe, `version: "`+honest+`"`, `version: "`+planted+`"`, 1)
	hidden := strings.Replace(open, "\nroot:\n", "\nroot:\n  - file:\n      to: /etc/backdoor\n      content: \"a file that the published recipe does not have\\n\"\n", 1)
	if err := errors.Join(s.write("planted/image.yaml", open), s.write("hidden/image.yaml", hidden), s.copyLocal("planted", "hidden")); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"lock", "planted", "--cache", "inputs", "--json"},
		{"lock", "hidden", "--cache", "inputs", "--json"},
		{"build", "hidden", "--out", "hidden/image", "--go-cache", "go", "--cache", "inputs", "--json"},
	} {
		if a, err := s.quietly(ctx, args...); err != nil || a.exit != 0 {
			return fmt.Errorf("preparing the planted release: vitrine %s: %s", args[0], errorText(a, err))
		}
	}
	payload, err := s.payload(ctx, "hidden/image", "hidden")
	if err != nil {
		return err
	}
	addenda, err := s.localInputs("planted/image.lock")
	if err != nil {
		return err
	}
	if err := s.submit(ctx, "planted", payload, planted, append(addenda, "hidden/image/manifest.json")...); err != nil {
		return err
	}

	// 1.0.2 names a file that was never stored.
	if payload, err = s.payload(ctx, s.image, s.recipe, "--lock", "image.lock"); err != nil {
		return err
	}
	gone := strings.Replace(recipe, `version: "`+honest+`"`, `version: "`+rotten+`"`, 1)
	gone = strings.Replace(gone, "\nroot:\n", "\nroot:\n  - file:\n      to: /etc/gone\n      from: gone.txt\n", 1)
	if err := errors.Join(s.write("rotten/image.yaml", gone), s.write("rotten/gone.txt", "nobody stores this\n"), s.copyLocal("rotten")); err != nil {
		return err
	}
	if a, err := s.quietly(ctx, "lock", "rotten", "--cache", "rotten-inputs", "--json"); err != nil || a.exit != 0 {
		return fmt.Errorf("preparing the release with a lost input: %s", errorText(a, err))
	}
	return s.submit(ctx, "rotten", payload, rotten)
}

// localInputs names the files of a lock's local inputs, which a publisher stores
// beside the log.
func (s *story) localInputs(lockFile string) ([]string, error) {
	text, err := readText(s.path(lockFile))
	if err != nil {
		return nil, err
	}
	lock, err := builder.ParseLock(lockFile, []byte(text))
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, in := range lock.Local() {
		paths = append(paths, filepath.Join("inputs", in.SHA256))
	}
	return paths, nil
}

// relocate makes a recipe that lies in the demo's folder find the repository's
// modules.
func (s *story) relocate(recipe string) string {
	folder := func(elements ...string) string {
		rel, err := filepath.Rel(s.path("planted"), filepath.Join(append([]string{s.recipe}, elements...)...))
		if err != nil {
			return filepath.Join(elements...)
		}
		return filepath.ToSlash(rel)
	}
	for _, module := range []string{"../../..", "../hello-inference/server", "server"} {
		recipe = strings.ReplaceAll(recipe, "module: "+module+"\n", "module: "+folder(module)+"\n")
	}
	return recipe
}

// copyLocal copies what lies beside the recipe and is named by it.
func (s *story) copyLocal(folders ...string) error {
	text, err := readText(filepath.Join(s.recipe, "kernel.txt"))
	if err != nil {
		return nil // the recipe takes its kernel from a package
	}
	for _, folder := range folders {
		if err := s.write(folder+"/kernel.txt", text); err != nil {
			return err
		}
	}
	return nil
}

// payload gives a release statement's payload without publishing it.
func (s *story) payload(ctx context.Context, image, recipe string, more ...string) (map[string]any, error) {
	a, err := s.quietly(ctx, append([]string{"publish", image, "--recipe", recipe, "--cache", "inputs", "--log-policy", "tlog.policy", "--dry-run"}, more...)...)
	if err != nil || a.exit != 0 {
		return nil, fmt.Errorf("making a payload: %s", errorText(a, err))
	}
	var payload map[string]any
	return payload, a.into(&payload)
}

// submit publishes a payload as the release of another recipe and lock.
func (s *story) submit(ctx context.Context, folder string, payload map[string]any, version string, addenda ...string) error {
	predicate, ok := payload["predicate"].(map[string]any)
	if !ok {
		return errors.New("the payload has no predicate")
	}
	predicate["version"] = version
	args := []string{"publish", folder + "/payload.json", "--key", "publisher.key"}
	for member, file := range map[string]string{"recipe": "image.yaml", "lock": "image.lock"} {
		text, err := readText(s.path(folder, file))
		if err != nil {
			return err
		}
		predicate[member] = map[string]any{"name": file, "digest": map[string]any{"sha256": statement.DigestOf([]byte(text)).SHA256}}
		args = append(args, "--addendum", folder+"/"+file)
	}
	for _, a := range addenda {
		args = append(args, "--addendum", a)
	}
	// encoding/json sorts members, which for these ASCII names is JCS.
	b, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	if err := s.write(folder+"/payload.json", string(b)); err != nil {
		return err
	}
	_, err = s.must(ctx, append(args, s.toLog()...)...)
	return err
}

// accept verifies once more, and sends a prompt over the checked connection.
func (s *story) accept(ctx context.Context) error {
	// The sidecar brings the rebuild statement within its interval.
	for range 60 {
		v, err := s.verify(ctx, s.node.url, "policy.yaml")
		if err != nil {
			return err
		}
		if v.Accepted {
			break
		}
		if v.code() != "rebuild/threshold" {
			return fmt.Errorf("the client refuses: %s", v.Sentence)
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	chat := []string{"chat", s.node.url, "What is a vitrine?", "--policy", "policy.yaml", "--state", "seen", "--model", "hello-1"}
	if !s.c.JSON {
		if err := s.live(ctx, chat...); err != nil {
			return err
		}
	}
	// Once more for what a screen does not show: when each chunk came.
	a, err := s.quietly(ctx, append(chat, "--json")...)
	if err != nil {
		return err
	}
	if a.exit != 0 {
		return fmt.Errorf("vitrine chat ended with status %d: %s", a.exit, tail(a.stderr+string(a.stdout)))
	}
	var said struct {
		Verdict verdict `json:"verdict"`
		Answer  struct {
			Text        string `json:"text"`
			Chunks      int    `json:"chunks"`
			FirstToLast int64  `json:"firstToLastMilliseconds"`
		} `json:"answer"`
	}
	if err := a.into(&said); err != nil {
		return err
	}
	s.say("   %d chunks, the last %d ms after the first", said.Answer.Chunks, said.Answer.FirstToLast)
	switch {
	case !said.Verdict.Accepted:
		return errors.New("the prompt was sent without an accepting verdict")
	case said.Verdict.Isolation != "none" || !strings.HasPrefix(said.Verdict.Sentence, "measured, not confidential"):
		return fmt.Errorf("the verdict claims isolation %q: %s", said.Verdict.Isolation, said.Verdict.Sentence)
	case said.Answer.Chunks < 2 || said.Answer.FirstToLast < 200:
		return fmt.Errorf("the answer did not stream: %d chunks within %d ms", said.Answer.Chunks, said.Answer.FirstToLast)
	}
	if s.c.Mode == TPM && !strings.Contains(strings.Join(said.Verdict.Notes, "\n"), "firmware was not measured") {
		return errors.New("PCR 0 is open, and the verdict does not say what that costs")
	}
	s.saw["isolation"], s.saw["sentence"], s.saw["checks"], s.saw["notes"] = said.Verdict.Isolation, said.Verdict.Sentence, said.Verdict.Checks, said.Verdict.Notes
	s.saw["chunks"], s.saw["firstToLastMilliseconds"] = said.Answer.Chunks, said.Answer.FirstToLast
	return s.acceptRecorded(ctx)
}

// acceptRecorded keeps a check in a file and replays it: what a file can show
// comes out the same, and what it cannot is said.
func (s *story) acceptRecorded(ctx context.Context) error {
	live, err := s.must(ctx, "verify", s.node.url, "--policy", "policy.yaml", "--state", "seen", "--save", "report.json", "--json")
	if err != nil {
		return err
	}
	at := time.Now().UTC().Format(time.RFC3339)
	replayed, err := s.must(ctx, "verify", "report.json", "--policy", "policy.yaml", "--at", at, "--json")
	if err != nil {
		return err
	}
	if err := errors.Join(s.write("report.verdict.json", string(live.stdout)), s.write("report.at", at)); err != nil {
		return err
	}
	var now, then verdict
	if err := errors.Join(live.into(&now), replayed.into(&then)); err != nil {
		return err
	}
	if err := sameChecks(&now, &then); err != nil {
		return err
	}
	s.say("   %s", then.Sentence)
	s.saw["replayed"] = then.Sentence
	return nil
}

// sameChecks demands that a replay says of every check what was said live,
// except of those that a file cannot repeat.
func sameChecks(live, replayed *verdict) error {
	if !replayed.Accepted || !strings.HasPrefix(replayed.Sentence, "HISTORICAL") {
		return fmt.Errorf("the replay says: %s", replayed.Sentence)
	}
	if len(live.Checks) != len(replayed.Checks) {
		return fmt.Errorf("the replay has %d checks, and live there were %d", len(replayed.Checks), len(live.Checks))
	}
	repeated := 0
	for i, check := range replayed.Checks {
		switch {
		case check.Result == string(verifier.Recorded):
		case check.Name != live.Checks[i].Name || check.Result != live.Checks[i].Result:
			return fmt.Errorf("the replay says %s of the check %s, and live it was %s", check.Result, check.Name, live.Checks[i].Result)
		default:
			repeated++
		}
	}
	if repeated < len(live.Checks)/2 {
		return fmt.Errorf("a file repeats only %d of %d checks", repeated, len(live.Checks))
	}
	return nil
}

func errorText(a *answer, err error) string {
	if err != nil {
		return err.Error()
	}
	return tail(a.stderr)
}
