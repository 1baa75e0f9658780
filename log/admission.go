package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/vitrine-dev/vitrine/log/statement"
)

const (
	maxAdmissionBytes = 256 << 10
	maxWriters        = 1024
	maxProducts       = 1024
	maxNameBytes      = 64
)

// Role is the kind of statements that a writer may make.
type Role string

// The roles, each with its predicate type.
const (
	RolePublisher  Role = "publisher"  // release
	RoleRebuilder  Role = "rebuilder"  // rebuild
	RoleChannel    Role = "channel"    // channel
	RoleWithdrawer Role = "withdrawer" // withdrawal
)

var roles = []Role{RolePublisher, RoleRebuilder, RoleChannel, RoleWithdrawer}

// roleFor is the role that a predicate takes.
func roleFor(s *statement.Statement) (role Role, kind string) {
	switch s.Predicate.(type) {
	case *statement.Release:
		return RolePublisher, "release"
	case *statement.Rebuild:
		return RoleRebuilder, "rebuild"
	case *statement.Channel:
		return RoleChannel, "channel"
	case *statement.Withdrawal:
		return RoleWithdrawer, "withdrawal"
	}
	return "", "unknown"
}

// A Writer is somebody who may add to the log.
type Writer struct {
	Name     string
	Key      *statement.PublicKey
	Roles    []Role
	Products []string
}

// Admission is who may add what: without it nobody may. Readers trust no entry
// for having been admitted; it keeps the log from filling with what concerns
// nobody.
type Admission struct {
	Writers []Writer
	keys    []*statement.PublicKey
}

// ParseAdmission reads an admission file (docs/formats.md, "Log"). Errors begin
// with the name given and the line.
func ParseAdmission(name string, text []byte) (*Admission, error) {
	if len(text) > maxAdmissionBytes {
		return nil, fmt.Errorf("%s: an admission file has at most %d bytes", name, maxAdmissionBytes)
	}
	a, err := parseAdmission(text)
	if err == nil {
		return a, nil
	}
	var at *atLine
	if errors.As(err, &at) {
		return nil, fmt.Errorf("%s:%d: %s", name, at.line, at.what)
	}
	return nil, fmt.Errorf("%s: %w", name, err)
}

// atLine is an error with its place in a YAML file.
type atLine struct {
	line int
	what string
}

func (e *atLine) Error() string { return e.what }

// admissionFile is the file as it is written.
type admissionFile struct {
	Vitrine string       `yaml:"vitrine"`
	Writers []writerFile `yaml:"writers"`
}

type writerFile struct {
	Name     string   `yaml:"name"`
	Key      string   `yaml:"key"`
	Roles    []string `yaml:"roles"`
	Products []string `yaml:"products"`
}

func parseAdmission(text []byte) (*Admission, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, yamlError(err)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, errors.New("an admission file is one YAML document")
	}
	if err := plain(file.Docs[0].Body); err != nil {
		return nil, err
	}
	var f admissionFile
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	refuse := func(path, format string, args ...any) error {
		return &atLine{line: lineOf(file, path), what: fmt.Sprintf(format, args...)}
	}
	if f.Vitrine != "admission/v1" {
		return nil, refuse("$.vitrine", "the file must say \"vitrine: admission/v1\"")
	}
	if len(f.Writers) == 0 || len(f.Writers) > maxWriters {
		return nil, refuse("$.writers", "name 1 to %d writers", maxWriters)
	}
	a := &Admission{}
	for i, w := range f.Writers {
		at := fmt.Sprintf("$.writers[%d]", i)
		if err := checkWriterName(w.Name); err != nil {
			return nil, refuse(at+".name", "the writer's name: %v", err)
		}
		key, err := statement.ParsePublicKeyPEM([]byte(w.Key))
		if err != nil {
			return nil, refuse(at+".key", "the key of %q: %v", w.Name, err)
		}
		for _, other := range a.Writers {
			if other.Name == w.Name {
				return nil, refuse(at+".name", "two writers are called %q", w.Name)
			}
			if other.Key.Equal(key) {
				return nil, refuse(at+".key", "%q and %q have the same key; name it once, with all its roles", other.Name, w.Name)
			}
		}
		writer := Writer{Name: w.Name, Key: key}
		if len(w.Roles) == 0 {
			return nil, refuse(at+".roles", "%q needs a role: %s", w.Name, roleList())
		}
		for j, r := range w.Roles {
			if !slices.Contains(roles, Role(r)) {
				return nil, refuse(fmt.Sprintf("%s.roles[%d]", at, j), "%q is no role; the roles are %s", r, roleList())
			}
			if slices.Contains(writer.Roles, Role(r)) {
				return nil, refuse(fmt.Sprintf("%s.roles[%d]", at, j), "the role %q stands twice", r)
			}
			writer.Roles = append(writer.Roles, Role(r))
		}
		if len(w.Products) == 0 || len(w.Products) > maxProducts {
			return nil, refuse(at+".products", "name 1 to %d products for %q", maxProducts, w.Name)
		}
		for j, p := range w.Products {
			if !isProduct(p) {
				return nil, refuse(fmt.Sprintf("%s.products[%d]", at, j), "%q is not a product's name: it has 1 to 64 of a-z, 0-9, \".\", \"_\", \"-\", and begins with a letter or digit", p)
			}
			if slices.Contains(writer.Products, p) {
				return nil, refuse(fmt.Sprintf("%s.products[%d]", at, j), "the product %q stands twice", p)
			}
			writer.Products = append(writer.Products, p)
		}
		a.Writers = append(a.Writers, writer)
		a.keys = append(a.keys, key)
	}
	return a, nil
}

