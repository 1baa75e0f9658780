package builder

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/statement"
)

func TestAptMirrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sources.list.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := AptMirrors(dir); err == nil || !strings.Contains(err.Error(), "add a Debian mirror") {
		t.Errorf("no sources give %v", err)
	}
	write("sources.list", `
# deb http://commented.test/debian bookworm main
deb http://one.test/debian/ bookworm main # the first
deb [ arch=amd64 signed-by=/x.gpg ] https://two.test/debian bookworm main
deb [arch=amd64] http://one.test/debian bookworm-updates main
deb-src http://source.test/debian bookworm main
deb cdrom:[Debian]/ bookworm main
deb file:/srv/debian bookworm main
deb [unclosed http://x.test/debian bookworm main
deb
`)
	write("mirrors.txt", "http://listed.test/debian priority:1\nmirror+http://x.test/list\n")
	write("sources.list.d/more.sources", `# a comment
Types: deb deb-src
URIs: http://three.test/debian
 http://four.test/debian
Suites: bookworm
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 URIs: http://inkey.test/debian

Enabled: no
Types: deb
URIs: http://disabled.test/debian

Types: deb-src
URIs: http://source.test/debian

Types: deb
URIs: mirror+file:`+filepath.Join(dir, "mirrors.txt")+`
`)
	write("sources.list.d/ignored.txt", "deb http://ignored.test/debian bookworm main\n")
	m, err := AptMirrors(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"http://one.test/debian", "https://two.test/debian", "http://three.test/debian", "http://four.test/debian", "http://listed.test/debian"}
	if !slices.Equal(m.URLs, want) {
		t.Errorf("got %q, want %q", m.URLs, want)
	}
}

// serveFiles serves files by path, as a mirror does.
func serveFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestMirrorsFetch(t *testing.T) {
	const path = "pool/main/x/x_1.0+b1~deb12u1_amd64.deb"
	in := inputOf("a package")
	in.Kind, in.Name = DebianPackage, path
	stale := serveFiles(t, map[string]string{"/" + path: "another length"})
	moved := serveFiles(t, nil)
	good := serveFiles(t, map[string]string{"/" + path: "a package"})
	closed := httptest.NewServer(nil)
	closed.Close()

	m := &Mirrors{URLs: []string{closed.URL, moved, stale, good}}
	r, err := m.Fetch(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); string(b) != "a package" {
		t.Errorf("got %q, %v", b, err)
	}
	for name, urls := range map[string][]string{"moved on": {moved}, "another length": {stale}, "down": {closed.URL}, "none": nil} {
		if _, err := (&Mirrors{URLs: urls}).Fetch(t.Context(), in); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
	in.Kind = LocalFile
	if _, err := m.Fetch(t.Context(), in); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a mirror gives a local file: %v", err)
	}
}

// TestEveryMirrorIsAsked has mirrors before the good one give other bytes of the
// right length, or stop in the middle.
func TestEveryMirrorIsAsked(t *testing.T) {
	const path = "pool/main/x/x_1.0_amd64.deb"
	in := inputOf("a package")
	in.Kind, in.Name = DebianPackage, path
	wrong := serveFiles(t, map[string]string{"/" + path: "b package"})
	good := serveFiles(t, map[string]string{"/" + path: "a package"})
	ctx := t.Context()
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "9")
		_, _ = io.WriteString(w, "a pac")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-ctx.Done():
		}
	}))
	defer slow.Close()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-ctx.Done():
		}
	}))
	defer silent.Close()

	m := &Mirrors{URLs: []string{wrong, slow.URL, silent.URL, good}, stall: 100 * time.Millisecond}
	if _, err := (Cache{t.TempDir()}).Get(ctx, in, []Fetcher{m}); err != nil {
		t.Errorf("got %v", err)
	}
	m.URLs = m.URLs[1:3]
	_, err := (Cache{t.TempDir()}).Get(ctx, in, []Fetcher{m})
	if !errors.Is(err, ErrUnavailable) || strings.Count(err.Error(), "sent nothing for 100ms") != 2 {
		t.Errorf("got %v, want ErrUnavailable that says how long nothing came", err)
	}
}

const packagesText = `Package: linux-image-6.1.0-9-cloud-amd64
Version: 6.1.27-1
Architecture: amd64
Filename: pool/main/l/linux-image-6.1.0-9-cloud-amd64_6.1.27-1_amd64.deb
Size: 100
Description: a kernel
 Package: not-this
SHA256: ` + digestOfNothing + `

Package: linux-image-6.1.0-56-cloud-amd64
Version: 6.1.192-2
Architecture: amd64
Filename: pool/main/l/linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb
Size: 200
SHA256: ` + digestOfNothing + `

Package: linux-image-6.1.0-57-cloud-amd64
Version: 6.1.193-1
Architecture: arm64
Filename: pool/main/l/x_arm64.deb
Size: 200
SHA256: ` + digestOfNothing + `
`

