package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/scanner"
	"unicode"
)

// maxAssemblyBytes bounds one file of assembly; the largest known ones have a
// few MiB.
const maxAssemblyBytes = 64 << 20

// checkAssembly refuses a program one of whose assembly files, in its module or
// in a dependency, includes a file from elsewhere.
//
// Go's assembler opens whatever path an #include names. With macros that turn
// each word that may stand there into other instructions, the digest of the
// program then tells its author what a file of this machine holds.
func checkAssembly(ctx context.Context, t Toolchain, home, dir string, c compilation) error {
	out, err := t.run(ctx, home, dir, append([]string{"list", "-deps", "-json=Dir,ImportPath,Standard,SFiles", "--"}, c.packages...)...)
	if err != nil {
		return &CompileError{c.module, c.packages, err}
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p struct {
			Dir, ImportPath string
			Standard        bool
			SFiles          []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading what go list printed: %w", err)
		}
		if p.Standard {
			continue
		}
		for seen, left := map[string]bool{}, p.SFiles; len(left) > 0; left = left[1:] {
			if seen[left[0]] {
				continue
			}
			seen[left[0]] = true
			included, err := includesOf(filepath.Join(p.Dir, left[0]))
			if err != nil {
				return fmt.Errorf("compiling the package %s: %s: %w", p.ImportPath, left[0], err)
			}
			left = append(left, included...)
		}
	}
}

// includesOf gives the names that a file of assembly includes, all of which are
// plain file names. A file that is not there includes nothing: it is one that
// the toolchain adds, such as textflag.h.
func includesOf(name string) ([]string, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAssemblyBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxAssemblyBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxAssemblyBytes)
	}
	return scanIncludes(b)
}

// scanIncludes reads assembly as cmd/asm/internal/lex does, but without macros:
// they can put "#" and what is included elsewhere, and cannot make the word
// "include" of other words. So every one of them has to be followed by a name.
func scanIncludes(b []byte) ([]string, error) {
	var s scanner.Scanner
	s.Init(bytes.NewReader(b))
	s.Whitespace = 1<<'\t' | 1<<'\r' | 1<<' '
	s.Mode = scanner.ScanChars | scanner.ScanFloats | scanner.ScanIdents | scanner.ScanInts | scanner.ScanStrings | scanner.ScanComments | scanner.SkipComments
	s.Error = func(*scanner.Scanner, string) {} // the assembler will say it
	s.IsIdentRune = func(c rune, i int) bool {
		// Middle dot and division slash stand for "." and "/".
		return unicode.IsLetter(c) || c == '_' || c == '\u00b7' || c == '\u2215' || i > 0 && unicode.IsDigit(c)
	}
	var names []string
	for tok := s.Scan(); tok != scanner.EOF; tok = s.Scan() {
		if tok != scanner.Ident || s.TokenText() != "include" {
			continue
		}
		line := s.Line
		if tok = s.Scan(); tok != scanner.String {
			return nil, fmt.Errorf(`at line %d stands the word "include" without a name behind it: write #include "NAME"`, line)
		}
		name, err := strconv.Unquote(s.TokenText())
		if err != nil || name == "" || name == ".." || strings.ContainsAny(name, "/\\\x00") {
			return nil, fmt.Errorf("at line %d it includes %+q, which may lie outside of the package: include files of the package, by name", line, name)
		}
		names = append(names, name)
	}
	return names, nil
}
