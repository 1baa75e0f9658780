package serve

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestConnectionsAreBounded(t *testing.T) {
	const n = 3
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := limit(inner, n)
	accepted := make(chan net.Conn, n+1)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	for range n + 1 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	var open []net.Conn
	for range n {
		open = append(open, <-accepted)
	}
	select {
	case <-accepted:
		t.Fatalf("connection %d was accepted", n+1)
	case <-time.After(100 * time.Millisecond):
	}
	for range 2 { // closing twice frees one place
		open[0].Close()
	}
	c := <-accepted
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	// Closing wakes the Accept that waits for a place.
	ln.Close()
	ln.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepting ended with %v", err)
	}
	c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("reading from a closed connection gives %v", err)
	}
}
