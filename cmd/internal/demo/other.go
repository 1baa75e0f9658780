//go:build !linux

// Package demo tells the whole story of Vitrine on one machine. It boots and
// measures Linux images, and runs on Linux only.
package demo

import (
	"context"
	"errors"
	"io"
)

// Mode is what stands in for confidential hardware.
type Mode string

// The modes.
const (
	TPM       Mode = "tpm"
	Simulated Mode = "simulated"
)

// Config is a run of the demo.
type Config struct {
	Vitrine, Recipes   string
	Mode               Mode
	Keep, JSON, Colour bool
	Out, Log           io.Writer
}

// ErrFailed says that a step did not come out as told.
var ErrFailed = errors.New("a step of the demo did not come out as it should")

// Run refuses: there is no demo here.
func Run(context.Context, Config) error {
	return errors.New("the demo runs on Linux: it builds, boots and measures a Linux image")
}
