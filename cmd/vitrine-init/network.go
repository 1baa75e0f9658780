//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// bringUp brings up loopback and, if n is not nil, the one interface with its
// address, by ioctl (netdevice(7)).
func bringUp(n *guestconfig.Network) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bringing up the network: %w", err)
	}
	defer unix.Close(fd)
	if err := setUp(fd, "lo"); err != nil {
		return err
	}
	if n == nil {
		return nil
	}
	prefix, err := netip.ParsePrefix(n.Address)
	if err != nil {
		return fmt.Errorf("bringing up %s: %w", n.Interface, err)
	}
	// A router advertisement is a configuration that nobody measured. The file
	// is missing in a kernel without IPv6.
	err = os.WriteFile("/proc/sys/net/ipv6/conf/"+n.Interface+"/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("bringing up %s without IPv6: %w", n.Interface, err)
	}
	if err := setAddress(fd, n.Interface, unix.SIOCSIFADDR, prefix.Addr().As4()); err != nil {
		return err
	}
	if err := setAddress(fd, n.Interface, unix.SIOCSIFNETMASK, mask(prefix.Bits())); err != nil {
		return err
	}
	if err := setUp(fd, n.Interface); err != nil {
		return err
	}
	if n.Gateway == "" {
		return nil
	}
	gateway, err := netip.ParseAddr(n.Gateway)
	if err != nil {
		return fmt.Errorf("adding the gateway: %w", err)
	}
	return addGateway(fd, gateway.As4())
}

func mask(bits int) [4]byte {
	var m [4]byte
	binary.BigEndian.PutUint32(m[:], ^uint32(0)<<(32-bits))
	return m
}

func setUp(fd int, name string) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("bringing up %s: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("bringing up %s: there is no such interface: %w", name, err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bringing up %s: %w", name, err)
	}
	return nil
}

func setAddress(fd int, name string, request uint, address [4]byte) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("setting the address of %s: %w", name, err)
	}
	if err := req.SetInet4Addr(address[:]); err != nil {
		return fmt.Errorf("setting the address of %s: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, request, req); err != nil {
		return fmt.Errorf("setting the address of %s: %w", name, err)
	}
	return nil
}

// rtentry is struct rtentry of <linux/route.h> on 64-bit Linux.
type rtentry struct {
	_           uint64
	destination unix.RawSockaddrInet4
	gateway     unix.RawSockaddrInet4
	netmask     unix.RawSockaddrInet4
	flags       uint16
	_           int16
	_           uint64
	_           uintptr
	_           int16
	device      uintptr
	_, _        uint64
	_           uint16
}

func addGateway(fd int, gateway [4]byte) error {
	const routeUp, routeGateway = 1, 2 // RTF_UP, RTF_GATEWAY
	family := func(a [4]byte) unix.RawSockaddrInet4 {
		return unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a}
	}
	route := rtentry{destination: family([4]byte{}), netmask: family([4]byte{}), gateway: family(gateway), flags: routeUp | routeGateway}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&route))); errno != 0 {
		return fmt.Errorf("adding the gateway: %w", errno)
	}
	return nil
}
