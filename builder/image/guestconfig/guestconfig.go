// Package guestconfig is what an image tells its own init: three small JSON
// files that builder/image writes and cmd/vitrine-init reads.
//
// Two of them lie in the initrd, so that the measurement of the initrd (PCR 9
// and 11, or the SNP launch digest through the hashes page) covers them:
// [InitPath] lists kernel modules and the network address, [VolumesPath] the
// dm-verity volumes with their root hashes. The third, [ServicesPath], lies in
// the root volume, which the second one covers.
//
// Each file has exactly one valid encoding. A parser here encodes again what
// it has read and compares bytes, so an unknown field, a field given twice, a
// field in another case or another order is refused without a list of such
// cases. The package imports the standard library only: it is part of init.
package guestconfig

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
)

// Where the files lie: the first two in the initrd, the last in the root volume.
const (
	InitPath     = "etc/vitrine/init.json"
	VolumesPath  = "etc/vitrine/volumes.json"
	ServicesPath = "etc/vitrine/services.json"
)

// ModulesDir holds the kernel modules in the initrd; Init.Modules are file
// names inside it, in the order of loading.
const ModulesDir = "lib/modules"

// RootVolume is the name of the volume that becomes the root file system.
const RootVolume = "root"

// BlockSize is the size in bytes of the data blocks and hash blocks of every
// volume. The Linux page size on every platform we build for: dm-verity cannot
// use more.
const BlockSize = 4096

// HashStart is the offset in bytes of the hash tree inside a hash partition:
// behind the superblock, which is there for veritysetup(8) and which init
// never reads, since nothing measured it.
const HashStart = 4096

const (
	version      = 1
	maxFileBytes = 256 << 10
	maxModules   = 256
	maxVolumes   = 64
	maxServices  = 32
	maxStrings   = 256
	maxString    = 4096
	saltBytes    = 32
	hashBytes    = 32
	// maxDataBlocks keeps every byte offset of a volume far below 2^63.
	maxDataBlocks = 1 << 40
)

// Init is the file at InitPath.
type Init struct {
	Version int      `json:"version"`
	Modules []string `json:"modules"`           // file names in ModulesDir, in the order of loading
	Network *Network `json:"network,omitempty"` // nil: only loopback is brought up
}

// Network is the one address of the guest. There is no DHCP: a lease is a
// configuration that nobody measured.
type Network struct {
	Interface string `json:"interface"`         // "eth0"
	Address   string `json:"address"`           // IPv4 with prefix length, "10.0.2.15/24"
	Gateway   string `json:"gateway,omitempty"` // IPv4; none: only the own subnet is reachable
}

// Volumes is the file at VolumesPath.
type Volumes struct {
	Version int      `json:"version"`
	Volumes []Volume `json:"volumes"` // RootVolume first
}

// Volume is one dm-verity protected, read-only EROFS file system: SHA-256,
// hash type 1, block size BlockSize, on two GPT partitions, DataLabel and
// HashLabel.
type Volume struct {
	Name       string `json:"name"`
	Mount      string `json:"mount"`      // absolute; "/" for RootVolume
	RootHash   string `json:"rootHash"`   // 32 bytes, lower-case hex
	Salt       string `json:"salt"`       // 32 bytes, lower-case hex
	DataBlocks uint64 `json:"dataBlocks"` // of BlockSize bytes each
}

// DataLabel is the GPT name of the partition that holds the file system.
func (v Volume) DataLabel() string { return "vitrine-" + v.Name }

// HashLabel is the GPT name of the partition that holds the hash tree.
func (v Volume) HashLabel() string { return "vitrine-" + v.Name + ".hash" }

// Services is the file at ServicesPath.
type Services struct {
	Version  int       `json:"version"`
	Services []Service `json:"services"` // started in this order
}

// Service is one program that init starts from the root volume. None is ever
// started again: when one ends, the machine ends.
type Service struct {
	Name string   `json:"name"`
	Argv []string `json:"argv"`          // argv[0] is an absolute path in the image
	Env  []string `json:"env,omitempty"` // NAME=value; the program gets these and no others
	UID  uint32   `json:"uid,omitempty"`
	GID  uint32   `json:"gid,omitempty"`
}

