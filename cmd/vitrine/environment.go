package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/builder"
)

// environment is what building needs of this machine.
type environment struct {
	mirrors   *builder.Mirrors // nil where apt names none
	toolchain builder.Toolchain
	cache     builder.Cache
}

// buildFlags are those of every command that builds.
type buildFlags struct {
	cache   *string
	goCache *string
	apt     *string
}

func addBuildFlags(c *cobra.Command) buildFlags {
	return buildFlags{
		cache:   c.Flags().String("cache", "", "`FOLDER` that keeps fetched inputs (default: in the user's cache folder)"),
		goCache: c.Flags().String("go-cache", "", "`FOLDER` that keeps compiled Go packages; what lies in it is believed (default: none, compile everything)"),
		apt:     c.Flags().String("apt", "/etc/apt", "`FOLDER` of the apt configuration that names Debian's mirrors"),
	}
}

// environment reads what the machine has. The one place that looks at
// environment variables is here.
func (f buildFlags) environment(ctx context.Context) (*environment, error) {
	e := &environment{cache: builder.Cache{Dir: *f.cache}}
	if e.cache.Dir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("finding a folder for inputs: %w; name one with --cache", err)
		}
		e.cache.Dir = filepath.Join(dir, "vitrine", "inputs")
	}
	e.toolchain.ModCache = *f.goCache
	if *f.goCache != "" {
		e.toolchain.Cache = filepath.Join(*f.goCache, "build")
		e.toolchain.ModCache = filepath.Join(*f.goCache, "mod")
	}
	// `go env` knows the variable and the user's configuration file alike.
	if out, err := exec.CommandContext(ctx, "go", "env", "GOPROXY").Output(); err == nil {
		e.toolchain.Proxy = strings.TrimSpace(string(out))
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			e.toolchain.Environment = append(e.toolchain.Environment, name+"="+v)
		}
	}
	mirrors, err := builder.AptMirrors(*f.apt)
	if err == nil {
		e.mirrors = mirrors
	}
	return e, nil
}

// fetchers are the public mirrors.
func (e *environment) fetchers() []builder.Fetcher {
	if e.mirrors == nil {
		return nil
	}
	return []builder.Fetcher{e.mirrors}
}
