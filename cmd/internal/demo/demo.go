//go:build linux

// Package demo tells the whole story of Vitrine on one machine: keys, log and
// witnesses, a reproducible image, a node that boots it, a client that refuses
// and then accepts it, a monitor that rebuilds it, and the attacks that the
// client notices.
//
// It has no way of its own: it runs the vitrine command as a person would, each
// server as a process of its own, and prints the commands that it runs.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/vitrine-dev/vitrine/cmd/internal/vm"
)

// Mode is what stands in for confidential hardware.
type Mode string

const (
	// TPM boots the image under QEMU, measured into a software TPM.
	TPM Mode = "tpm"
	// Simulated measures the image as an SEV-SNP processor would, under a
	// throw-away root.
	Simulated Mode = "simulated"
)

// Config is a run of the demo.
type Config struct {
	Vitrine string // path of the vitrine command
	Recipes string // folder with the recipes hello-inference and unreproducible
	Mode    Mode   // "" chooses by what the machine has
	Keep    bool   // keep the folder
	Dir     string // the folder, which must not exist; "" for a temporary one
	JSON    bool   // one JSON object per step, and nothing else, on Out
	Out     io.Writer
	Log     io.Writer // what the processes say, for when a step fails; nil for nobody
	// Colour says whether Out is a terminal that wants it.
	Colour bool
}

// ErrFailed says that a step did not come out as told. It has been printed.
var ErrFailed = errors.New("a step of the demo did not come out as it should")

// Result is what a step prints with JSON.
type Result struct {
	Step    int            `json:"step"`
	Name    string         `json:"name"`
	OK      bool           `json:"ok"`
	Mode    Mode           `json:"mode"`
	Seconds float64        `json:"seconds"`
	Saw     map[string]any `json:"saw,omitempty"`
	Error   string         `json:"error,omitempty"`
}

// step is one of the story's. It returns an error if anything came out
// otherwise than the step says.
type step struct {
	name string
	run  func(*story, context.Context) error
}

var steps = []step{
	{"Keys, a log, two witnesses", (*story).foundations},
	{"One recipe, built twice", (*story).build},
	{"Published, with both witnesses", (*story).publish},
	{"A node runs the image", (*story).startNode},
	{"The client refuses: nobody has rebuilt it", (*story).refuseUnrebuilt},
	{"A monitor rebuilds every release", (*story).monitor},
	{"The client accepts, and only then sends a prompt", (*story).accept},
	{"Attacks, each beside its honest twin", (*story).attacks},
}

// Run tells the story. It returns ErrFailed if a step did not come out exactly
// as told.
func Run(ctx context.Context, c Config) error {
	if c.Mode == "" {
		c.Mode = Simulated
		if ok, _ := vm.Available(); ok {
			c.Mode = TPM
		}
	}
	recipes, err := filepath.Abs(c.Recipes)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(recipes, "hello-inference", "image.yaml")); err != nil {
		return fmt.Errorf("the demo builds the recipes of the repository: %w; run it at the top of a clone, or name the folder with --recipes", err)
	}
	c.Recipes = recipes
	dir, err := makeDir(c.Dir)
	if err != nil {
		return err
	}
	s := newStory(c, dir)
	defer func() {
		s.stopAll()
		if c.Keep {
			s.say("\nEverything is kept in %s", dir)
			return
		}
		removeAll(dir)
		s.say("\nRemoved %s", dir)
	}()
	s.introduce()
	for i, st := range steps {
		began := time.Now()
		s.begin(i+1, st.name)
		err := st.run(s, ctx)
		r := Result{Step: i + 1, Name: st.name, OK: err == nil, Mode: c.Mode, Seconds: time.Since(began).Round(100 * time.Millisecond).Seconds(), Saw: s.saw}
		if err != nil {
			r.Error = err.Error()
		}
		s.end(r)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return ErrFailed
		}
	}
	return nil
}

func makeDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "vitrine-demo-")
	}
	return dir, os.Mkdir(dir, 0o700)
}

func (s *story) introduce() {
	s.say("Vitrine, the whole story, in %s", s.dir)
	switch s.c.Mode {
	case TPM:
		s.say("Mode tpm: the image really boots under QEMU, and OVMF measures it into a software TPM.")
		s.say("A virtual TPM belongs to its host: what it shows is measured, not confidential.")
	default:
		s.say("Mode simulated: the image is measured as an AMD SEV-SNP processor would measure it, under")
		s.say("a throw-away root. Nothing is isolated, and nothing boots: measured, not confidential.")
		if _, missing := vm.Available(); len(missing) > 0 {
			s.say("For a real measured boot: apt-get install --no-install-recommends %s", joinWords(vm.Packages))
		}
	}
}

func (s *story) begin(n int, name string) {
	s.saw = map[string]any{}
	s.say("\n%s%d. %s%s", s.bold, n, name, s.reset)
}

func (s *story) end(r Result) {
	if s.c.JSON {
		b, err := json.Marshal(r)
		if err != nil {
			b = []byte(fmt.Sprintf(`{"step":%d,"ok":false,"error":"the step's result cannot be printed"}`, r.Step))
		}
		fmt.Fprintf(s.c.Out, "%s\n", b)
		return
	}
	if r.OK {
		s.say("   %s✓ as it should be%s %s(%.1f s)%s", s.good, s.reset, s.dim, r.Seconds, s.reset)
		return
	}
	s.say("   %s✗ %s%s", s.bad, r.Error, s.reset)
}
