package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const escape = "\x1b["

// TestColourOnlyOnATerminal: escapes go to a terminal that wants them, and nowhere
// else.
func TestColourOnlyOnATerminal(t *testing.T) {
	for _, c := range []struct {
		name     string
		terminal bool
		env      string
		coloured bool
	}{
		{"a terminal", true, "TERM=xterm", true},
		{"a terminal, NO_COLOR", true, "NO_COLOR=1", false},
		{"a terminal, NO_COLOR empty", true, "NO_COLOR=", true}, // https://no-color.org: "not an empty string"
		{"a dumb terminal", true, "TERM=dumb", false},
		{"a pipe", false, "TERM=xterm", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("vitrine", "rejections", "receipt/quorum")
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GORACE=" + os.Getenv("GORACE"), c.env}
			var out string
			if c.terminal {
				out = onTerminal(t, cmd, &cmd.Stdout)
			} else {
				b, err := cmd.Output()
				if err != nil {
					t.Fatal(err)
				}
				out = string(b)
			}
			if !strings.Contains(out, "receipt/quorum") {
				t.Fatalf("the command printed %q", out)
			}
			if got := strings.Contains(out, escape); got != c.coloured {
				t.Errorf("colour: %v, want %v, in %q", got, c.coloured, out)
			}
		})
	}
}

// TestProgressOnlyOnATerminal: bars go to a terminal on stderr, also beside
// --json, whose object stands alone on stdout.
func TestProgressOnlyOnATerminal(t *testing.T) {
	dir := t.TempDir()
	recipe := filepath.Join(dir, "recipe")
	if err := os.CopyFS(recipe, os.DirFS(tinyRecipe)); err != nil {
		t.Fatal(err)
	}
	lock := func(args ...string) *exec.Cmd {
		cmd := exec.Command("vitrine", append([]string{"lock", recipe, "--cache", filepath.Join(dir, "inputs")}, args...)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TERM=xterm", "GORACE=" + os.Getenv("GORACE")}
		return cmd
	}
	for _, args := range [][]string{nil, {"--json"}} {
		var stdout bytes.Buffer
		cmd := lock(args...)
		cmd.Stdout = &stdout
		bar := onTerminal(t, cmd, &cmd.Stderr)
		if !strings.Contains(bar, escape) || !strings.Contains(bar, "[=") {
			t.Errorf("%v: there is no progress bar on the terminal: %q", args, bar)
		}
		if strings.Contains(stdout.String(), escape) {
			t.Errorf("%v: the bar is in the answer: %q", args, &stdout)
		}

		var stderr bytes.Buffer
		cmd = lock(args...)
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil || stderr.Len() > 0 {
			t.Errorf("%v: without a terminal: %v, %q on stderr", args, err, &stderr)
		}
	}
}

// onTerminal runs a command with a new pseudo-terminal as one of its streams, and
// gives what was written to it.
func onTerminal(t *testing.T, cmd *exec.Cmd, stream *io.Writer) string {
	t.Helper()
	master, slave, err := openTerminal()
	if err != nil {
		t.Fatalf("opening a pseudo-terminal: %v", err)
	}
	defer master.Close()
	*stream = slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	kill := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer kill.Stop()
	out, err := io.ReadAll(master)
	if err != nil && !errors.Is(err, syscall.EIO) { // EIO: the last writer has gone
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// openTerminal opens a pseudo-terminal of 80 columns (pts(4)).
func openTerminal() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}