// Encode gives the one valid encoding of a *Init, *Volumes or *Services, after
// checking it. It sets Version.
func Encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case *Init:
		v.Version = version
		if v.Modules == nil {
			v.Modules = []string{}
		}
	case *Volumes:
		v.Version = version
	case *Services:
		v.Version = version
		if v.Services == nil {
			v.Services = []Service{}
		}
	default:
		return nil, fmt.Errorf("encoding the guest configuration: %T is none of its files", v)
	}
	if err := v.(interface{ check() error }).check(); err != nil {
		return nil, err
	}
	return encode(v)
}

// ParseInit reads the file at InitPath.
func ParseInit(b []byte) (*Init, error) {
	v := new(Init)
	return v, parse(InitPath, b, v)
}

// ParseVolumes reads the file at VolumesPath.
func ParseVolumes(b []byte) (*Volumes, error) {
	v := new(Volumes)
	return v, parse(VolumesPath, b, v)
}

// ParseServices reads the file at ServicesPath.
func ParseServices(b []byte) (*Services, error) {
	v := new(Services)
	return v, parse(ServicesPath, b, v)
}

func encode(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the guest configuration: %w", err)
	}
	b = append(b, '\n')
	if len(b) > maxFileBytes {
		return nil, fmt.Errorf("encoding the guest configuration: %d bytes are more than the %d that init reads", len(b), maxFileBytes)
	}
	return b, nil
}

