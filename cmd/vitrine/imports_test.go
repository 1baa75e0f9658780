package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/vitrine-dev/vitrine/"

// floors are the packages of the repository from the ground up, by the longest
// prefix that fits. A package may import what is on a lower floor, and what
// belongs to the same room.
var floors = []struct {
	prefix string
	floor  int
}{
	{"log/ijson", 0}, {"log/durable", 0}, {"log/yamldoc", 1}, {"log/vectors", 0},
	{"log/statement", 1}, {"log/receipt", 1}, {"node/evidence", 1}, {"builder/measure", 1}, {"verifier/hardware", 1},
	{"policies", 2},
	{"log", 3}, {"builder", 3}, {"verifier", 3}, {"node", 3},
	{"monitor", 4},
	{"cmd", 5},
}

func roomOf(pkg string) (room string, floor int) {
	for _, f := range floors {
		if pkg == f.prefix || strings.HasPrefix(pkg, f.prefix+"/") {
			return f.prefix, f.floor
		}
	}
	return "", -1
}

// TestImportsPointDown holds the layout that the README draws.
func TestImportsPointDown(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "../../...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the packages: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	packages := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages++
		from := strings.TrimPrefix(p.ImportPath, module)
		room, floor := roomOf(from)
		if room == "" {
			t.Errorf("%s stands on no floor", from)
			continue
		}
		for _, imported := range p.Imports {
			to, ok := strings.CutPrefix(imported, module)
			if !ok {
				continue
			}
			toRoom, toFloor := roomOf(to)
			if toFloor >= floor && toRoom != room {
				t.Errorf("%s imports %s, which is not below it", from, to)
			}
		}
	}
	if packages < 20 {
		t.Errorf("only %d packages were listed", packages)
	}
}
