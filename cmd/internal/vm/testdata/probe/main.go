//go:build linux

// Command probe is the only service of the images that the tests boot. It says
// on port 8080 what a guest can see of its own machine.
package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"github.com/vitrine-dev/vitrine/node/attestationkey"
)

type report struct {
	PCRs        map[string]string // "pcr0": lower-case hex
	CommandLine string
	Environment []string
	Root        string // file system type and options of /
	WriteRoot   string // the error
	WriteTmp    string
	IPv6        string
	DialOut     string
	Doors       string // modules_disabled, kexec_load_disabled, sysrq
	Key         string // TPMT_PUBLIC of the attestation key, hex
	EventLog    []byte
}

func main() {
	http.HandleFunc("/report", func(w http.ResponseWriter, r *http.Request) {
		rep, err := look()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(rep)
	})
	http.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		b, err := os.ReadFile(r.URL.Query().Get("path"))
		fmt.Fprintf(w, "%d bytes, %v", len(b), err)
	})
	http.HandleFunc("/exit", func(w http.ResponseWriter, r *http.Request) {
		time.AfterFunc(100*time.Millisecond, func() { os.Exit(7) })
	})
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		fmt.Println("probe:", err)
		os.Exit(1)
	}
	fmt.Println("probe: listening")
	fmt.Println("probe:", http.Serve(l, nil))
}

func look() (*report, error) {
	r := &report{PCRs: map[string]string{}, Environment: os.Environ()}
	files, err := filepath.Glob("/sys/class/tpm/tpm0/pcr-sha256/*")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no PCRs: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		r.PCRs["pcr"+filepath.Base(f)] = strings.ToLower(strings.TrimSpace(string(b)))
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	r.CommandLine = strings.TrimSpace(string(cmdline))
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		// The last one mounted at / is the one that is seen.
		if f := strings.Fields(line); f[1] == "/" {
			r.Root = f[2] + " " + f[3]
		}
	}
	r.WriteRoot = errorText(os.WriteFile("/x", nil, 0o600))
	r.WriteTmp = errorText(os.WriteFile("/tmp/x", nil, 0o600))
	v6, err := os.ReadFile("/proc/net/if_inet6")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	r.IPv6 = string(v6)
	_, err = net.DialTimeout("tcp4", "10.0.2.2:22", 2*time.Second)
	r.DialOut = errorText(err)
	for _, name := range []string{"modules_disabled", "kexec_load_disabled", "sysrq"} {
		b, err := os.ReadFile("/proc/sys/kernel/" + name)
		if err != nil {
			return nil, err
		}
		r.Doors += strings.TrimSpace(string(b))
	}
	tpm, err := linuxtpm.Open("/dev/tpmrm0")
	if err != nil {
		return nil, err
	}
	defer tpm.Close()
	key, err := attestationkey.Create(tpm)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	r.Key = hex.EncodeToString(key.Public)
	r.EventLog, err = os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	return r, err
}

func errorText(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return ""
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}
