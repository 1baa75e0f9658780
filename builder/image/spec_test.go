package image

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

func TestSpecRefused(t *testing.T) {
	root := func(e Entry) func(*Spec) {
		return func(s *Spec) { s.Volumes[0].Entries = append(s.Volumes[0].Entries, e) }
	}
	body := Bytes([]byte("x"))
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no epoch":              {func(s *Spec) { s.Epoch = time.Time{} }, "epoch"},
		"half a second":         {func(s *Spec) { s.Epoch = s.Epoch.Add(time.Second / 2) }, "epoch"},
		"far future":            {func(s *Spec) { s.Epoch = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC) }, "epoch"},
		"stub without kernel":   {func(s *Spec) { s.Kernel = Content{} }, "stub without a kernel"},
		"no init":               {func(s *Spec) { s.Init = Content{} }, "no init"},
		"empty init":            {func(s *Spec) { s.Init = Bytes(nil) }, "no init"},
		"other init":            {func(s *Spec) { s.CommandLine += " rdinit=/bin/sh" }, "rdinit="},
		"init of the root":      {func(s *Spec) { s.CommandLine = "init=/bin/sh" }, "init="},
		"other init in quotes":  {func(s *Spec) { s.CommandLine = `quiet "rdinit=/x"` }, "quote"},
		"no initrd":             {func(s *Spec) { s.CommandLine = "noinitrd" }, "noinitrd"},
		"a debugger":            {func(s *Spec) { s.CommandLine = "kgdboc=ttyS0 kgdbwait" }, "debug the kernel"},
		"magic keys":            {func(s *Spec) { s.CommandLine = "sysrq-always-enabled" }, "serial line"},
		"DHCP":                  {func(s *Spec) { s.CommandLine = "ip=dhcp" }, "before init does"},
		"early devices":         {func(s *Spec) { s.CommandLine = "dm-mod.create=x" }, "before init does"},
		"umlaut":                {func(s *Spec) { s.CommandLine = "name=ü" }, "0xc3 at offset 5"},
		"newline":               {func(s *Spec) { s.CommandLine += "\n" }, "0x0a"},
		"space at the end":      {func(s *Spec) { s.CommandLine += " " }, "space"},
		"long command line":     {func(s *Spec) { s.CommandLine = strings.Repeat("x", 2048) }, "2048 bytes"},
		"NUL in os-release":     {func(s *Spec) { s.OSRelease = "\x00" }, "os-release"},
		"kernel release":        {func(s *Spec) { s.KernelRelease = "6.1 x" }, "uname"},
		"empty module":          {func(s *Spec) { s.Modules[0].Content = Content{} }, "virtio.ko"},
		"module path":           {func(s *Spec) { s.Modules[0].Name = "a/b.ko" }, "a/b.ko"},
		"module twice":          {func(s *Spec) { s.Modules[1] = s.Modules[0] }, "twice"},
		"no volumes":            {func(s *Spec) { s.Volumes = nil }, "first volume"},
		"volume twice":          {func(s *Spec) { s.Volumes[1].Name = "root"; s.Volumes[1].Mount = "/" }, "twice"},
		"two at one place":      {func(s *Spec) { s.Volumes = append(s.Volumes, Volume{Name: "more", Mount: "/srv/weights"}) }, "twice"},
		"one in another":        {func(s *Spec) { s.Volumes = append(s.Volumes, Volume{Name: "more", Mount: "/srv/weights/x"}) }, `inside volume "weights"`},
		"volume at tmp":         {func(s *Spec) { s.Volumes[1].Mount = "/tmp/x" }, "hidden"},
		"mount point is a file": {func(s *Spec) { s.Volumes[1].Mount = "/usr/bin/node/x" }, "which is no directory"},
		"services by hand":      {root(RegularFile(guestconfig.ServicesPath, 0o644, body)), "Spec.Services"},
		"bad service":           {func(s *Spec) { s.Services[0].Argv = nil }, "argv"},
		"bad network":           {func(s *Spec) { s.Network.Address = "dhcp" }, "address"},
		"absolute path":         {root(RegularFile("/etc/x", 0o644, body)), "/etc/x"},
		"dots":                  {root(RegularFile("etc/../x", 0o644, body)), "etc/../x"},
		"empty path":            {root(RegularFile("", 0o644, body)), `""`},
		"NUL in a path":         {root(RegularFile("a\x00b", 0o644, body)), "not relative"},
		"long name":             {root(RegularFile(strings.Repeat("a", 256), 0o644, body)), "255"},
		"entry twice":           {root(RegularFile("usr/bin/node", 0o644, body)), "usr/bin/node is listed twice"},
		"file as directory":     {root(RegularFile("usr/bin/node/x", 0o644, body)), "which is no directory"},
		"link as directory":     {root(RegularFile("bin/x", 0o644, body)), "which is no directory"},
		"file without content":  {root(RegularFile("x", 0o644, Content{})), "without content"},
		"directory with one":    {root(Entry{Path: "x", Mode: fs.ModeDir, Content: body}), "no regular file"},
		"empty link":            {root(Symlink("x", "")), "symbolic link"},
		"root as a file":        {root(RegularFile(".", 0o644, body)), `"."`},
		"socket":                {root(Entry{Path: "x", Mode: fs.ModeSocket}), "not S"},
		"append-only":           {root(Entry{Path: "x", Mode: fs.ModeAppend, Content: body}), "mode"},
		"device number":         {root(Entry{Path: "x", Mode: fs.ModeDevice, Major: 1 << 12}), "4096:0"},
	} {
		spec := testSpec(t)
		c.change(&spec)
		if _, err := Assemble(context.Background(), spec, t.TempDir()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestTreeAddsParents(t *testing.T) {
	got, err := tree([]Entry{
		RegularFile("a/b/c", 0o600, Bytes(nil)),
		Directory("a", 0o700),
		Directory("a.b", 0o755),
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range got {
		names = append(names, e.Mode.String()+" "+e.Path)
	}
	if want := "drwx------ a|drwxr-xr-x a.b|drwxr-xr-x a/b|-rw------- a/b/c"; strings.Join(names, "|") != want {
		t.Errorf("%v", names)
	}
}
