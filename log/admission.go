package log

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/yamldoc"
)

const (
	maxAdmissionBytes = 256 << 10
	maxWriters        = 1024
	maxProducts       = 1024
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

// ParseAdmission reads an admission file (docs/formats.md, "Log"). An error is
// a [*yamldoc.Error], which names the file, the line and the mend.
func ParseAdmission(name string, text []byte) (*Admission, error) {
	m := yamldoc.Read(name, text, yamldoc.Form{Name: "the admission file", Version: "admission/v1", MaxBytes: maxAdmissionBytes}, "writers")
	a := &Admission{}
	for _, v := range m.Need("writers", "name who may add to the log").Some(maxWriters, "writer") {
		a.readWriter(v)
	}
	if err := m.Err(); err != nil {
		return nil, err
	}
	return a, nil
}

// readWriter adds a writer, or says in the document why not.
func (a *Admission) readWriter(v yamldoc.Value) {
	m := v.Mapping("name", "key", "roles", "products")
	name := m.Need("name", "say who it is")
	w := Writer{Name: name.Text(statement.CheckText)}
	text := m.Need("key", "give the writer's public key as PEM")
	pem, _ := text.Block()
	if v.Err() != nil {
		return
	}
	var err error
	if w.Key, err = statement.ParsePublicKeyPEM([]byte(pem)); err != nil {
		text.Errorf("the key of %q: %v", w.Name, err)
		return
	}
	for _, other := range a.Writers {
		if other.Name == w.Name {
			name.Errorf("two writers are called %q: name each once, with all its roles", w.Name)
		}
		if other.Key.Equal(w.Key) {
			text.Errorf("%q and %q have the same key: name it once, with all its roles", other.Name, w.Name)
		}
	}
	for _, item := range m.Need("roles", "name its roles: "+roleList()).Some(len(roles), "role") {
		role := Role(item.Text(checkRole))
		if slices.Contains(w.Roles, role) {
			item.Errorf("the role %q stands twice: remove one", role)
		}
		w.Roles = append(w.Roles, role)
	}
	for _, item := range m.Need("products", "name the products that it may write about").Some(maxProducts, "product") {
		product := item.Text(statement.CheckName)
		if slices.Contains(w.Products, product) {
			item.Errorf("the product %q stands twice: remove one", product)
		}
		w.Products = append(w.Products, product)
	}
	a.Writers = append(a.Writers, w)
	a.keys = append(a.keys, w.Key)
}

func checkRole(s string) error {
	if !slices.Contains(roles, Role(s)) {
		return fmt.Errorf("%q is no role: the roles are %s", s, roleList())
	}
	return nil
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
