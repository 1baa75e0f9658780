package builder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// clockStep lies between the clocks of the two builds of Reproduce.
const clockStep = 27*time.Hour + 13*time.Minute + 7*time.Second

// Reproduction is one recipe, built twice.
type Reproduction struct {
	First, Second *Output
	Differences   []Difference // what Compare says; nil if both are the same
}

// Reproduced says whether both builds gave the same bits.
func (r *Reproduction) Reproduced() bool { return len(r.Differences) == 0 }

// Reproduce builds twice, into the folders "first" and "second" of o.OutDir.
// Between the two differ: the folders of work and output, umask, locale, time
// zone, the order in which inputs are unpacked, programs compiled and files
// given to the image, and the clock, by more than a day.
//
// A compiled package that lies in o.Toolchain.Cache is used by both. With no
// Cache, each build compiles everything.
func Reproduce(ctx context.Context, in Inputs, o Options) (*Reproduction, error) {
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	began := now()
	base := o.OutDir
	o.OutDir, o.Now = filepath.Join(base, "first"), func() time.Time { return began }
	o.Toolchain.umask = "0022"
	o.Toolchain.vary = []string{"LC_ALL=C", "TZ=UTC"}
	first, err := Build(ctx, in, o)
	if err != nil {
		return nil, fmt.Errorf("first build: %w", err)
	}
	// A work folder deeper than the first: a path that leaks has another length.
	work, err := os.MkdirTemp(o.WorkDir, "vitrine-second-build-*")
	if err != nil {
		return nil, fmt.Errorf("second build: making a work folder: %w", err)
	}
	defer removeAll(work)
	o.OutDir, o.WorkDir, o.Now = filepath.Join(base, "second"), work, func() time.Time { return began.Add(clockStep) }
	o.Toolchain.umask = "0077"
	o.Toolchain.vary = []string{"LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8", "TZ=Pacific/Kiritimati"}
	o.reverse = !o.reverse
	second, err := Build(ctx, in, o)
	if err != nil {
		return nil, fmt.Errorf("second build: %w", err)
	}
	return &Reproduction{first, second, Compare(first.Manifest, second.Manifest)}, nil
}
