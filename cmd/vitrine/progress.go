package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress shows the stages of long work on a terminal, each as a bar with a
// rate and an end, and nothing anywhere else.
type progress struct {
	bars  *mpb.Progress
	bar   *mpb.Bar
	stage string
}

func newProgress(w io.Writer) *progress {
	if !isTerminal(w) {
		return &progress{}
	}
	return &progress{bars: mpb.New(mpb.WithOutput(w), mpb.WithWidth(48), mpb.WithRefreshRate(120*time.Millisecond))}
}

// step is a callback of builder.Options and builder.LockOptions.
func (p *progress) step(stage string, done, total int64) {
	if p.bars == nil {
		return
	}
	if stage != p.stage {
		p.finish()
		p.stage = stage
		p.bar = p.bars.AddBar(total,
			mpb.PrependDecorators(decor.Name(fmt.Sprintf("%-10s", stage))),
			mpb.AppendDecorators(amounts(stage), decor.Name("  "), decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO), "done")))
	}
	p.bar.SetTotal(max(total, done), false)
	p.bar.SetCurrent(done)
}

// amounts shows bytes with a rate where a stage counts bytes, and a count
// elsewhere.
func amounts(stage string) decor.Decorator {
	if stage == "inputs" {
		return decor.Meta(decor.AverageSpeed(decor.SizeB1024(0), "% .1f"), func(s string) string { return strings.TrimSpace(s) })
	}
	return decor.CountersNoUnit("%d/%d")
}

func (p *progress) finish() {
	if p.bar != nil {
		p.bar.SetTotal(-1, true)
	}
}

// wait ends the bars; nothing else may be printed before.
func (p *progress) wait() {
	if p.bars == nil {
		return
	}
	p.finish()
	p.bars.Wait()
}
