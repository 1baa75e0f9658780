package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Toolchain says how Go is run. The zero value runs the go command on PATH,
// with no proxy, so that every module has to be in ModCache already.
type Toolchain struct {
	// Go is the path of the go command; "" for the one on PATH.
	Go string
	// Proxy is GOPROXY, "off" if empty. "direct" is left out: go would ask any
	// host whose name a stranger's go.mod holds, those of this network included.
	Proxy string
	// Cache and ModCache are GOCACHE and GOMODCACHE; "" for empty folders that
	// are removed with the work folder. A compiled package in a shared cache is
	// taken as it is, so a stranger's build that is to count begins empty.
	Cache, ModCache string
	// Parallel is go build's -p; 0 for the number of processors.
	Parallel int
	// Environment adds variables for reaching Proxy: HTTP_PROXY, HTTPS_PROXY,
	// NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR. No other name is taken.
	Environment []string

	// Conditions that must not matter; set by Reproduce.
	umask string
	vary  []string
}

// ErrToolchain says that the Go version here is not the one that the lock names.
var ErrToolchain = errors.New("another Go version is needed")

var networkVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// maxToolOutput bounds what is kept of a tool's output; an error message shows
// its end.
const maxToolOutput = 64 << 20

// prepare fills in what was left empty. Folders that were not given lie in work.
func (t Toolchain) prepare(work string) (Toolchain, error) {
	if t.Go == "" {
		path, err := exec.LookPath("go")
		if err != nil {
			return t, fmt.Errorf("looking for the go command: %w: install Go from https://go.dev/dl/", err)
		}
		t.Go = path
	}
	path, err := filepath.Abs(t.Go)
	if err != nil {
		return t, fmt.Errorf("looking for the go command: %w", err)
	}
	t.Go = path
	for _, dir := range []struct {
		p    *string
		name string
	}{{&t.Cache, "gocache"}, {&t.ModCache, "gomodcache"}} {
		if *dir.p == "" {
			*dir.p = filepath.Join(work, dir.name)
		}
		if *dir.p, err = filepath.Abs(*dir.p); err != nil {
			return t, fmt.Errorf("making the folder for Go's caches: %w", err)
		}
	}
	t.Proxy = withoutDirect(t.Proxy)
	for _, e := range t.Environment {
		name, _, _ := strings.Cut(e, "=")
		if !slices.Contains(networkVariables, name) {
			return t, fmt.Errorf("running Go: the variable %s is not for reaching the module proxy: leave it out (taken: %s)", name, strings.Join(networkVariables, ", "))
		}
	}
	return t, nil
}

// withoutDirect leaves "direct" out of a GOPROXY, and gives "off" if nothing is
// left.
func withoutDirect(proxies string) string {
	kept := ""
	for proxies != "" {
		end := strings.IndexAny(proxies, ",|")
		if end < 0 {
			end = len(proxies)
		}
		proxy := strings.TrimSpace(proxies[:end])
		rest := proxies[end:]
		proxies = strings.TrimLeft(rest, ",|")
		if proxy == "" || proxy == "direct" {
			continue
		}
		kept += proxy
		if rest != "" {
			kept += rest[:1] // when to go on to the next: "," after 404 and 410, "|" after any error
		}
	}
	if kept = strings.TrimRight(kept, ",|"); kept == "" {
		return "off"
	}
	return kept
}

// noPrograms is PATH: go knows where its own tools are, and a stranger's module
// has no business with any other program.
const noPrograms = "/nonexistent"

