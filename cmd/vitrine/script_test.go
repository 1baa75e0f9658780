package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write the expected output into testdata/script anew")

func TestMain(m *testing.M) {
	// Under the race detector a process would sleep for a second before it ends,
	// each of some hundreds.
	os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	testscript.Main(m, map[string]func(){"vitrine": main})
}

// TestScripts runs the commands as people do, and compares what they see.
func TestScripts(t *testing.T) {
	shared := &fixture{dir: t.TempDir()}
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script"),
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, ".home")
			if err := os.Mkdir(home, 0o700); err != nil {
				return err
			}
			env.Setenv("HOME", home)
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Setenv("INPUTS", filepath.Join(shared.dir, "inputs"))
			env.Setenv("GO_CACHE", filepath.Join(shared.dir, "go"))
			env.Values[fixtureKey{}] = shared
			env.Values[worldKey{}] = &world{}
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "ovmf" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			_, err := os.Stat("/usr/share/OVMF/OVMF_CODE_4M.fd")
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":      exits,
			"eventually": eventually,
			"refuses":    refuses,
			"mask":       mask,
			"object":     object,
			"inside":     inside,
			"edit":       edit,
			"recipe":     copyRecipe,
			"image":      copyImage,
			"empty":      empty,
			"mode":       mode,
			"now":        now,
			"vkey":       vkey,
			"write":      write,
			"damage":     damage,
			"cut":        cut,
			"appendkey":  appendKey,
			"fill":       fill,
			"world":      startWorld,
			"serve":      serve,
			"halt":       haltServer,
			"again":      startAgain,
			"upstream":   upstream,
			"post":       post,
			"files":      serveFiles,
		},
	})
}

// exits STATUS COMMAND... runs a command that has to end with that status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND...")
	}
	if got := status(ts, args[1:]); strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s ended with status %d, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// eventually STATUS COMMAND... runs a command again and again until it ends with
// that status.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually STATUS COMMAND...")
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		got := status(ts, args[1:])
		if strconv.Itoa(got) == args[0] {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s ends with status %d, and not with %s", strings.Join(args[1:], " "), got, args[0])
		}
	}
}

// status runs a command and gives its exit status.
func status(ts *testscript.TestScript, command []string) int {
	err := ts.Exec(command[0], command[1:]...)
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	ts.Check(err)
	return 0
}

// refuses SEEN COMMAND... runs a command that cannot do what it was asked: it ends
// with status 2, prints nothing on stdout and one line on stderr, which is added
// to the file SEEN as mask would write it.
func refuses(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: refuses SEEN COMMAND...")
	}
	exits(ts, false, append([]string{"2"}, args[1:]...))
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("a command that could not ask printed an answer: %s", out)
	}
	line := ts.ReadFile("stderr")
	if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
		ts.Fatalf("an error is one sentence, and this is none: %q", line)
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer f.Close()
	_, err = f.WriteString(masked(ts, line))
	ts.Check(err)
}

func masked(ts *testscript.TestScript, text string) string {
	text = strings.ReplaceAll(text, ts.Getenv("WORK"), "$WORK")
	for _, m := range masks {
		text = m.pattern.ReplaceAllLiteralString(text, m.name)
	}
	return text
}

// masks replace what no two runs have in common.
var masks = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`127\.0\.0\.1:\d{2,5}`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`\+[0-9a-f]{8}\+[A-Za-z0-9+/]{43,44}=?`), "+HASH+KEY"},
	{regexp.MustCompile(`[0-9a-f]{41,}…`), "HEX…"},
	{regexp.MustCompile(`[0-9a-f]{16}…`), "HEX16…"},
	{regexp.MustCompile(`\b[0-9a-f]{8}…`), "HEX8…"},
	{regexp.MustCompile(`\b[0-9a-f]{96}\b`), "HEX96"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "HEX64"},
	{regexp.MustCompile(`\b([0-9]+[hms]+)+ ago\b`), "AGE ago"},
	{regexp.MustCompile(`\bbyte \d{3,}\b`), "byte OFFSET"},
	{regexp.MustCompile(`\bcheckpoint \d+ of\b`), "checkpoint SIZE of"},
	{regexp.MustCompile(`\b\d+ checkpoints\b`), "SOME checkpoints"},
	{regexp.MustCompile(`\b\d+ of the same size\b`), "SOME of the same size"},
	{regexp.MustCompile(`\bgo1\.\d+(\.\d+)?\b`), "goVERSION"},
	{regexp.MustCompile(`\bGo 1\.\d+(\.\d+)?\b`), "Go VERSION"},
}

