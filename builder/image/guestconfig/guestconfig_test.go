package guestconfig

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

var hash = strings.Repeat("0a", 32)

func good() (*Init, *Volumes, *Services) {
	return &Init{Modules: []string{"virtio.ko", "dm-verity.ko"}, Network: &Network{Interface: "eth0", Address: "10.0.2.15/24", Gateway: "10.0.2.2"}},
		&Volumes{Volumes: []Volume{
			{Name: "root", Mount: "/", RootHash: hash, Salt: hash, DataBlocks: 5},
			{Name: "weights-1", Mount: "/srv/weights", RootHash: hash, Salt: hash, DataBlocks: 1},
		}},
		&Services{Services: []Service{{Name: "node", Argv: []string{"/usr/bin/node", "<&>", ""}, Env: []string{"A=", "B=x y"}, UID: 7, GID: 8}}}
}

// TestVector holds the bytes: init and builder may be of different ages.
func TestVector(t *testing.T) {
	in, vols, svcs := good()
	for _, c := range []struct {
		v    any
		want string
	}{
		{in, `{
  "version": 1,
  "modules": [
    "virtio.ko",
    "dm-verity.ko"
  ],
  "network": {
    "interface": "eth0",
    "address": "10.0.2.15/24",
    "gateway": "10.0.2.2"
  }
}
`},
		{&Init{}, `{
  "version": 1,
  "modules": []
}
`},
		{vols, `{
  "version": 1,
  "volumes": [
    {
      "name": "root",
      "mount": "/",
      "rootHash": "` + hash + `",
      "salt": "` + hash + `",
      "dataBlocks": 5
    },
    {
      "name": "weights-1",
      "mount": "/srv/weights",
      "rootHash": "` + hash + `",
      "salt": "` + hash + `",
      "dataBlocks": 1
    }
  ]
}
`},
		{svcs, `{
  "version": 1,
  "services": [
    {
      "name": "node",
      "argv": [
        "/usr/bin/node",
        "\u003c\u0026\u003e",
        ""
      ],
      "env": [
        "A=",
        "B=x y"
      ],
      "uid": 7,
      "gid": 8
    }
  ]
}
`},
		{&Services{}, `{
  "version": 1,
  "services": []
}
`},
	} {
		b, err := Encode(c.v)
		if err != nil || string(b) != c.want {
			t.Errorf("%T: %v\n%s", c.v, err, b)
			continue
		}
		var again any
		switch c.v.(type) {
		case *Init:
			again, err = ParseInit(b)
		case *Volumes:
			again, err = ParseVolumes(b)
		case *Services:
			again, err = ParseServices(b)
		}
		if err != nil || !reflect.DeepEqual(again, c.v) {
			t.Errorf("%T comes back as %+v, %v", c.v, again, err)
		}
	}
	if _, err := Encode("text"); err == nil {
		t.Error("a string was encoded")
	}
}