// environment is everything that Go sees of this machine. GOENV=off and GOWORK=off
// keep a user's settings out; GOVCS keeps a module path from starting a version
// control program; GOSUMDB is off because every module has to stand in the
// locked go.sum (-mod=readonly), which is the stronger statement.
func (t Toolchain) environment(home string) []string {
	env := []string{
		"HOME=" + home,
		"TMPDIR=" + home,
		"PATH=" + noPrograms,
		"LC_ALL=C",
		"TZ=UTC",
		"CGO_ENABLED=0",
		"GOOS=linux",
		"GOARCH=amd64",
		"GOAMD64=v1",
		"GOFIPS140=off",
		"GOEXPERIMENT=",
		"GODEBUG=",
		"GOENV=off",
		"GOWORK=off",
		"GOTOOLCHAIN=local",
		"GOFLAGS=-mod=readonly -modcacherw",
		"GOPROXY=" + t.Proxy,
		"GOSUMDB=off",
		"GOVCS=*:off",
		"GOAUTH=off",
		"GOCACHE=" + t.Cache,
		"GOMODCACHE=" + t.ModCache,
		"GOPATH=" + filepath.Join(home, "go"),
	}
	env = append(env, t.Environment...)
	return append(env, t.vary...) // the last value of a name counts
}

// run runs go with args in dir and gives what it printed on standard output.
func (t Toolchain) run(ctx context.Context, home, dir string, args ...string) ([]byte, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("making the home folder for Go: %w", err)
	}
	if err := noTelemetry(home); err != nil {
		return nil, err
	}
	argv := append([]string{t.Go}, args...)
	if t.umask != "" {
		// umask belongs to the whole process, so it is changed in a child's.
		argv = append([]string{"/bin/sh", "-c", `umask "$0" && exec "$@"`, t.umask}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = t.environment(home)
	// go runs compilers: they have to end with it, or they would write into a
	// work folder that is being removed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stdout, stderr := &tail{limit: maxToolOutput}, &tail{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("running go %s: %w", args[0], ctx.Err())
	case err != nil:
		return nil, &toolError{args[0], err, strings.TrimSpace(stderr.String())}
	case stdout.dropped:
		return nil, fmt.Errorf("running go %s: it printed more than %d bytes", args[0], maxToolOutput)
	}
	return stdout.Bytes(), nil
}

// toolError is a go command that failed.
type toolError struct {
	verb   string
	err    error
	output string
}

func (e *toolError) Error() string {
	return fmt.Sprintf("running go %s: %v: %s", e.verb, e.err, e.output)
}

func (e *toolError) Unwrap() error { return e.err }

// noTelemetry keeps go from leaving a process behind that counts what was run:
// it would still write below home while the work folder is removed.
func noTelemetry(home string) error {
	mode := filepath.Join(home, ".config", "go", "telemetry", "mode")
	if _, err := os.Stat(mode); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(mode), 0o700); err != nil {
		return fmt.Errorf("making the home folder for Go: %w", err)
	}
	if err := os.WriteFile(mode, []byte("off\n"), 0o600); err != nil {
		return fmt.Errorf("making the home folder for Go: %w", err)
	}
	return nil
}

// version gives what `go env GOVERSION` prints.
func (t Toolchain) version(ctx context.Context, home string) (string, error) {
	out, err := t.run(ctx, home, "", "env", "GOVERSION")
	return strings.TrimSpace(string(out)), err
}

// need refuses any Go version but one: another compiles other bits.
func (t Toolchain) need(ctx context.Context, home, want string) error {
	got, err := t.version(ctx, home)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%w: the lock says %s, and %s is %s: install it (https://go.dev/dl/), or lock the recipe again", ErrToolchain, want, t.Go, got)
	}
	return nil
}

func (t Toolchain) parallel() []string {
	if t.Parallel <= 0 {
		return nil
	}
	return []string{"-p", strconv.Itoa(t.Parallel)}
}

// tail keeps the last limit bytes that are written to it, or a little more.
type tail struct {
	bytes.Buffer
	limit   int
	dropped bool
}

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(p []byte) (int, error) {
	n, _ := t.Buffer.Write(p)
	if over := t.Len() - t.limit; over > t.limit/4 {
		t.Next(over)
		t.dropped = true
	}
	return n, nil
}
