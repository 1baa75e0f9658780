// Package vectors holds tests to golden files: those of a format to the ones in
// testdata/vectors, which other implementations can use too, and others to
// files of their own.
//
// A test makes its vectors in code, from keys that everybody can make again.
// [Check] compares them with the files, so that no format changes unseen, and
// hands each vector to the parser as the file has it. With -update the files
// are written anew; a change in them is a change of the format.
package vectors

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// A Vector is one golden file. testdata/vectors/README.md describes the
// members.
type Vector struct {
	Name        string         `json:"name"`
	Why         string         `json:"why"`
	Valid       bool           `json:"valid"`
	Error       string         `json:"error,omitempty"`
	Given       map[string]any `json:"given,omitempty"`
	Input       string         `json:"input,omitempty"`
	InputBase64 []byte         `json:"inputBase64,omitempty"` // where the input is not UTF-8
	Want        map[string]any `json:"want,omitempty"`
}

// Key returns the Ed25519 key of that name, which everybody can make again: its
// seed is the SHA-256 of a sentence that says so.
func Key(name string) ed25519.PrivateKey {
	seed := seed(name)
	return ed25519.NewKeyFromSeed(seed[:])
}

// KeyP256 returns the ECDSA P-256 key of that name: its scalar is that seed
// modulo the order of the group.
func KeyP256(name string) *ecdsa.PrivateKey {
	seed := seed(name)
	d := new(big.Int).SetBytes(seed[:])
	d.Mod(d, elliptic.P256().Params().N)
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d.FillBytes(make([]byte, 32)))
	if err != nil {
		panic(err) // a scalar of zero
	}
	return key
}

func seed(name string) [32]byte {
	return sha256.Sum256([]byte("vitrine test key, not secret: " + name))
}

// Bytes returns the input.
func (v Vector) Bytes() []byte {
	if v.InputBase64 != nil {
		return v.InputBase64
	}
	return []byte(v.Input)
}

// String returns a member of Given that is a string.
func (v Vector) String(name string) string {
	s, _ := v.Given[name].(string)
	return s
}

// Check compares made with the files in testdata/vectors/format and runs parse
// on each vector as read from its file. parse returns what the input means, for
// a valid vector to be compared with Want (where that is set), or the error,
// which for a vector that is not valid must have Error in its text.
func Check(t *testing.T, format string, made []Vector, parse func(Vector) (map[string]any, error)) {
	t.Helper()
	dir := filepath.Join(root(), "testdata", "vectors", format)
	if Update() {
		write(t, dir, made)
	}
	names := map[string]bool{}
	for _, v := range made {
		if names[v.Name] {
			t.Fatalf("two vectors are called %s/%s", format, v.Name)
		}
		names[v.Name] = true
		t.Run(v.Name, func(t *testing.T) {
			file, err := os.ReadFile(filepath.Join(dir, v.Name+".json"))
			if err != nil {
				t.Fatalf("%v (go test -update writes the vectors)", err)
			}
			if want := encode(t, v); !bytes.Equal(file, want) {
				t.Fatalf("the format has changed: the file differs from\n%s", want)
			}
			var read Vector
			if err := json.Unmarshal(file, &read); err != nil {
				t.Fatal(err)
			}
			got, err := parse(read)
			switch {
			case read.Valid && err != nil:
				t.Fatalf("refused: %v", err)
			case read.Valid && read.Want != nil:
				if g, w := compact(t, got), compact(t, read.Want); g != w {
					t.Errorf("got  %s\nwant %s", g, w)
				}
			case !read.Valid && err == nil:
				t.Fatalf("accepted; want an error that names %q", read.Error)
			case !read.Valid && (read.Error == "" || !strings.Contains(err.Error(), read.Error)):
				t.Errorf("refused with %q; want it to name %q", err, read.Error)
			}
		})
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".json"); !ok || !names[name] {
			t.Errorf("%s/%s is no vector of this test; remove it", format, e.Name())
		}
	}
}

// Inputs returns the inputs of all vectors of a format, as seeds for a fuzz
// target.
func Inputs(t testing.TB, format string) [][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(), "testdata", "vectors", format, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors of %s: %v", format, err)
	}
	var inputs [][]byte
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v Vector
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, v.Bytes())
	}
	return inputs
}

func root() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		panic("vectors: where is the module?")
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}

func write(t *testing.T, dir string, made []Vector) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, v := range made {
		if err := os.WriteFile(filepath.Join(dir, v.Name+".json"), encode(t, v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func encode(t *testing.T, v Vector) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compact(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
