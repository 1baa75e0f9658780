package measure

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// recordedGPTDigest is the digest of the EV_EFI_GPT_EVENT in the recorded log.
const recordedGPTDigest = "17d82bd430a5957c01c55c35737ceb02ed0b1701db775e57b52ff180e0782166"

func TestGPTEvent(t *testing.T) {
	event, err := gptEvent(reader(recorded(t, "gpt.bin")))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(event); hex.EncodeToString(sum[:]) != recordedGPTDigest {
		t.Errorf("the event's digest is %x, and the firmware measured %s", sum, recordedGPTDigest)
	}
	if want := gptHeaderLength + 8 + gptEntryLength; len(event) != want {
		t.Errorf("the event of a disk with one partition is %d bytes long, want %d", len(event), want)
	}
	for _, blank := range []int{2 * sectorSize, 64 * sectorSize, 64*sectorSize + 100} {
		if event, err := gptEvent(reader(make([]byte, blank))); event != nil || err != nil {
			t.Errorf("a disk without partition table has the event %x (%v)", event, err)
		}
	}
}

// resealed puts valid checksums into a changed table.
func resealed(b []byte) []byte {
	header := b[sectorSize : sectorSize+gptHeaderLength]
	if lba, count := binary.LittleEndian.Uint64(header[72:]), binary.LittleEndian.Uint32(header[80:]); lba == 2 && count <= 128 {
		binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(b[2*sectorSize:][:count*gptEntryLength]))
	}
	binary.LittleEndian.PutUint32(header[16:], crcWithout(header, 16))
	return b
}

func TestGPTCountsUsedEntries(t *testing.T) {
	b := append([]byte(nil), recorded(t, "gpt.bin")...)
	b[2*sectorSize+5*gptEntryLength] = 1
	event, err := gptEvent(reader(resealed(b)))
	if err != nil {
		t.Fatal(err)
	}
	if used := binary.LittleEndian.Uint64(event[gptHeaderLength:]); used != 2 || len(event) != gptHeaderLength+8+2*gptEntryLength {
		t.Errorf("an event of %d bytes counts %d partitions, want 2", len(event), used)
	}
}

