//go:build !linux

package vm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2/transport"
)

// Available says that this machine cannot boot an image.
func Available() (ok bool, missing []string) { return false, []string{"Linux"} }

// VM is a machine that was switched on: here, none ever is.
type VM struct{}

var errUnsupported = fmt.Errorf("booting an image takes Linux with QEMU, OVMF and swtpm: %w", errors.ErrUnsupported)

// Start fails.
func Start(context.Context, Config) (*VM, error) { return nil, errUnsupported }

// WithTPM fails.
func WithTPM(context.Context, string, func(transport.TPM) error) error { return errUnsupported }

// Addr is empty.
func (*VM) Addr(int) string { return "" }

// Wait fails.
func (*VM) Wait(context.Context) error { return errUnsupported }

// Stop does nothing.
func (*VM) Stop() error { return nil }

// ConsoleText is empty.
func (*VM) ConsoleText() string { return "" }

// WaitForConsole fails.
func (*VM) WaitForConsole(context.Context, string) error { return errUnsupported }