// admit says who made the statement, if that writer may; otherwise an *Error.
func (a *Admission) admit(s *statement.Signed) (*Writer, error) {
	key, err := s.VerifyAny(a.keys)
	switch {
	case errors.Is(err, statement.ErrUnknownKey):
		return nil, errorf(NotAdmitted, "the signer's key is not in the admission list")
	case err != nil:
		return nil, errorf(NotAdmitted, "the signature does not verify: %v", err)
	}
	i := slices.IndexFunc(a.Writers, func(w Writer) bool { return w.Key.Equal(key) })
	w := &a.Writers[i]
	role, kind := roleFor(s.Statement)
	if !slices.Contains(w.Roles, role) {
		return nil, errorf(NotAdmitted, "%q has no role %q, which a %s statement takes", w.Name, role, kind)
	}
	if !slices.Contains(w.Products, s.Statement.Product()) {
		return nil, errorf(NotAdmitted, "%q may not write about the product %q", w.Name, s.Statement.Product())
	}
	return w, nil
}

func roleList() string {
	var names []string
	for _, r := range roles {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}

func checkWriterName(s string) error {
	if s == "" || len(s) > maxNameBytes {
		return fmt.Errorf("it has 1 to %d bytes", maxNameBytes)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("it may not have control characters")
	}
	return nil
}

func isProduct(s string) bool {
	if s == "" || len(s) > maxNameBytes || strings.IndexByte("._-", s[0]) >= 0 {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}

// plain refuses what makes YAML mean something other than what stands there.
func plain(root ast.Node) error {
	var found error
	ast.Walk(visitor(func(n ast.Node) bool {
		var what string
		switch n.(type) {
		case *ast.AnchorNode:
			what = "an anchor"
		case *ast.AliasNode:
			what = "an alias"
		case *ast.MergeKeyNode:
			what = "a merge key"
		case *ast.TagNode:
			what = "a tag"
		default:
			return found == nil
		}
		if found == nil {
			found = &atLine{line: n.GetToken().Position.Line, what: what + " is not allowed here; write the value out"}
		}
		return false
	}), root)
	return found
}

type visitor func(ast.Node) bool

func (v visitor) Visit(n ast.Node) ast.Visitor {
	if v(n) {
		return v
	}
	return nil
}

// lineOf gives the line of the node at path, or of the nearest one above it
// that is there.
func lineOf(file *ast.File, path string) int {
	for path != "$" {
		if p, err := yaml.PathString(path); err == nil {
			if n, err := p.FilterFile(file); err == nil && n != nil && n.GetToken() != nil {
				return n.GetToken().Position.Line
			}
		}
		path = path[:strings.LastIndexAny(path, ".[")]
	}
	return 1
}

// yamlError gives goccy's error its line, without the excerpt that it prints.
func yamlError(err error) error {
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil {
		return &atLine{line: y.GetToken().Position.Line, what: y.GetMessage()}
	}
	return err
}
