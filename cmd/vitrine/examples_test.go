package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestExamplesAreCommands: each command that a help text or a page of the
// documentation shows is there, takes those flags, and lacks none.
func TestExamplesAreCommands(t *testing.T) {
	shown := map[string][]string{}
	var help func(c *cobra.Command)
	help = func(c *cobra.Command) {
		shown[c.CommandPath()+" --help"] = commandLines(c.Example)
		for _, sub := range c.Commands() {
			help(sub)
		}
	}
	help(newRoot())
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	fenced := regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```")
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fenced.FindAllSubmatch(text, -1) {
			shown[page] = append(shown[page], commandLines(string(block[1]))...)
		}
	}
	n := 0
	for where, lines := range shown {
		for _, line := range lines {
			n++
			if err := parses(line); err != nil {
				t.Errorf("%s: %s\n%v", where, line, err)
			}
		}
	}
	for _, wrong := range []string{
		"vitrine verfy x --policy p", "vitrine verify x", "vitrine verify x --policy p --frob", "vitrine verify --policy p", "vitrine log frob",
	} {
		if parses(wrong) == nil {
			t.Errorf("%s passes for a command", wrong)
		}
	}
	if n < 30 {
		t.Errorf("only %d commands were found", n)
	}
}

// commandLines gives the calls of vitrine in a text of shell commands.
func commandLines(text string) (lines []string) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		for part := range strings.SplitSeq(line, " | ") {
			part = strings.TrimPrefix(strings.TrimSpace(part), "$ ")
			if strings.HasPrefix(part, "vitrine ") {
				lines = append(lines, part)
			}
		}
	}
	return lines
}

var (
	shellWord = regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
	redirect  = regexp.MustCompile(` [<>] \S+`)
	comment   = regexp.MustCompile(`\s#.*$`)
)

// parses says what vitrine would say of a command line before it did anything.
func parses(line string) error {
	line = redirect.ReplaceAllString(comment.ReplaceAllString(line, ""), "")
	words := shellWord.FindAllString(line, -1)
	for i, w := range words {
		words[i] = strings.Trim(w, `'"`)
	}
	c, rest, err := newRoot().Find(words[1:])
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if c.Args == nil {
		return fmt.Errorf("%s takes any arguments", c.CommandPath())
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return err
	}
	return checkFlags(c, nil)
}