// mask FILE SEEN copies FILE, which may be stdout or stderr, to SEEN with names
// in place of digests, times and ports, so that cmp compares the rest exactly.
func mask(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mask FILE SEEN")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(masked(ts, ts.ReadFile(args[0]))), 0o600))
}

// object FILE [PATH=VALUE...] demands that FILE is one JSON object and nothing
// else, in which each PATH (a.b.0.c) has that value, written as JSON or, for a
// string, bare. PATH alone demands that it is there, !PATH that it is not, and
// PATH=>NAME keeps the value in a variable.
func object(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: object FILE [PATH=VALUE...]")
	}
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		ts.Fatalf("%s is not a JSON object: %v", args[0], err)
	}
	if _, err := dec.Token(); err != io.EOF {
		ts.Fatalf("something follows the JSON object in %s", args[0])
	}
	for _, arg := range args[1:] {
		path, want, compare := strings.Cut(arg, "=")
		path, absent := strings.CutPrefix(path, "!")
		got, ok := lookUp(v, path)
		switch {
		case ok == absent:
			ts.Fatalf("%s: present: %v, want %v", path, ok, !absent)
		case !compare:
			continue
		}
		text, isText := got.(string)
		if !isText {
			b, err := json.Marshal(got)
			ts.Check(err)
			text = string(b)
		}
		if name, keep := strings.CutPrefix(want, ">"); keep {
			ts.Setenv(name, text)
		} else if text != want {
			ts.Fatalf("%s is %s, want %s", path, text, want)
		}
	}
}

func lookUp(v any, path string) (any, bool) {
	for name := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = at[name]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(at) {
				return nil, false
			}
			v = at[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// now NAME [OFFSET] keeps the time in a variable, as our formats write it.
func now(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: now NAME [OFFSET]")
	}
	t := timeNow()
	if len(args) > 1 {
		d, err := time.ParseDuration(args[1])
		ts.Check(err)
		t = t.Add(d)
	}
	ts.Setenv(args[0], t.Format(timeLayout))
}

type fixtureKey struct{}

// fixture is what the scripts share: the smallest recipe, locked and built once.
type fixture struct {
	dir  string
	once sync.Once
	err  error
}

const tinyRecipe = "../../builder/testdata/tiny"

func (f *fixture) build() error {
	f.once.Do(func() {
		recipe := filepath.Join(f.dir, "recipe")
		if f.err = os.CopyFS(recipe, os.DirFS(tinyRecipe)); f.err != nil {
			return
		}
		for _, args := range [][]string{
			{"lock", recipe},
			{"build", recipe, "--out", filepath.Join(f.dir, "image"), "--go-cache", filepath.Join(f.dir, "go")},
		} {
			if f.err = quietly(append(args, "--cache", filepath.Join(f.dir, "inputs"))...); f.err != nil {
				return
			}
		}
	})
	return f.err
}

// quietly runs a command in this process.
func quietly(args ...string) error {
	root := newRoot()
	root.SetArgs(args)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	if err := root.ExecuteContext(context.Background()); err != nil {
		return fmt.Errorf("vitrine %s: %w\n%s", strings.Join(args, " "), err, out.Bytes())
	}
	return nil
}

// recipe FOLDER... copies the smallest recipe, without a lock.
func copyRecipe(ts *testscript.TestScript, neg bool, args []string) {
	for _, dir := range args {
		ts.Check(os.CopyFS(ts.MkAbs(dir), os.DirFS(tinyRecipe)))
	}
}

// image FOLDER makes a folder with the smallest recipe, locked, and its image.
func copyImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: image FOLDER")
	}
	f := ts.Value(fixtureKey{}).(*fixture)
	ts.Check(f.build())
	for _, part := range []string{"recipe", "image"} {
		ts.Check(os.CopyFS(filepath.Join(ts.MkAbs(args[0]), part), os.DirFS(filepath.Join(f.dir, part))))
	}
}
