package measure

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// Table of kernel hashes that QEMU writes into guest memory and AmdSev OVMF
// compares with what it is given over fw_cfg (QEMU, target/i386/sev.c).
var (
	guidHashTable   = mustGUID("9438d606-4f22-4cc9-b479-a793d411fd21")
	guidHashKernel  = mustGUID("4de79437-abd2-427f-b835-d5b172d2045b")
	guidHashInitrd  = mustGUID("44baf731-3a2f-4bd7-9af1-41e29169781d")
	guidHashCmdline = mustGUID("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
)

const (
	hashEntryLength = 16 + 2 + 32
	// hashTableLength is a header and three entries, padded to 16 bytes.
	hashTableLength = (16 + 2 + 3*hashEntryLength + 15) &^ 15
	// maxCmdline is far above the 2048 bytes that Linux takes on x86.
	maxCmdline = 64 << 10
)

// hashKernel hashes a kernel, an initrd and a command line, each in one
// streaming pass, and returns QEMU's table of them. What is absent is hashed as
// empty; the command line's hash covers its terminating NUL.
func hashKernel(kernel, initrd io.Reader, cmdline *string) ([]byte, []Input, error) {
	text := "\x00"
	if cmdline != nil {
		text = *cmdline + "\x00"
	}
	if len(text) > maxCmdline || strings.IndexByte(text, 0) != len(text)-1 {
		return nil, nil, fmt.Errorf("the command line has to be shorter than %d bytes and free of NUL", maxCmdline)
	}
	if initrd == nil {
		initrd = strings.NewReader("")
	}
	var inputs []Input
	var sums [][sha256.Size]byte
	for _, part := range []struct {
		name string
		r    io.Reader
	}{{"kernel", kernel}, {"initrd", initrd}, {"cmdline", strings.NewReader(text)}} {
		input, sum, err := hashInput(part.name, part.r)
		if err != nil {
			return nil, nil, err
		}
		inputs = append(inputs, input)
		sums = append(sums, sum)
	}
	return buildHashTable(sums[0], sums[1], sums[2]), inputs, nil
}

// buildHashTable lays out the table: command line, initrd, kernel, in this
// order.
func buildHashTable(kernel, initrd, cmdline [sha256.Size]byte) []byte {
	var b []byte
	b = append(b, guidHashTable[:]...)
	b = binary.LittleEndian.AppendUint16(b, 16+2+3*hashEntryLength)
	for _, entry := range []struct {
		id  guid
		sum [sha256.Size]byte
	}{{guidHashCmdline, cmdline}, {guidHashInitrd, initrd}, {guidHashKernel, kernel}} {
		b = append(b, entry.id[:]...)
		b = binary.LittleEndian.AppendUint16(b, hashEntryLength)
		b = append(b, entry.sum[:]...)
	}
	return append(b, make([]byte, hashTableLength-len(b))...)
}
