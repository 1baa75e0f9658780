package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// edit FILE PATTERN REPLACEMENT [COPY] changes a file, or a copy of it, which has
// to match. \n and \t in the replacement are a line's end and a tab.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: edit FILE PATTERN REPLACEMENT [COPY]")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	text := ts.ReadFile(args[0])
	if !pattern.MatchString(text) {
		ts.Fatalf("%s has nothing like %s", args[0], args[1])
	}
	// Only the first: the tests change one thing.
	at := pattern.FindStringSubmatchIndex(text)
	replacement := strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(args[2])
	changed := text[:at[0]] + string(pattern.ExpandString(nil, replacement, text, at)) + text[at[1]:]
	to := args[0]
	if len(args) == 4 {
		to = args[3]
	}
	ts.Check(os.WriteFile(ts.MkAbs(to), []byte(changed), 0o600))
}

// inside FILE MEMBER PATTERN REPLACEMENT COPY changes, in a copy of a JSON file,
// what a member holds in base64.
func inside(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: inside FILE MEMBER PATTERN REPLACEMENT COPY")
	}
	member := regexp.MustCompile(`"` + regexp.QuoteMeta(args[1]) + `":"([^"]*)"`)
	text := ts.ReadFile(args[0])
	at := member.FindStringSubmatchIndex(text)
	if at == nil {
		ts.Fatalf("%s has no member %s", args[0], args[1])
	}
	held, err := base64.StdEncoding.DecodeString(text[at[2]:at[3]])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[4]), held, 0o600))
	edit(ts, false, []string{args[4], args[2], args[3]})
	held = []byte(ts.ReadFile(args[4]))
	ts.Check(os.WriteFile(ts.MkAbs(args[4]), []byte(text[:at[2]]+base64.StdEncoding.EncodeToString(held)+text[at[3]:]), 0o600))
}

// cut FILE COPY copies the first half of a file.
func cut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cut FILE COPY")
	}
	text := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text[:len(text)/2]), 0o600))
}

// fill FILE BYTES writes a file that is too large.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fill FILE BYTES")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Repeat([]byte(" "), n), 0o600))
}

// damage FOLDER changes a byte in the middle of every file below it.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: damage FOLDER")
	}
	damaged := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			return err
		}
		b[len(b)/2] ^= 1
		damaged++
		return os.WriteFile(path, b, 0o600)
	}))
	if damaged == 0 {
		ts.Fatalf("there is nothing in %s", args[0])
	}
}

// write FILE LINE... writes a text file, with variables in it.
func write(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: write FILE LINE...")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(args[1:], "\n")+"\n"), 0o600))
}

// empty FOLDER... demands that nothing is in a folder, or that it is not there.
func empty(ts *testscript.TestScript, neg bool, args []string) {
	for _, dir := range args {
		left, err := os.ReadDir(ts.MkAbs(dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			ts.Check(err)
		}
		if (len(left) == 0) == neg {
			ts.Fatalf("%s holds %v", dir, left)
		}
	}
}

// mode FILE... prints the permissions of files.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	for _, path := range args {
		info, err := os.Stat(ts.MkAbs(path))
		ts.Check(err)
		fmt.Fprintf(ts.Stdout(), "%s %s\n", info.Mode(), path)
	}
}

// vkey NAME FILE keeps a public key in a variable.
func vkey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: vkey NAME FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// appendkey FILE ROLE lets the key ROLE.pub write what a ROLE writes, by the
// admission file FILE.
func appendKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: appendkey FILE ROLE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(ts.ReadFile(args[0])+admitted(ts, args[1])), 0o600))
}