// TestRefused changes one place of a valid value.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Init, *Volumes, *Services)
		want   string // in the error
	}{
		"module with folder":      {func(i *Init, _ *Volumes, _ *Services) { i.Modules[0] = "../x.ko" }, `module "../x.ko"`},
		"module twice":            {func(i *Init, _ *Volumes, _ *Services) { i.Modules[1] = i.Modules[0] }, "twice"},
		"too many modules":        {func(i *Init, _ *Volumes, _ *Services) { i.Modules = make([]string, maxModules+1) }, "257 modules"},
		"interface":               {func(i *Init, _ *Volumes, _ *Services) { i.Network.Interface = "sixteen-letters-" }, "interface"},
		"address without length":  {func(i *Init, _ *Volumes, _ *Services) { i.Network.Address = "10.0.2.15" }, "address"},
		"IPv6 address":            {func(i *Init, _ *Volumes, _ *Services) { i.Network.Address = "::1/64" }, "address"},
		"address, other spelling": {func(i *Init, _ *Volumes, _ *Services) { i.Network.Address = "::ffff:10.0.2.15/120" }, "address"},
		"gateway elsewhere":       {func(i *Init, _ *Volumes, _ *Services) { i.Network.Gateway = "10.0.3.1" }, "gateway"},
		"gateway is the guest":    {func(i *Init, _ *Volumes, _ *Services) { i.Network.Gateway = "10.0.2.15" }, "gateway"},
		"no volumes":              {func(_ *Init, v *Volumes, _ *Services) { v.Volumes = nil }, "first volume"},
		"root is not first":       {func(_ *Init, v *Volumes, _ *Services) { v.Volumes = v.Volumes[1:] }, "first volume"},
		"too many volumes":        {func(_ *Init, v *Volumes, _ *Services) { v.Volumes = append(v.Volumes, make([]Volume, maxVolumes)...) }, "66 volumes"},
		"volume name":             {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[1].Name = "Weights" }, "volume name"},
		"long volume name":        {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[1].Name = strings.Repeat("a", 21) }, "volume name"},
		"volume twice":            {func(_ *Init, v *Volumes, _ *Services) { v.Volumes = append(v.Volumes, v.Volumes[1]) }, "twice"},
		"root elsewhere":          {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[0].Mount = "/srv" }, "not at /"},
		"second root":             {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[1].Mount = "/" }, "mount point"},
		"mount point with dots":   {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[1].Mount = "/srv/../etc" }, "mount point"},
		"relative mount point":    {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[1].Mount = "srv" }, "mount point"},
		"mount point below tmp":   {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[1].Mount = "/tmp/x" }, "hidden"},
		"short root hash":         {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[0].RootHash = hash[2:] }, "rootHash"},
		"root hash in capitals":   {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[0].RootHash = strings.ToUpper(hash) }, "rootHash"},
		"no salt":                 {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[0].Salt = "" }, "salt"},
		"no blocks":               {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[0].DataBlocks = 0 }, "dataBlocks"},
		"too many blocks":         {func(_ *Init, v *Volumes, _ *Services) { v.Volumes[0].DataBlocks = 1 << 62 }, "dataBlocks"},
		"service name":            {func(_ *Init, _ *Volumes, s *Services) { s.Services[0].Name = "a b" }, "service name"},
		"service twice":           {func(_ *Init, _ *Volumes, s *Services) { s.Services = append(s.Services, s.Services[0]) }, "twice"},
		"too many services":       {func(_ *Init, _ *Volumes, s *Services) { s.Services = make([]Service, maxServices+1) }, "33 services"},
		"no program":              {func(_ *Init, _ *Volumes, s *Services) { s.Services[0].Argv = nil }, "argv"},
		"relative program":        {func(_ *Init, _ *Volumes, s *Services) { s.Services[0].Argv[0] = "node" }, "argv"},
		"NUL in an argument":      {func(_ *Init, _ *Volumes, s *Services) { s.Services[0].Argv[1] = "\x00" }, "NUL"},
		"too many arguments": {func(_ *Init, _ *Volumes, s *Services) {
			s.Services[0].Argv = append(s.Services[0].Argv, make([]string, 256)...)
		}, "more than 256"},
		"variable without value": {func(_ *Init, _ *Volumes, s *Services) { s.Services[0].Env[0] = "A" }, "NAME=value"},
		"variable twice":         {func(_ *Init, _ *Volumes, s *Services) { s.Services[0].Env[1] = "A=2" }, "twice"},
		"too large": {func(_ *Init, _ *Volumes, s *Services) {
			s.Services[0].Argv = append([]string{"/x"}, slicesOf(strings.Repeat("a", 4000), 100)...)
		}, "more than the"},
	} {
		in, vols, svcs := good()
		c.change(in, vols, svcs)
		var got error
		for _, v := range []any{in, vols, svcs} {
			if _, err := Encode(v); err != nil {
				got = err
			}
		}
		if got == nil || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, got, c.want)
		}
	}
}

func slicesOf(s string, n int) (all []string) {
	for range n {
		all = append(all, s)
	}
	return all
}

// TestOneEncoding has the same meaning in other bytes.
func TestOneEncoding(t *testing.T) {
	_, vols, _ := good()
	b, err := Encode(vols)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for name, other := range map[string]string{
		"unknown field":    strings.Replace(text, `"version": 1,`, `"version": 1, "x": 2,`, 1),
		"field twice":      strings.Replace(text, `"version": 1,`, `"version": 1, "version": 1,`, 1),
		"other case":       strings.Replace(text, `"version"`, `"Version"`, 1),
		"other version":    strings.Replace(text, `"version": 1,`, `"version": 2,`, 1),
		"no version":       strings.Replace(text, `"version": 1,`, ``, 1),
		"other white":      strings.Replace(text, "\n", "\n\n", 1),
		"something behind": text + "{}",
		"cut":              text[:len(text)-3],
		"escaped":          strings.Replace(text, `"root"`, `"\u0072oot"`, 1),
		"empty":            "",
		"null":             "null\n",
		"too large":        text + strings.Repeat(" ", maxFileBytes),
	} {
		if other == text {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := ParseVolumes([]byte(other)); err == nil || !strings.Contains(err.Error(), VolumesPath) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	in, vols, svcs := good()
	for _, v := range []any{in, vols, svcs} {
		b, err := Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(v any, err error) {
			if err != nil {
				return
			}
			if again, err := Encode(v); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%T: accepted, and comes back as %q, %v", v, again, err)
			}
		}
		i, err := ParseInit(b)
		check(i, err)
		v, err := ParseVolumes(b)
		check(v, err)
		s, err := ParseServices(b)
		check(s, err)
	})
}
