package measure

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// pageType is how a page is put into a guest (SEV-SNP ABI, 56860, table
// "Encodings for the PAGE_TYPE Field").
type pageType byte

const (
	pageNormal     pageType = 1
	pageVMSA       pageType = 2
	pageZero       pageType = 3
	pageUnmeasured pageType = 4
	pageSecrets    pageType = 5
	pageCPUID      pageType = 6
)

// vmsaGPA is the address at which KVM launches save areas: the highest page,
// cut to the 48 bits of guest physical address that firmware takes into account
// (SEV-SNP ABI 8.17.2, "Actions").
const vmsaGPA = 0xfffffffff000

// launchDigest is the chain of digests over the pages of a guest in the order
// in which they were launched, 48 bytes (SEV-SNP ABI 8.17.2).
type launchDigest [sha512.Size384]byte

// page adds one page. contents is the digest of a page that is measured with
// its contents, and zero for the others.
func (d *launchDigest) page(kind pageType, gpa uint64, contents [sha512.Size384]byte) {
	const pageInfoLength = 0x70
	// PAGE_INFO: current digest, contents, length, type, is-IMI, permissions of
	// VMPL 3, 2 and 1, reserved, address. IMI and permissions are zero.
	info := make([]byte, 0, pageInfoLength)
	info = append(info, d[:]...)
	info = append(info, contents[:]...)
	info = binary.LittleEndian.AppendUint16(info, pageInfoLength)
	info = append(info, byte(kind), 0, 0, 0, 0, 0)
	info = binary.LittleEndian.AppendUint64(info, gpa)
	*d = sha512.Sum384(info)
}

// contents adds pages with what is in them; data is whole pages.
func (d *launchDigest) contents(kind pageType, gpa uint64, data []byte) {
	for page := range slices.Chunk(data, pageSize) {
		d.page(kind, gpa, sha512.Sum384(page))
		gpa += pageSize
	}
}

// blank adds pages whose contents are not measured, or are zero by their type.
func (d *launchDigest) blank(kind pageType, gpa, size uint64) {
	for at := uint64(0); at < size; at += pageSize {
		d.page(kind, gpa+at, [sha512.Size384]byte{})
	}
}

// snpLaunch is the measurement of an SEV-SNP launch in progress.
type snpLaunch struct {
	digest launchDigest
	events []Event
}

func (l *snpLaunch) event(format string, arguments ...any) {
	l.events = append(l.events, Event{
		Register:    registerLaunchDigest,
		Description: fmt.Sprintf(format, arguments...),
		Digest:      hex.EncodeToString(l.digest[:]),
	})
}

// image adds a firmware's pages.
func (l *snpLaunch) image(what string, f *firmware) {
	l.digest.contents(pageNormal, f.gpa, f.data)
	l.event("%s: %d pages from address %#x", what, len(f.data)/pageSize, f.gpa)
}

// metadata adds the memory that a firmware asks for in its SEV metadata.
// hashes is QEMU's table of kernel hashes, nil where there is no kernel.
func (l *snpLaunch) metadata(vmm VMM, f *firmware, hashes []byte) error {
	var late []metadataSection
	for _, s := range f.sections {
		switch s.kind {
		case sectionMemory:
			kind := pageZero
			if vmm == VMMGCE {
				kind = pageUnmeasured
			}
			l.digest.blank(kind, s.gpa, s.size)
		case sectionSVSMCAA:
			l.digest.blank(pageZero, s.gpa, s.size)
		case sectionSecrets:
			l.digest.blank(pageSecrets, s.gpa, s.size)
		case sectionCPUID:
			if vmm == VMMEC2 { // which launches it after the others
				late = append(late, s)
				continue
			}
			l.digest.blank(pageCPUID, s.gpa, s.size)
		case sectionKernelHashes:
			if hashes == nil {
				l.digest.blank(pageZero, s.gpa, s.size)
				break
			}
			page, err := hashesPage(f, s, hashes)
			if err != nil {
				return err
			}
			l.digest.contents(pageNormal, s.gpa, page)
			l.event("kernel hashes: one page at address %#x with the hashes of kernel, initrd and command line", s.gpa)
			continue
		}
		l.event("%s: %d pages from address %#x", s.kind, s.size/pageSize, s.gpa)
	}
	for _, s := range late {
		l.digest.blank(pageCPUID, s.gpa, s.size)
		l.event("%s: %d pages from address %#x", s.kind, s.size/pageSize, s.gpa)
	}
	return nil
}

// hashesPage places the table of hashes in its page.
func hashesPage(f *firmware, s metadataSection, hashes []byte) ([]byte, error) {
	gpa, size, ok, err := f.hashesTable()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNoHashesPage
	}
	if gpa < s.gpa || gpa+size > s.gpa+s.size {
		return nil, fmt.Errorf("the area for kernel hashes at address %#x, %d bytes long, lies outside the metadata section for it at %#x", gpa, size, s.gpa)
	}
	page := make([]byte, pageSize)
	copy(page[gpa-s.gpa:], hashes)
	return page, nil
}

// vcpus adds the save areas: the first, and then the others, which are equal.
func (l *snpLaunch) vcpus(areas []*vmsaPage) {
	for i, area := range areas {
		l.digest.contents(pageVMSA, vmsaGPA, area[:])
		l.event("save area of vCPU %d", i)
	}
}

// flatLaunch measures SEV and SEV-ES guests: one SHA-256 over the firmware, the
// table of hashes and the save areas (SEV API, 55766, LAUNCH_MEASURE: GCTX.LD).
func flatLaunch(f *firmware, hashes []byte, areas []*vmsaPage) ([]byte, []Event) {
	h := sha256.New()
	var events []Event
	add := func(b []byte, description string) {
		if b == nil {
			return
		}
		h.Write(b)
		events = append(events, Event{Register: registerLaunchDigest, Description: description, Digest: hex.EncodeToString(h.Sum(nil))})
	}
	add(f.data, fmt.Sprintf("firmware: %d bytes", len(f.data)))
	add(hashes, "hashes of kernel, initrd and command line")
	for i, area := range areas {
		add(area[:], fmt.Sprintf("save area of vCPU %d", i))
	}
	return h.Sum(nil), events
}