func TestHostileGPT(t *testing.T) {
	good := recorded(t, "gpt.bin")
	change := func(offset int, with ...byte) []byte { return resealed(broken(good, sectorSize+offset, with...)) }
	backupOnly := make([]byte, 64*sectorSize)
	copy(backupOnly[63*sectorSize:], gptSignature)
	for _, test := range []struct {
		name string
		disk []byte
		want string
	}{
		{"empty", nil, "the GPT header at offset 0x200 needs 512 bytes"},
		{"one block", make([]byte, sectorSize), "the GPT header at offset 0x200"},
		{"backup only", backupOnly, "no primary one"},
		{"header checksum", broken(good, sectorSize+40, 1), "has checksum"},
		{"entries checksum", broken(good, 2*sectorSize, 1), "should have checksum"},
		{"long header", change(12, le32(512)...), "it is 512 bytes long"},
		{"elsewhere", change(24, le64(7)...), "at block 7"},
		{"no entries", change(80, le32(0)...), "0 entries"},
		{"many entries", change(80, le32(0xffffffff)...), "4294967295 entries"},
		{"odd entries", change(84, le32(1)...), "of 1 bytes"},
		{"entries over the header", change(72, le64(1)...), "at block 1, outside"},
		{"entries outside", change(72, le64(1<<40)...), "outside the disk"},
		{"entries wrap", change(72, le64(1<<63)...), "outside the disk"},
		{"entries at the end", change(72, le64(30)...), "the GPT partition entries at offset 0x3c00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := gptEvent(reader(test.disk)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestVars(t *testing.T) {
	fresh, err := parseVars(reader(recorded(t, "vars.fd.gz")))
	if err != nil {
		t.Fatal(err)
	}
	if len(fresh) != 0 {
		t.Errorf("a fresh file has %d variables", len(fresh))
	}
	after, err := parseVars(reader(recorded(t, "vars-after.fd.gz")))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for v := range maps.Keys(after) {
		units := make([]uint16, len(v.name)/2)
		for i := range units {
			units[i] = binary.LittleEndian.Uint16([]byte(v.name[2*i:]))
		}
		names = append(names, string(utf16.Decode(units)))
	}
	for _, want := range []string{"BootOrder", "Boot0000", "TCG2_VERSION", "MTC"} {
		if !slices.Contains(names, want) {
			t.Errorf("the file has no %s after a boot; it has %q", want, names)
		}
	}
	if order := after[variableName{guidGlobalVariable, string(utf16le("BootOrder"))}]; len(order) != 6 {
		t.Errorf("BootOrder is %x, want the last of three versions", order)
	}
}

// TestVarsOfDebian reads what this machine has.
func TestVarsOfDebian(t *testing.T) {
	for name, enrolled := range map[string]bool{"OVMF_VARS.fd": false, "OVMF_VARS_4M.fd": false, "OVMF_VARS_4M.ms.fd": true} {
		b, err := os.ReadFile("/usr/share/OVMF/" + name)
		if err != nil {
			t.Skipf("the package ovmf is not installed: %v", err)
		}
		variables, err := parseVars(reader(b))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		key := variables[variableName{guidGlobalVariable, string(utf16le("PK"))}]
		if (len(key) > 0) != enrolled {
			t.Errorf("%s has a platform key of %d bytes", name, len(key))
		}
	}
}

// buildVariable makes an entry of a variable store.
func buildVariable(state byte, name string, data []byte) []byte {
	encoded := append(utf16le(name), 0, 0)
	b := make([]byte, variableHeaderLength)
	binary.LittleEndian.PutUint16(b, variableStart)
	b[2] = state
	binary.LittleEndian.PutUint32(b[36:], uint32(len(encoded)))
	binary.LittleEndian.PutUint32(b[40:], uint32(len(data)))
	b = append(append(b, encoded...), data...)
	return append(b, make([]byte, -len(b)&3)...)
}

func TestVariableStates(t *testing.T) {
	for _, test := range []struct {
		name    string
		entries [][]byte
		want    string
	}{
		{"in force", [][]byte{buildVariable(0x3f, "A", []byte("new"))}, "new"},
		{"deleted", [][]byte{buildVariable(0x3c, "A", []byte("old")), buildVariable(0x3d, "A", []byte("older"))}, ""},
		{"update begun", [][]byte{buildVariable(0x3e, "A", []byte("old")), buildVariable(0x7f, "A", []byte("half"))}, "old"},
		{"update done but for the deletion", [][]byte{buildVariable(0x3e, "A", []byte("old")), buildVariable(0x3f, "A", []byte("new"))}, "new"},
		{"after the end", [][]byte{{0xff, 0xff, 0xff, 0xff}, buildVariable(0x3f, "A", []byte("new"))}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			variables, err := parseVariables(slices.Concat(test.entries...), 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(variables[variableName{guid{}, string(utf16le("A"))}]); got != test.want {
				t.Errorf("the variable is %q, want %q", got, test.want)
			}
		})
	}
}

func TestHostileVars(t *testing.T) {
	good := recorded(t, "vars-after.fd.gz")
	const store, first = 0x48, 0x48 + 28
	for _, test := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "no OVMF VARS file"},
		{"other volume", broken(good, 16, 0), "no OVMF VARS file"},
		{"long volume header", broken(good, 48, 0xff, 0xff), "not one of authenticated variables"},
		{"volume header beyond", broken(good, 48, 0xff, 0xff)[:0x1000], "leaves no room"},
		{"short volume header", broken(good, 48, 8, 0), "leaves no room"},
		{"other store", broken(good, store, 0), "not one of authenticated variables"},
		{"store beyond file", broken(good, store+16, le32(0xffffffff)...), "ends outside the file"},
		{"store too small", broken(good, store+16, le32(3)...), "ends outside the file"},
		{"unformatted", broken(good, store+20, 0xff), "is damaged"},
		{"long name", broken(good, first+36, le32(0xffffffff)...), "only"},
		{"both overflow", broken(good, first+36, append(le32(0xfffffffe), le32(0xffffffff)...)...), "only"},
		{"odd name", broken(good, first+36, le32(3)...), "no UTF-16 string"},
		{"no name", broken(good, first+36, le32(0)...), "no UTF-16 string"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := parseVars(reader(test.file)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
	twice := slices.Concat(buildVariable(0x3f, "A", nil), buildVariable(0x3f, "A", nil))
	if _, err := parseVariables(twice, 0); err == nil || !strings.Contains(err.Error(), "a second time") {
		t.Errorf("a variable that is there twice gives the error %v", err)
	}
}
