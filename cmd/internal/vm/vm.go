//go:build linux

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// VM is a machine that was switched on.
type VM struct {
	qemu, tpm *process
	console   *console
	forward   map[int]int
	unlink    func() bool
}

const consoleFile = "console.log"

// Start switches a machine on. It runs until the guest powers off, Stop is
// called or ctx ends.
func Start(ctx context.Context, c Config) (*VM, error) {
	if ok, missing := Available(); !ok {
		return nil, fmt.Errorf("booting %s: this machine lacks %s: install %s", c.Disk, strings.Join(missing, ", "), strings.Join(Packages, " "))
	}
	// Between choosing a free port and QEMU's taking it, another program may.
	for try := 0; ; try++ {
		vm, err := start(ctx, c)
		if err == nil || try == 3 || !strings.Contains(err.Error(), "host forwarding rule") {
			if err != nil {
				return nil, fmt.Errorf("booting %s: %w", c.Disk, err)
			}
			return vm, nil
		}
	}
}

func start(ctx context.Context, c Config) (_ *VM, err error) {
	dir, err := prepareState(c.StateDir)
	if err != nil {
		return nil, err
	}
	disk, err := filepath.Abs(c.Disk)
	if err != nil {
		return nil, err
	}
	vars, err := os.ReadFile(FirmwareVars)
	if err != nil {
		return nil, err
	}
	if c.LoadOptions != "" {
		if vars, err = addBootEntry(vars, disk, c.LoadOptions); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "vars.fd"), vars, 0o600); err != nil {
		return nil, err
	}
	forward, err := choosePorts(c.Forward)
	if err != nil {
		return nil, err
	}
	out, err := newConsole(filepath.Join(dir, consoleFile), c.Console)
	if err != nil {
		return nil, err
	}
	vm := &VM{console: out, forward: forward}
	var channel *os.File
	if vm.tpm, channel, err = startTPM(dir, "--ctrl", "type=unixio,clientfd=3"); err != nil {
		return nil, errors.Join(err, out.file.Close())
	}
	defer channel.Close()
	cmd := exec.Command(qemuProgram, arguments(c, disk, forward)...)
	cmd.Dir = dir
	cmd.Stdout = out
	cmd.ExtraFiles = []*os.File{channel} // descriptor 3
	if vm.qemu, err = startProcess(qemuProgram, cmd); err != nil {
		channel.Close()
		vm.tpm.stop(0)
		return nil, errors.Join(err, out.file.Close())
	}
	go func() {
		<-vm.qemu.done
		out.end()
	}()
	vm.unlink = context.AfterFunc(ctx, func() { vm.qemu.stop(0) })
	// QEMU refuses what it does not like within its first moments.
	select {
	case <-vm.qemu.done:
		if err := vm.Stop(); err != nil {
			return nil, err
		}
		return nil, errors.New("the machine powered off before it booted")
	case <-time.After(300 * time.Millisecond):
		return vm, nil
	}
}

func arguments(c Config, disk string, forward map[int]int) []string {
	// QEMU doubles a comma inside a value.
	quote := func(s string) string { return strings.ReplaceAll(s, ",", ",,") }
	network := "user,id=net,restrict=on"
	for guest, host := range forward {
		network += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", host, guest)
	}
	boot := ",bootindex=0"
	if c.LoadOptions != "" {
		boot = "" // the order in the variables counts
	}
	orElse := func(n, otherwise int) string {
		if n == 0 {
			n = otherwise
		}
		return strconv.Itoa(n)
	}
	return []string{
		"-machine", "q35,accel=tcg", "-m", orElse(c.MemoryMB, 1024) + "M", "-smp", orElse(c.CPUs, 1),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + firmwareCode,
		"-drive", "if=pflash,unit=1,format=raw,file=vars.fd",
		"-drive", "if=none,id=disk,format=raw,readonly=on,file=" + quote(disk),
		"-device", "virtio-blk-pci,drive=disk,serial=vitrine" + boot,
		"-chardev", "socket,id=tpm,fd=3", "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm",
		// An option ROM would be measured into PCR 2.
		"-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile=",
		"-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
	}
}