func parse(name string, b []byte, v interface{ check() error }) error {
	if len(b) > maxFileBytes {
		return fmt.Errorf("/%s: %d bytes, more than the %d that init reads", name, len(b), maxFileBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	if err := v.check(); err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	again, err := encode(v)
	if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("/%s: not in the one encoding that builder/image writes (byte %d): build the image again", name, firstDifference(again, b))
	}
	return nil
}

func firstDifference(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func checkVersion(v int) error {
	if v != version {
		return fmt.Errorf("version is %d, and this program knows only %d", v, version)
	}
	return nil
}

func (c *Init) check() error {
	if err := checkVersion(c.Version); err != nil {
		return err
	}
	if c.Modules == nil {
		return errors.New("modules is missing: write an empty list for none")
	}
	if len(c.Modules) > maxModules {
		return fmt.Errorf("%d modules, more than %d", len(c.Modules), maxModules)
	}
	seen := map[string]bool{}
	for _, m := range c.Modules {
		if !fileName(m) {
			return fmt.Errorf("module %q is not a plain file name", m)
		}
		if seen[m] {
			return fmt.Errorf("module %q is listed twice", m)
		}
		seen[m] = true
	}
	if c.Network != nil {
		return c.Network.check()
	}
	return nil
}

func (n *Network) check() error {
	if !fileName(n.Interface) || len(n.Interface) > 15 { // IFNAMSIZ - 1
		return fmt.Errorf("network interface %q is not a Linux interface name", n.Interface)
	}
	p, err := netip.ParsePrefix(n.Address)
	if err != nil || !p.Addr().Is4() || p.String() != n.Address {
		return fmt.Errorf("network address %q is not IPv4 with a prefix length, such as 10.0.2.15/24", n.Address)
	}
	if n.Gateway == "" {
		return nil
	}
	g, err := netip.ParseAddr(n.Gateway)
	if err != nil || !g.Is4() || g.String() != n.Gateway || !p.Contains(g) || g == p.Addr() {
		return fmt.Errorf("network gateway %q is not another IPv4 address of %s", n.Gateway, p.Masked())
	}
	return nil
}

func (c *Volumes) check() error {
	if err := checkVersion(c.Version); err != nil {
		return err
	}
	if len(c.Volumes) == 0 || c.Volumes[0].Name != RootVolume {
		return fmt.Errorf("the first volume has to be %q: without it there is nothing to start", RootVolume)
	}
	if len(c.Volumes) > maxVolumes {
		return fmt.Errorf("%d volumes, more than %d", len(c.Volumes), maxVolumes)
	}
	names, mounts := map[string]bool{}, map[string]bool{}
	for _, v := range c.Volumes {
		if err := CheckVolumeName(v.Name); err != nil {
			return err
		}
		if err := CheckMount(v.Name, v.Mount); err != nil {
			return err
		}
		if names[v.Name] || mounts[v.Mount] {
			return fmt.Errorf("volume %q at %q: name or mount point is listed twice", v.Name, v.Mount)
		}
		names[v.Name], mounts[v.Mount] = true, true
		if !lowerHex(v.RootHash, hashBytes) {
			return fmt.Errorf("volume %q: rootHash is not %d bytes of lower-case hex", v.Name, hashBytes)
		}
		if !lowerHex(v.Salt, saltBytes) {
			return fmt.Errorf("volume %q: salt is not %d bytes of lower-case hex", v.Name, saltBytes)
		}
		if v.DataBlocks == 0 || v.DataBlocks > maxDataBlocks {
			return fmt.Errorf("volume %q: dataBlocks is %d, not between 1 and %d", v.Name, v.DataBlocks, uint64(maxDataBlocks))
		}
	}
	return nil
}

// CheckVolumeName says whether name can be a volume's: it becomes a GPT
// partition name (at most 36 UTF-16 units, with prefix and suffix), a device
// mapper name and a file name.
func CheckVolumeName(name string) error {
	ok := len(name) > 0 && len(name) <= 20 && name[0] >= 'a' && name[0] <= 'z'
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
	}
	if !ok {
		return fmt.Errorf("volume name %q is not 1 to 20 of a-z, 0-9 and -, beginning with a letter", name)
	}
	return nil
}

// CheckMount says whether a volume can be mounted there: the root volume at
// "/", every other one somewhere below it and outside of what init mounts
// itself.
func CheckMount(name, mount string) error {
	if name == RootVolume {
		if mount != "/" {
			return fmt.Errorf("volume %q is mounted at %q, not at /", name, mount)
		}
		return nil
	}
	if len(mount) > maxString || !strings.HasPrefix(mount, "/") || path.Clean(mount) != mount || mount == "/" || !printable(mount) {
		return fmt.Errorf("volume %q: mount point %q is not a clean absolute path below /", name, mount)
	}
	for _, own := range []string{"/dev", "/proc", "/sys", "/run", "/tmp"} {
		if mount == own || strings.HasPrefix(mount, own+"/") {
			return fmt.Errorf("volume %q: mount point %q is hidden by what init mounts at %s", name, mount, own)
		}
	}
	return nil
}

func (c *Services) check() error {
	if err := checkVersion(c.Version); err != nil {
		return err
	}
	if c.Services == nil {
		return errors.New("services is missing: write an empty list for none")
	}
	if len(c.Services) > maxServices {
		return fmt.Errorf("%d services, more than %d", len(c.Services), maxServices)
	}
	seen := map[string]bool{}
	for _, s := range c.Services {
		if !fileName(s.Name) || len(s.Name) > 64 {
			return fmt.Errorf("service name %q is not a plain word of at most 64 bytes", s.Name)
		}
		if seen[s.Name] {
			return fmt.Errorf("service %q is listed twice", s.Name)
		}
		seen[s.Name] = true
		if err := s.check(); err != nil {
			return fmt.Errorf("service %q: %w", s.Name, err)
		}
	}
	return nil
}

func (s *Service) check() error {
	if len(s.Argv) == 0 || !strings.HasPrefix(s.Argv[0], "/") || path.Clean(s.Argv[0]) != s.Argv[0] {
		return errors.New("argv does not begin with the clean absolute path of a program")
	}
	if len(s.Argv) > maxStrings || len(s.Env) > maxStrings {
		return fmt.Errorf("more than %d arguments or variables", maxStrings)
	}
	for _, a := range s.Argv {
		if len(a) > maxString || strings.ContainsRune(a, 0) {
			return fmt.Errorf("an argument is longer than %d bytes or holds a NUL", maxString)
		}
	}
	names := map[string]bool{}
	for _, e := range s.Env {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" || len(e) > maxString || strings.ContainsRune(e, 0) {
			return fmt.Errorf("environment %q is not NAME=value of at most %d bytes", e, maxString)
		}
		if names[name] {
			return fmt.Errorf("environment variable %q is set twice", name)
		}
		names[name] = true
	}
	return nil
}

func fileName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 255 && !strings.ContainsRune(s, '/') && printable(s)
}

func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func lowerHex(s string, n int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == n && s == hex.EncodeToString(b)
}
