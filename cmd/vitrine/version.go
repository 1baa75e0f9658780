package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is the module's version where the binary was built by version, and
// "devel" otherwise.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// revision is the commit that the binary was built from, where Go noted it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var commit, changed string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", changed"
		}
	}
	if commit == "" {
		return ""
	}
	return commit + changed
}

func newVersion() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Say which version this is, and what it was built with",
		Args:  arguments,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		platform := runtime.GOOS + "/" + runtime.GOARCH
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]string{
				"version": version(), "revision": revision(), "go": runtime.Version(), "platform": platform,
			})
		}
		built := version()
		if r := revision(); r != "" {
			built += " (" + r + ")"
		}
		say(c, false, "vitrine %s %s %s", built, runtime.Version(), platform)
		return nil
	}
	return c
}
