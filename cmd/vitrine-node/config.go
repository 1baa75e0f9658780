package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"

	"github.com/vitrine-dev/vitrine/log/ijson"
	"github.com/vitrine-dev/vitrine/node"
)

const maxConfigBytes = 4 << 10

// platformAuto takes whichever hardware the machine has.
const platformAuto = "auto"

// config is the node's configuration. Every member is required.
type config struct {
	// Upstream is the inference server, http://ADDRESS:PORT on loopback.
	Upstream string `json:"upstream"`
	// Listen is where clients connect, PushListen where the sidecar does.
	Listen     string `json:"listen"`
	PushListen string `json:"pushListen"`
	// Platform is "tpm", "sev-snp" or "auto".
	Platform string `json:"platform"`
}

// readConfig reads the configuration file.
func readConfig(file string) (*config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("opening the node's configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the node's configuration: %w", err)
	}
	c, err := parseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

func parseConfig(text []byte) (*config, error) {
	var c config
	if err := ijson.Unmarshal(text, &c, maxConfigBytes); err != nil {
		return nil, err
	}
	if known := []string{node.PlatformTPM, node.PlatformSNP, platformAuto}; !slices.Contains(known, c.Platform) {
		return nil, fmt.Errorf("platform: %q is none of %q", c.Platform, known)
	}
	if err := checkAddress("listen", c.Listen); err != nil {
		return nil, err
	}
	if err := checkAddress("pushListen", c.PushListen); err != nil {
		return nil, err
	}
	return &c, nil
}

// checkAddress refuses an address whose port is not a number: what a name
// means is decided by another file.
func checkAddress(member, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s: %w; write it as ADDRESS:PORT or :PORT", member, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s: the port %q is not a number below 65536", member, port)
	}
	return nil
}
