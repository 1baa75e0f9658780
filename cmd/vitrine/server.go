package main

import (
	"log/slog"
	"net"

	"github.com/spf13/cobra"
)

// listen opens a TCP listener and announces it on stdout, so that whoever asked
// for port 0 learns which it became.
func listen(c *cobra.Command, address string, asJSON bool, key string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(c.Context(), "tcp", address)
	if err != nil {
		return nil, err
	}
	url := "http://" + ln.Addr().String()
	if asJSON {
		return ln, printJSON(c.OutOrStdout(), map[string]string{"url": url, "key": key})
	}
	say(c, false, "%s serves at %s", c.CommandPath(), url)
	return ln, nil
}

func serverLogger(c *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
}
