package vectors

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

// update is here and not in each test, since a flag can be registered once.
var update = flag.Bool("update", false, "write the golden files anew")

// Update says whether golden files are to be written anew (go test -update).
func Update() bool { return *update }

// Golden compares got with a golden file, which Update writes anew.
func Golden(t testing.TB, file string, got []byte) {
	t.Helper()
	if Update() {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s\n(go test -update writes it anew)", file, got, want)
	}
}
