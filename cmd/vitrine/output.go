package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// jsonFlag adds --json, which every command that answers a question has.
func jsonFlag(c *cobra.Command) *bool {
	return c.Flags().Bool("json", false, "print the answer as one JSON object")
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func printJSONLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// palette holds ANSI escapes, or nothing where stdout is no terminal or the
// reader asked for none (https://no-color.org).
type palette struct{ good, bad, dim, bold, reset string }

func colours(w io.Writer) palette {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return palette{}
	}
	return palette{good: "\x1b[32m", bad: "\x1b[31m", dim: "\x1b[2m", bold: "\x1b[1m", reset: "\x1b[0m"}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// say prints a line for a person; it stays silent with --json.
func say(c *cobra.Command, asJSON bool, format string, args ...any) {
	if !asJSON {
		fmt.Fprintf(c.OutOrStdout(), format+"\n", args...)
	}
}

// timeLayout prints times as our formats write them.
const timeLayout = time.RFC3339

// timeNow is the clock of a command; libraries are given it.
func timeNow() time.Time { return time.Now().UTC().Truncate(time.Second) }
