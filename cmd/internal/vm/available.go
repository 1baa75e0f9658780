//go:build linux

package vm

import (
	"os"
	"os/exec"
)

// Programs and files, where Debian's packages put them.
const (
	qemuProgram  = "qemu-system-x86_64"
	swtpmProgram = "swtpm"
	firmwareCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
)

// Available says whether this machine can boot an image, and which programs and
// files it lacks.
func Available() (ok bool, missing []string) {
	for _, p := range []string{qemuProgram, swtpmProgram} {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	for _, f := range []string{firmwareCode, FirmwareVars} {
		if fi, err := os.Stat(f); err != nil || !fi.Mode().IsRegular() {
			missing = append(missing, f)
		}
	}
	return len(missing) == 0, missing
}
