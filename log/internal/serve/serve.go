// Package serve runs an HTTP handler on a listener, with bounds on every phase
// of a request, until a context ends.
package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// drainTimeout is how long requests in flight may take to end once the
	// context has ended.
	drainTimeout   = 10 * time.Second
	maxHeaderBytes = 16 << 10
)

// HTTP serves h on ln until ctx ends, then lets requests in flight finish and
// returns nil; any other end is an error. No request may take longer than
// timeout to be read, nor to be answered.
func HTTP(ctx context.Context, ln net.Listener, h http.Handler, timeout time.Duration, logger *slog.Logger) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       timeout,
		WriteTimeout:      timeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(limit(ln, maxConnections)) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := srv.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		// Whoever is still sending or reading had its time.
		err = srv.Close()
	}
	<-ended
	return err
}