func choosePorts(forward map[int]int) (map[int]int, error) {
	chosen := map[int]int{}
	for guest, host := range forward {
		if guest < 1 || guest > 65535 || host < 0 || host > 65535 {
			return nil, fmt.Errorf("forwarding port %d to %d: these are no ports", host, guest)
		}
		if host == 0 {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				return nil, fmt.Errorf("choosing a port: %w", err)
			}
			defer l.Close() // after all are chosen, so that each is another
			host = l.Addr().(*net.TCPAddr).Port
		}
		chosen[guest] = host
	}
	return chosen, nil
}

// Addr is where a forwarded port of the guest is reached: "127.0.0.1:PORT". It
// accepts connections as soon as QEMU runs; they end at once until the guest
// listens.
func (vm *VM) Addr(guestPort int) string {
	host, ok := vm.forward[guestPort]
	if !ok {
		return ""
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(host))
}

// Wait waits until the machine is off. It is an error if QEMU failed, not if
// the guest powered off, whatever its reason.
func (vm *VM) Wait(ctx context.Context) error {
	select {
	case <-vm.qemu.done:
	case <-ctx.Done():
		return fmt.Errorf("waiting for the machine to power off: %w", ctx.Err())
	}
	return vm.Stop()
}

// Stop switches the machine off, as if by pulling the plug, and returns when
// nothing of it runs any more. It may be called more than once.
func (vm *VM) Stop() error {
	vm.unlink()
	failed := false
	select {
	case <-vm.qemu.done:
		failed = true // unless it ended well
	default:
		vm.qemu.stop(2 * time.Second)
	}
	<-vm.console.ended
	select {
	case <-vm.tpm.done: // because QEMU closed its end
	case <-time.After(2 * time.Second):
		vm.tpm.stop(2 * time.Second)
	}
	if failed {
		return vm.qemu.failure()
	}
	return nil
}

// ConsoleText is what the guest wrote to its serial port so far.
func (vm *VM) ConsoleText() string { return vm.console.text() }

// WaitForConsole waits until the guest has written text. It is an error if the
// machine ends before; the error quotes the end of the console.
func (vm *VM) WaitForConsole(ctx context.Context, text string) error {
	for {
		changed := vm.console.changed()
		if strings.Contains(vm.console.text(), text) {
			return nil
		}
		select {
		case <-changed:
		case <-vm.console.ended:
			if strings.Contains(vm.console.text(), text) {
				return nil
			}
			said := vm.console.text()
			return fmt.Errorf("the machine is off and did not say %q; its last words: %q", text, said[max(0, len(said)-1000):])
		case <-ctx.Done():
			return fmt.Errorf("waiting for the console to say %q: %w", text, ctx.Err())
		}
	}
}

// console keeps what a guest writes, up to a bound: a guest is free to write
// for ever.
type console struct {
	mu     sync.Mutex
	b      []byte
	signal chan struct{} // closed and replaced at each write
	ended  chan struct{}
	file   *os.File
	also   io.Writer
}

const maxConsoleBytes = 8 << 20

func newConsole(name string, also io.Writer) (*console, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &console{signal: make(chan struct{}), ended: make(chan struct{}), file: f, also: also}, nil
}

// Write never fails: the machine must not stop because somebody's screen is gone.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if keep := p[:min(len(p), maxConsoleBytes-len(c.b))]; len(keep) > 0 {
		c.b = append(c.b, keep...)
		_, _ = c.file.Write(keep)
	}
	if c.also != nil {
		_, _ = c.also.Write(p)
	}
	close(c.signal)
	c.signal = make(chan struct{})
	return len(p), nil
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.b)
}

func (c *console) changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signal
}

func (c *console) end() {
	_ = c.file.Close()
	close(c.ended)
}
