package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const goodConfig = `{"upstream":"http://127.0.0.1:8000","listen":":8443","pushListen":":8480","platform":"auto"}`

func TestParseConfig(t *testing.T) {
	c, err := parseConfig([]byte(goodConfig))
	if err != nil {
		t.Fatal(err)
	}
	if want := (config{"http://127.0.0.1:8000", ":8443", ":8480", "auto"}); *c != want {
		t.Errorf("got %+v, want %+v", *c, want)
	}
	for name, test := range map[string]struct{ text, wantError string }{
		"empty":             {"", "there is nothing in it"},
		"a member missing":  {`{"upstream":"http://127.0.0.1:8000","listen":":8443","platform":"auto"}`, "pushListen"},
		"a member too many": {strings.Replace(goodConfig, `{`, `{"simulate":true,`, 1), "simulate"},
		"a member twice":    {strings.Replace(goodConfig, `{`, `{"platform":"tpm",`, 1), "platform"},
		"trailing bytes":    {goodConfig + "{}", "follows"},
		"simulated":         {strings.Replace(goodConfig, `"auto"`, `"simulated"`, 1), "none of"},
		"empty platform":    {strings.Replace(goodConfig, `"auto"`, `""`, 1), "platform"},
		"no port":           {strings.Replace(goodConfig, `":8443"`, `"127.0.0.1"`, 1), "ADDRESS:PORT"},
		"a named port":      {strings.Replace(goodConfig, `":8480"`, `":https"`, 1), "pushListen"},
		"a comment":         {"// x\n" + goodConfig, "byte"},
		"huge":              {goodConfig + strings.Repeat(" ", maxConfigBytes), "limit"},
	} {
		_, err := parseConfig([]byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.wantError) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.wantError)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte(`{}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseConfig(text)
		if err == nil && (c.Listen == "" || c.PushListen == "" || c.Platform == "") {
			t.Errorf("accepted with a default: %+v", c)
		}
	})
}

func TestRefusesOtherConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.json")
	if err := os.WriteFile(file, []byte(goodConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args, environ []string
		wantError     string
	}{
		"an argument": {args: []string{"-upstream=http://127.0.0.1:1"}, wantError: "takes none"},
		"a variable":  {environ: []string{"HOME=/", "VITRINE_UPSTREAM=http://127.0.0.1:1"}, wantError: "VITRINE_UPSTREAM"},
		"GODEBUG":     {environ: []string{"GODEBUG=tlsmlkem=0"}, wantError: "GODEBUG"},
	} {
		var console bytes.Buffer
		err := run(context.Background(), test.args, test.environ, file, &console)
		if err == nil || !strings.Contains(err.Error(), test.wantError) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.wantError)
		}
		if console.Len() != 0 {
			t.Errorf("%s: something was started: %s", name, console.String())
		}
	}
	if err := refuseOutside(nil, []string{"HOME=/", "TERM=linux", "PATH=/bin"}); err != nil {
		t.Errorf("an init's ordinary environment is refused: %v", err)
	}
	if err := run(context.Background(), nil, nil, filepath.Join(t.TempDir(), "absent"), os.Stderr); err == nil {
		t.Error("the node runs without a configuration")
	}
}

// Everyone who sends a prompt trusts each package in the node. What may never
// be among them is named here; the count is printed so that growth is seen.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	const limit = 110
	t.Logf("%d packages outside the standard library", len(packages))
	if len(packages) > limit {
		t.Errorf("%d packages outside the standard library, more than %d:\n%s", len(packages), limit, out)
	}
	for _, forbidden := range []string{
		"simulated", "tessera", "sigstore-go", "sigstore/sigstore", "sigstore/rekor", "cobra", "pflag", "sqlite", "sqlx",
		"aws", "cloud.google", "azure", "grpc", "opentelemetry", "badger", "containerregistry", "cel-go", "goccy",
		"vitrine/builder", "vitrine/verifier", "vitrine/policies", "vitrine/monitor", "vitrine/log/witness", "vitrine/log/staple",
	} {
		for _, p := range packages {
			if strings.Contains(strings.ToLower(p), forbidden) {
				t.Errorf("the node depends on %s (%q is not to be among its dependencies)", p, forbidden)
			}
		}
	}
	standard, err := exec.Command("go", "list", "-deps", "-f", "{{if .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, forbidden := range []string{"database/sql", "os/exec", "plugin", "net/http/pprof", "expvar"} {
		for _, p := range strings.Fields(string(standard)) {
			if p == forbidden {
				t.Errorf("the node depends on %s", p)
			}
		}
	}
}
