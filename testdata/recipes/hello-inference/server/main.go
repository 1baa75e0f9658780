// Command server answers the two routes of the OpenAI API that an inference
// client needs, with a model that only repeats what it was told. It stands in
// for a real inference server: small enough to be compiled within a recipe, and
// strict about what it takes, because it is the last thing before the prompt.
//
// It listens on loopback only. The node beside it ends the attested connection.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// build is set by the linker, from the recipe.
var build = "unset"

func main() {
	listen := flag.String("listen", "127.0.0.1:8081", "loopback address and port")
	flag.Parse()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := serve(ctx, *listen, logger); err != nil {
		logger.Error("inference server ended", "error", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, address string, logger *slog.Logger) error {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("listening on %q: give a loopback address such as 127.0.0.1:8081; nothing but the node may reach this server", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", address, err)
	}
	logger.Info("inference server ready", "address", l.Addr().String(), "model", model, "build", build)
	s := &http.Server{
		Handler:           newHandler(time.Now),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	go func() {
		<-ctx.Done()
		ending, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ending)
	}()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", address, err)
	}
	return nil
}
