//go:build linux

// Command vitrine-init is /init of every image: the first program that the
// kernel starts, and part of what a client has to trust.
//
// It reads what builder/image wrote into the initrd (package guestconfig),
// loads the listed kernel modules and bars any further one, brings up loopback and the one configured
// address, finds the volumes by GPT label, reads each of them once from
// beginning to end through dm-verity, and only then mounts them, makes the
// first one the root and starts the services that the root lists.
//
// There is one answer to everything that is not as it was built: a sentence on
// the console that says what and where, and power off. Nothing is started
// again, no shell exists, and no choice is taken from the kernel command line,
// the environment or a disk.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "vitrine-init: this is the init of an image and does nothing as an ordinary program")
		os.Exit(2)
	}
	defer func() {
		// A panic of process 1 would be a kernel panic without the sentence.
		powerOff(fmt.Errorf("init itself failed: %v", recover()))
	}()
	powerOff(run())
}

// run starts the machine and returns when it has to end; it never returns nil.
func run() error {
	if err := checkInvocation(os.Args, os.Environ()); err != nil {
		return err
	}
	if err := mountKernelFileSystems(); err != nil {
		return err
	}
	config, volumes, err := readConfig()
	if err != nil {
		return err
	}
	for _, m := range config.Modules {
		if err := loadModule("/" + guestconfig.ModulesDir + "/" + m); err != nil {
			return err
		}
	}
	if err := closeDoors(); err != nil {
		return err
	}
	if err := bringUp(config.Network); err != nil {
		return err
	}
	for _, v := range volumes.Volumes { // the root first: the others are mounted inside it
		began := time.Now()
		if err := openVolume(v); err != nil {
			return err
		}
		say("volume %s: all %d blocks are those with root hash %s (%v)", v.Name, v.DataBlocks, v.RootHash, time.Since(began).Round(10*time.Millisecond))
		if err := mountVolume(v, newRoot+v.Mount); err != nil {
			return err
		}
	}
	if err := switchRoot(); err != nil {
		return err
	}
	b, err := os.ReadFile("/" + guestconfig.ServicesPath)
	if err != nil {
		return fmt.Errorf("reading the list of services: %w", err)
	}
	services, err := guestconfig.ParseServices(b)
	if err != nil {
		return err
	}
	return serve(services.Services)
}

// checkInvocation refuses arguments and variables. The kernel hands every word
// of its command line that it does not know to init, one with "=" as a
// variable: GODEBUG=... there would change how this very program runs.
func checkInvocation(args, env []string) error {
	if len(args) > 1 {
		return fmt.Errorf("the kernel command line holds %q, which neither the kernel nor init knows", args[1:])
	}
	for _, e := range env {
		switch name, _, _ := strings.Cut(e, "="); name {
		case "HOME", "TERM": // always set by the kernel
		default:
			return fmt.Errorf("the kernel command line holds %q, which neither the kernel nor init knows", e)
		}
	}
	return nil
}

func readConfig() (*guestconfig.Init, *guestconfig.Volumes, error) {
	b, err := os.ReadFile("/" + guestconfig.InitPath)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	config, err := guestconfig.ParseInit(b)
	if err != nil {
		return nil, nil, err
	}
	if b, err = os.ReadFile("/" + guestconfig.VolumesPath); err != nil {
		return nil, nil, fmt.Errorf("reading the list of volumes: %w", err)
	}
	volumes, err := guestconfig.ParseVolumes(b)
	if err != nil {
		return nil, nil, err
	}
	return config, volumes, nil
}

func loadModule(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("loading a kernel module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("loading kernel module %s: %w", name, err)
	}
	return nil
}

// doors are ways around everything that was measured, which the kernel leaves
// open: more modules and another kernel for whoever is root, and, by a key or a
// break on the serial line that the host sends, register and memory dumps on
// the console that the host reads.
var doors = []struct{ file, value string }{
	{"/proc/sys/kernel/modules_disabled", "1"},
	{"/proc/sys/kernel/kexec_load_disabled", "1"},
	{"/proc/sys/kernel/sysrq", "0"},
}

// closeDoors closes them until the machine is off. A kernel that was built
// without one of them has no such file.
func closeDoors() error {
	for _, d := range doors {
		if err := os.WriteFile(d.file, []byte(d.value), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("setting %s to %s: %w", d.file, d.value, err)
		}
	}
	return nil
}

// say writes a line to the console.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "vitrine-init: "+format+"\n", args...)
}

// powerOff says why and ends the machine.
func powerOff(why error) {
	say("%v: powering off", why)
	unix.Sync()
	// Wait until the line has left the serial port (tcdrain).
	_ = unix.IoctlSetInt(int(os.Stderr.Fd()), unix.TCSBRK, 1)
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	say("the kernel refuses to power off: %v", err)
	os.Exit(1) // makes the kernel panic, which ends the machine as well
}