func TestParsePackages(t *testing.T) {
	patterns := []string{"linux-image-6.1.0-*-cloud-amd64"}
	got, err := parsePackages(strings.NewReader(packagesText), patterns)
	if err != nil || len(got) != 2 || got[0].Size != 100 || got[1].Version != "6.1.192-2" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if !newer(got[1], got[0]) || newer(got[0], got[1]) {
		t.Error("6.1.27 sorts after 6.1.192")
	}
	for name, c := range map[string][2]string{
		"a path outside": {"Filename: pool/main", "Filename: ../../main"},
		"another host":   {"Filename: pool/main", "Filename: http://x.test/pool/main"},
		"no digest":      {"SHA256: " + digestOfNothing + "\n", ""},
		"a bad size":     {"Size: 100", "Size: many"},
		"a bad version":  {"Version: 6.1.27-1", "Version: 6 1"},
	} {
		if got, err := parsePackages(strings.NewReader(strings.Replace(packagesText, c[0], c[1], 1)), patterns); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	long := "Package: linux\nDescription: " + strings.Repeat("x", maxStanzaBytes) + "\n"
	if _, err := parsePackages(strings.NewReader(long), patterns); err == nil {
		t.Error("a stanza without end is read to its end")
	}
}

func TestParseRelease(t *testing.T) {
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	const text = "Origin: Debian\nCodename: bookworm-security\nValid-Until: Mon, 30 Nov 2026 11:22:37 UTC\nSHA256:\n " + digestOfNothing + " 10 main/binary-amd64/Packages.xz\n " + digestOfNothing + " 20 main/binary-amd64/Packages.gz\n"
	const suite = "bookworm-security"
	got, err := parseRelease([]byte(text), suite, now)
	if want := (indexFile{"main/binary-amd64/Packages.gz", digestOfNothing, 20}); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"expired":         {"30 Nov", "24 Nov", "valid until"},
		"another suite":   {"bookworm-security", "bookworm", "of suite \"bookworm\""},
		"another release": {"bookworm-security", "stretch-security", "stretch"},
		"no suite":        {"Codename: ", "Suite: ", "of suite \"\""},
		"another archive": {"Origin: Debian", "Origin: Debian Backports", "Backports"},
		"for ever":        {"Valid-Until: Mon, 30 Nov 2026 11:22:37 UTC\n", "", "how long"},
		"no date":         {"Mon, 30 Nov 2026 11:22:37 UTC", "later", "not a date"},
		"no index":        {"amd64", "arm64", "names no"},
		"a huge index":    {"10 main", "999999999999 main", ""},
		"a short digest":  {digestOfNothing + " 20", "e3 20", ""},
		"nothing at all":  {text, "", "empty"},
		"no checksums":    {"SHA256:", "MD5Sum:", "names no"},
		"a negative size": {"20 main", "-20 main", ""},
	} {
		got, err := parseRelease([]byte(strings.ReplaceAll(text, c.old, c.new)), suite, now)
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, %v, want %q", name, got, err, c.want)
		case c.want == "" && err == nil && (got.size > maxIndexBytes || got.size < 0 || statement.CheckSHA256(got.sha256) != nil):
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestJudgeStatus(t *testing.T) {
	for name, c := range map[string]struct {
		status string
		good   bool
	}{
		"good":               {"[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 6ED0E7B82643E131 Debian\n[GNUPG:] VALIDSIG x\n", true},
		"one key is unknown": {"[GNUPG:] GOODSIG A x\n[GNUPG:] ERRSIG B 1 8 01 1 9\n[GNUPG:] NO_PUBKEY B\n", true},
		"one is bad":         {"[GNUPG:] GOODSIG A x\n[GNUPG:] BADSIG B x\n", false},
		"unknown key":        {"[GNUPG:] ERRSIG B 1 8 01 1 9\n[GNUPG:] NO_PUBKEY B\n", false},
		"expired key":        {"[GNUPG:] EXPKEYSIG A x\n[GNUPG:] VALIDSIG x\n", false},
		"revoked key":        {"[GNUPG:] REVKEYSIG A x\n", false},
		"only in a comment":  {"gpgv: GOODSIG A x\n[GNUPG:] NODATA 1\n", false},
		"nothing":            {"", false},
	} {
		if err := judgeStatus(c.status); (err == nil) != c.good {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestOpenRelease signs nothing itself: it takes Debian's own file and changes it.
func TestOpenRelease(t *testing.T) {
	m := realMirrors(t)
	var signed []byte
	for _, base := range m.URLs {
		if b, err := m.get(t.Context(), base+"/dists/bookworm/InRelease", maxReleaseBytes); err == nil {
			if text, err := openRelease(t.Context(), b, DebianKeyring); err == nil {
				if !bytes.Contains(text, []byte("\nSHA256:")) || bytes.Contains(text, []byte("PGP")) {
					t.Fatalf("the signed text is %.200q", text)
				}
				signed = b
			}
		}
	}
	if signed == nil {
		t.Fatal("no mirror gives a Release file that is signed by Debian")
	}
	empty := filepath.Join(t.TempDir(), "empty.gpg")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text    []byte
		keyring string
	}{
		"a changed byte":     {bytes.Replace(signed, []byte("Origin: Debian"), []byte("Origin: Debiax"), 1), DebianKeyring},
		"text before":        {append([]byte("SHA256:\n"), signed...), DebianKeyring},
		"two messages":       {append(bytes.Clone(signed), signed...), DebianKeyring},
		"no signature":       {signed[:bytes.Index(signed, []byte("-----BEGIN PGP SIGNATURE"))], DebianKeyring},
		"nobody's key":       {signed, empty},
		"no keyring":         {signed, empty + ".absent"},
		"nothing":            {nil, DebianKeyring},
		"not a message":      {[]byte("Origin: Debian\n"), DebianKeyring},
		"cut in the message": {signed[:len(signed)/2], DebianKeyring},
	} {
		if text, err := openRelease(t.Context(), c.text, c.keyring); err == nil {
			t.Errorf("%s: got %.100q", name, text)
		}
	}
}

// TestResolveNeedsEverySuite hides the security suite, as somebody between a
// mirror and this machine could.
func TestResolveNeedsEverySuite(t *testing.T) {
	m := realMirrors(t)
	m.Client = &http.Client{Transport: hiding{"-security/"}}
	_, err := m.resolve(t.Context(), "bookworm", DebianKeyring, time.Now(), []string{"systemd-boot-efi"})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "bookworm-security") {
		t.Errorf("got %v, want ErrUnavailable that names bookworm-security", err)
	}
}

// TestResolveNeedsTheVerySuite puts Debian's main suite, which is signed by the
// same keys and valid for ever, in the place of the security suite.
func TestResolveNeedsTheVerySuite(t *testing.T) {
	m := realMirrors(t)
	m.Client = &http.Client{Transport: swapping{}}
	found, err := m.resolve(t.Context(), "bookworm", DebianKeyring, time.Now(), []string{"linux-image-6.1.0-*-cloud-amd64"})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "bookworm-security") {
		t.Errorf("got %v, %v, want ErrUnavailable that names bookworm-security", found, err)
	}
}

type swapping struct{}

func (swapping) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Path = strings.NewReplacer("/debian-security/", "/debian/", "bookworm-security", "bookworm").Replace(r.URL.Path)
	return http.DefaultTransport.RoundTrip(r)
}

type hiding struct{ what string }

func (h hiding) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, h.what) {
		return &http.Response{Status: "404 Not Found", StatusCode: http.StatusNotFound, Body: http.NoBody, Request: r}, nil
	}
	return http.DefaultTransport.RoundTrip(r)
}

