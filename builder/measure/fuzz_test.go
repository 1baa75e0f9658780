package measure

import (
	"testing"
)

// The fuzz targets hold what must be true of any input: no panic, and what was
// accepted is measured the same way twice.

func FuzzFirmware(f *testing.F) {
	f.Add(amdSev().build())
	bare := amdSev()
	bare.sections = nil
	f.Add(bare.build())
	f.Add(make([]byte, pageSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Real images are whole pages; this lets the fuzzer change the length.
		if rest := len(b) % pageSize; rest != 0 {
			b = append(make([]byte, pageSize-rest), b...)
		}
		if len(b) > 1<<20 {
			return
		}
		fw, err := parseFirmware(reader(b), fourGiB)
		if err != nil {
			return
		}
		pages := uint64(0)
		for _, s := range fw.sections {
			pages += s.size / pageSize
		}
		if pages > fourGiB/pageSize {
			t.Fatalf("%d pages of metadata were accepted", pages)
		}
		if pages > 1<<14 { // hashing them takes long, and finds nothing
			return
		}
		in := qemu(b)
		in.VCPUs = 2
		first, err1 := SNP(in)
		second, err2 := SNP(in)
		if (err1 == nil) != (err2 == nil) || err1 == nil && first.Registers["launchDigest"] != second.Registers["launchDigest"] {
			t.Fatalf("measuring twice gave %v (%v) and %v (%v)", first, err1, second, err2)
		}
	})
}

func FuzzUKI(f *testing.F) {
	kernel := buildKernel("6.1.0")
	f.Add(buildUKI(kernel, testSection{".cmdline", []byte("quiet")}, testSection{".initrd", []byte("initrd")}))
	f.Add(buildPE(testSection{".linux", kernel}))
	f.Add(kernel)
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := parseUKI(reader(b))
		if err != nil {
			return
		}
		for name, s := range u.sections {
			if s.Size() == 0 || s.Size() > int64(len(b)) {
				t.Fatalf("section %s of %d bytes was taken from a file of %d", name, s.Size(), len(b))
			}
		}
		first, err1 := TPM(TPMInput{UKI: reader(b)})
		second, err2 := TPM(TPMInput{UKI: reader(b)})
		if (err1 == nil) != (err2 == nil) || err1 == nil && first.Registers["pcr4"] != second.Registers["pcr4"] {
			t.Fatalf("measuring twice gave %v (%v) and %v (%v)", first, err1, second, err2)
		}
	})
}

func FuzzPE(f *testing.F) {
	f.Add(buildPE(testSection{".text", []byte("one")}, testSection{".data", []byte("two")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		pe, err := parsePE(reader(b))
		if err != nil {
			return
		}
		sum, err := authenticode(pe)
		if err != nil {
			t.Fatal(err)
		}
		// The digest does not depend on the checksum, whatever the file.
		changed := broken(b, pe.checksumOffset, ^b[pe.checksumOffset])
		if again, err := parsePE(reader(changed)); err != nil {
			t.Fatal(err)
		} else if other, err := authenticode(again); err != nil || other != sum {
			t.Fatalf("the digest is %x, and %x with another checksum (%v)", sum, other, err)
		}
	})
}

func FuzzGPT(f *testing.F) {
	f.Add(recorded(f, "gpt.bin"))
	f.Add(make([]byte, 64*sectorSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if event, err := gptEvent(reader(b)); err == nil && len(event) > len(b) {
			t.Fatalf("a disk of %d bytes has an event of %d", len(b), len(event))
		}
	})
}

func FuzzVars(f *testing.F) {
	f.Add(recorded(f, "vars.fd.gz")[:0x2000])
	f.Add(recorded(f, "vars-after.fd.gz")[:0x5000])
	f.Fuzz(func(t *testing.T, b []byte) {
		variables, err := parseVars(reader(b))
		if err != nil {
			return
		}
		total := 0
		for v, data := range variables {
			total += len(v.name) + len(data)
		}
		if total > len(b) {
			t.Fatalf("a file of %d bytes has %d bytes of variables", len(b), total)
		}
	})
}
