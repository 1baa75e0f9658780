package builder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
	"github.com/vitrine-dev/vitrine/builder/measure"
)

func tinyRecipe(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/tiny/image.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseRecipe(t *testing.T) {
	got, err := ParseRecipe("image.yaml", []byte(tinyRecipe(t)))
	if err != nil {
		t.Fatal(err)
	}
	got.sha256 = ""
	want := &Recipe{
		Product:       "tiny",
		Version:       "1.0",
		SecurityEpoch: 1,
		Source:        Source{"https://vitrine.test/tiny", "0123456789abcdef0123456789abcdef01234567", time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)},
		Kernel:        Kernel{File: "kernel.txt"},
		CommandLine:   "console=ttyS0 panic=-1",
		Init:          Program{Module: "program", Package: "./initial"},
		Root: []Step{
			{Kind: KindGo, To: "/usr/bin/server", Mode: 0o755, Program: Program{"program", "./server", map[string]string{"main.version": "${VERSION}"}}},
			{Kind: KindFile, To: "/etc/tiny.conf", Mode: 0o600, UID: 7, GID: 8, From: "tiny.conf"},
			{Kind: KindFile, To: "/etc/motd", Mode: 0o644, Content: "hello\n"},
			{Kind: KindDir, To: "/var/lib/tiny", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
			{Kind: KindSymlink, To: "/bin", Mode: fs.ModeSymlink | 0o777, Target: "usr/bin"},
		},
		Services: []guestconfig.Service{{Name: "server", Argv: []string{"/usr/bin/server", "--port", "8081"}, Env: []string{"HOME=/"}, UID: 1000, GID: 1000}},
		Network:  &guestconfig.Network{Interface: "eth0", Address: "10.0.2.15/24"},
		Shapes: []Machine{{
			Name: "simulated", Platform: "sev-snp", Firmware: FirmwareSource{Simulated: true},
			VMM: measure.VMMQEMU, VCPUs: 2, VCPUType: "EPYC-v4", GuestFeatures: 1, GuestPolicy: 0x30000,
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestParseRecipeRefuses changes one thing in a good recipe and expects the line
// of the change and a word of the mend.
func TestParseRecipeRefuses(t *testing.T) {
	const whole = "\x00"
	for name, c := range map[string]struct {
		old, new string
		line     int
		want     string
	}{
		"empty":                    {whole, "", 1, "empty"},
		"only a comment":           {whole, "# nothing\n", 1, "empty"},
		"a list":                   {whole, "[]\n", 1, "expected a mapping"},
		"not UTF-8":                {whole, "vitrine: \xff\n", 1, "UTF-8"},
		"a control character":      {whole, "vitrine: a\nproduct: \x01\n", 2, "control character"},
		"carriage returns":         {whole, "vitrine: recipe/v1\r\n", 1, "control character"},
		"too large":                {whole, strings.Repeat("#\n", maxRecipeBytes), 1, "more than"},
		"deep nesting":             {whole, "a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), 1, "nested"},
		"lists in one line":        {whole, strings.Repeat("- ", 1000) + "x\n", 1, "list directly inside a list"},
		"broken YAML":              {whole, "vitrine: [\n", 1, ""},
		"two documents":            {whole, "a: 1\n---\nb: 2\n", 2, "document marks"},
		"an anchor":                {"product: tiny", "product: &x tiny", 3, "anchors"},
		"an alias":                 {"product: tiny", "product: *x", 3, "aliases"},
		"a tag":                    {"product: tiny", "product: !!str tiny", 3, "tags"},
		"a merge key":              {"product: tiny", "<<: {product: tiny}", 3, "anchors, aliases"},
		"an unknown version":       {"recipe/v1", "recipe/v2", 2, "reads \"recipe/v1\""},
		"no version":               {"vitrine: recipe/v1\n", "", 2, "\"vitrine\" is missing"},
		"an unknown key":           {"product: tiny", "produkt: tiny", 3, "unknown key \"produkt\""},
		"another case":             {"product: tiny", "Product: tiny", 3, "unknown key \"Product\""},
		"a repeated key":           {"product: tiny", "product: tiny\nproduct: tiny", 4, "twice"},
		"a key without value":      {"product: tiny", "product:", 3, "has no value"},
		"a null":                   {"product: tiny", "product: null", 3, "has no value"},
		"a number for text":        {`version: "1.0"`, "version: 1.10", 4, `write "1.10"`},
		"a boolean for text":       {"product: tiny", "product: true", 3, `write "true"`},
		"a bad name":               {"product: tiny", "product: Tiny", 3, "a name"},
		"a bad version":            {`"1.0"`, `"1 0"`, 4, "a version"},
		"epoch zero":               {"securityEpoch: 1", "securityEpoch: 0", 5, "from 1"},
		"epoch with a fraction":    {"securityEpoch: 1", "securityEpoch: 1.5", 5, "whole number"},
		"epoch in hex":             {"securityEpoch: 1", "securityEpoch: 0x1", 5, "whole number"},
		"epoch with underscores":   {"securityEpoch: 1", "securityEpoch: 1_0", 5, "whole number"},
		"epoch past 2^53":          {"securityEpoch: 1", "securityEpoch: 9007199254740992", 5, "whole number"},
		"no epoch":                 {"securityEpoch: 1\n", "", 2, "\"securityEpoch\" is missing"},
		"a short commit":           {"commit: 0123456789abcdef0123456789abcdef01234567", "commit: abcdef", 8, "a commit"},
		"a time with an offset":    {"2026-11-25T00:00:00Z", "2026-11-25T00:00:00+00:00", 9, "a time"},
		"a time before FAT":        {"2026-11-25T00:00:00Z", "1979-11-25T00:00:00Z", 9, "1980"},
		"no kernel":                {"kernel:\n  file: kernel.txt\n", "", 2, "\"kernel\" is missing"},
		"kernel twice":             {"  file: kernel.txt", "  file: kernel.txt\n  package: linux", 10, "exactly one"},
		"modules of a file":        {"  file: kernel.txt", "  file: kernel.txt\n  modules: [erofs]", 12, "modules are taken"},
		"a package, no release":    {"  file: kernel.txt", "  package: linux-image", 2, "debian is missing"},
		"a file above":             {"file: kernel.txt", "file: ../kernel.txt", 11, "does not stay"},
		"an absolute file":         {"file: kernel.txt", "file: /etc/passwd", 11, "does not stay"},
		"a line break in cmdline":  {"cmdline: console=ttyS0 panic=-1", `cmdline: "a\nb"`, 12, "printable ASCII"},
		"no init":                  {"init:\n  module: program\n  package: ./initial\n", "", 2, "\"init\" is missing"},
		"an absolute module":       {"module: program\n  package: ./initial", "module: /src\n  package: ./initial", 14, "absolute"},
		"many packages":            {"package: ./initial", "package: ./...", 15, "more than one package"},
		"a flag for a package":     {"package: ./initial", "package: -toolexec=sh", 15, "a package of the module"},
		"a package above":          {"package: ./initial", "package: ./../x", 15, "a package of the module"},
		"a quote in a value":       {`"${VERSION}"`, `"x' -extld=sh 'y"`, 20, "quotes"},
		"a flag for a variable":    {"main.version:", `"main.version=x' -extld":`, 20, "a variable"},
		"another replacement":      {`"${VERSION}"`, `"${HOME}"`, 20, "only ${VERSION}"},
		"a relative place":         {"to: /usr/bin/server", "to: usr/bin/server", 21, "absolute path"},
		"a place with dots":        {"to: /usr/bin/server", "to: /usr/../server", 21, "absolute path"},
		"the root itself":          {"to: /usr/bin/server", "to: /", 21, "absolute path"},
		"a space in a place":       {"to: /usr/bin/server", "to: /usr/bin/ser ver", 21, "printable ASCII"},
		"a file above, in root":    {"from: tiny.conf", "from: ../../secret", 22, "does not stay"},
		"from and content":         {"from: tiny.conf", "from: tiny.conf, content: x", 22, "exactly one of from"},
		"a mode in decimal":        {"mode: 0600", "mode: 888", 22, "octal"},
		"a mode with a sign":       {"mode: 0600", "mode: -600", 22, "octal"},
		"a mode too large":         {"mode: 0600", "mode: 17777", 22, "octal"},
		"a negative uid":           {"uid: 7", "uid: -1", 22, "whole number"},
		"uid that means keep":      {"uid: 7", "uid: 4294967295", 22, "whole number"},
		"two steps in one":         {"  - dir: {to: /var/lib/tiny", "    dir: {to: /var/lib/tiny", 23, "begin each with a dash"},
		"an unknown step":          {"- dir:", "- folder:", 24, "unknown key \"folder\""},
		"the same place twice":     {"to: /etc/motd", "to: /etc/tiny.conf", 23, "another step"},
		"below a file":             {"to: /var/lib/tiny", "to: /etc/motd/tiny", 24, "no directory"},
		"below a link":             {"to: /usr/bin/server", "to: /bin/server", 17, "no directory"},
		"the list of services":     {"to: /etc/motd", "to: /etc/vitrine/services.json", 23, "key services"},
		"a link to nowhere":        {"target: usr/bin", `target: ""`, 25, ""},
		"a service without a file": {"argv: [/usr/bin/server,", "argv: [/usr/bin/other,", 28, "no step of root"},
		"a relative service":       {"argv: [/usr/bin/server,", "argv: [server,", 27, ""},
		"a service twice":          {"network:", "  - {name: server, argv: [/usr/bin/server]}\nnetwork:", 32, ""},
		"a bad address":            {"address: 10.0.2.15/24", "address: 10.0.2.15", 32, "prefix"},
		"a bad interface":          {"interface: eth0", "interface: ../eth0", 32, "interface"},
		"an unknown platform":      {"platform: sev-snp", "platform: sev", 37, "write tpm or sev-snp"},
		"a shape twice":            {"shapes:\n", "shapes:\n  - {name: simulated, platform: tpm, vars: {file: tiny.conf}}\n  - {name: simulated, platform: tpm, vars: {file: tiny.conf}}\n", 37, "stands there twice"},
		"no firmware":              {"    firmware: {simulated: true}\n", "", 36, "\"firmware\" is missing"},
		"two firmwares":            {"{simulated: true}", "{simulated: true, file: tiny.conf}", 38, "exactly one"},
		"not simulated":            {"{simulated: true}", "{simulated: false}", 38, "exactly one"},
		"a boolean as text":        {"{simulated: true}", "{simulated: yes}", 38, "true or false"},
		"a package without path":   {"{simulated: true}", "{package: ovmf}", 38, "name the file"},
		"a path that climbs":       {"{simulated: true}", "{package: ovmf, path: ../OVMF.fd}", 38, "does not stay"},
		"variables for sev-snp":    {"firmware: {simulated", "vars: {simulated", 38, "takes firmware"},
		"an unknown VMM":           {"vmm: qemu", "vmm: xen", 39, "qemu, ec2 or gce"},
		"no vCPU":                  {"vcpus: 2", "vcpus: 0", 40, "from 1"},
		"an unknown vCPU type":     {"vcpuType: EPYC-v4", "vcpuType: Pentium", 41, "Pentium"},
		"a short guest policy":     {`"0000000000030000"`, `"30000"`, 42, "16 hex digits"},
		"a guest policy as number": {`"0000000000030000"`, "30000", 42, "expected text"},
		"features without SNP":     {"    vcpus: 2", "    guestFeatures: 0\n    vcpus: 2", 40, "from 1"},
		"no shape":                 {"shapes:\n", "shapes: []\nx:\n", 36, "unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			text := c.new
			if c.old != whole {
				good := tinyRecipe(t)
				if !strings.Contains(good, c.old) {
					t.Fatalf("the good recipe has no %q", c.old)
				}
				text = strings.Replace(good, c.old, c.new, 1)
			}
			r, err := ParseRecipe("image.yaml", []byte(text))
			var f *FormatError
			if !errors.As(err, &f) {
				t.Fatalf("got %+v, %v, want a *FormatError", r, err)
			}
			if f.File != "image.yaml" || f.Line != c.line || !strings.Contains(f.Detail, c.want) || strings.Contains(f.Error(), "\n") {
				t.Errorf("got %q, want line %d and %q", f, c.line, c.want)
			}
		})
	}
}

func FuzzParseRecipe(f *testing.F) {
	f.Add([]byte(tinyRecipe(f)))
	more, err := filepath.Glob(recipesDir + "/*/image.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range more {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte(strings.Repeat("{a: ", 100)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecipe("image.yaml", b)
		var format *FormatError
		if err != nil {
			if !errors.As(err, &format) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: the error is not one line of a *FormatError: %v", b, err)
			}
			return
		}
		for _, s := range r.Root {
			if !filepath.IsAbs(s.To) || filepath.Clean(s.To) != s.To || s.From != "" && !filepath.IsLocal(s.From) {
				t.Fatalf("%q: step %+v leads out of its folder", b, s)
			}
		}
		for _, p := range r.programs() {
			if flags := linkerFlags(p.Set, r.Version, time.Unix(0, 0)); strings.Count(flags, "'") != 2*len(p.Set) {
				t.Fatalf("%q: linker flags %q", b, flags)
			}
		}
	})
}