func TestResolveReal(t *testing.T) {
	m := realMirrors(t)
	patterns := []string{"linux-image-6.1.0-*-cloud-amd64", "systemd-boot-efi"}
	found, err := m.resolve(t.Context(), "bookworm", DebianKeyring, time.Now(), patterns)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range found {
		if !matchPattern(patterns[i], p.Name) || checkPoolPath(p.Path) != nil {
			t.Errorf("%s gives %+v", patterns[i], p)
		}
	}
	if _, err := m.resolve(t.Context(), "bookworm", DebianKeyring, time.Now(), []string{"no-such-package"}); err == nil || errors.Is(err, ErrUnavailable) {
		t.Errorf("a name that Debian does not have gives %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.resolve(ctx, "bookworm", DebianKeyring, time.Now(), patterns); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled search gives %v", err)
	}
}

func FuzzParsePackages(f *testing.F) {
	f.Add([]byte(packagesText))
	f.Add([]byte("Package: linux-image\n\n\nPackage: x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := parsePackages(bytes.NewReader(b), []string{"linux-image-*", "*"})
		if err != nil {
			return
		}
		for _, p := range found {
			if checkPoolPath(p.Path) != nil || statement.CheckSHA256(p.SHA256) != nil || p.Size < 0 {
				t.Fatalf("%q gives %+v", b, p)
			}
		}
		_, _ = parseRelease(b, "bookworm", time.Unix(0, 0))
		for _, u := range append(sourcesListURIs(string(b)), deb822URIs(string(b))...) {
			(&Mirrors{}).add(strings.ReplaceAll(u, "mirror+file:", ""))
		}
	})
}
