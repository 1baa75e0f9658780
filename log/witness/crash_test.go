package witness_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/witness"
)

// childDir makes the test binary be a witness over that folder, for tests that
// kill it.
const childDir, childLog = "WITNESS_TEST_DIR", "WITNESS_TEST_LOG"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := runChild(dir, os.Getenv(childLog)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runChild serves until its standard input closes, so that no child outlives
// the test.
func runChild(dir, vkey string) error {
	w, err := witness.Open(dir, witness.Config{Name: "witness.example/w1", Key: witnessKey, Logs: []string{vkey}})
	if err != nil {
		return err
	}
	defer w.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", ln.Addr())
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return w.Serve(ctx, ln)
}

type child struct {
	url   string
	cmd   *exec.Cmd
	stdin io.Closer
}

func startChild(t *testing.T, dir, vkey string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childLog+"="+vkey)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the witness did not start: %v", err)
	}
	return &child{url: strings.TrimSpace(url), cmd: cmd, stdin: stdin}
}

func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.cmd.Wait()
	c.stdin.Close()
}

// TestKilledWitnessNeverCosignsAFork kills the witness again and again while
// both sides of a fork are being submitted. Whatever was cosigned, before or
// after a kill, must lie on one side, and sizes must never go back.
func TestKilledWitnessNeverCosignsAFork(t *testing.T) {
	log, vkey := newKey(t, origin)
	dir := t.TempDir()
	const size = 4000
	sides := []*tree{newTree(t, size, 0, "one"), newTree(t, size, 0, "other")}

	var mu sync.Mutex
	var cosigned [2]int64  // largest size cosigned of each side
	var count, regress int // cosignatures; a size answered below one cosigned before the request
	submit := func(url string, side int, stop <-chan struct{}) {
		tr := sides[side]
		old := int64(0)
		for {
			select {
			case <-stop:
				return
			default:
			}
			mu.Lock()
			floor := max(cosigned[0], cosigned[1])
			mu.Unlock()
			size := min(old+1, size)
			resp, err := http.Post(url+"/add-checkpoint", "text/plain", strings.NewReader(body(old, tr.proof(old, size), tr.checkpoint(log, size))))
			if err != nil {
				return // killed
			}
			answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
			resp.Body.Close()
			switch {
			case err != nil:
				return
			case resp.StatusCode == http.StatusOK:
				mu.Lock()
				cosigned[side] = max(cosigned[side], size)
				count++
				mu.Unlock()
				old = size
			case resp.Header.Get("Content-Type") == "text/x.tlog.size":
				known, err := strconv.ParseInt(strings.TrimSpace(string(answer)), 10, 64)
				if err != nil {
					t.Errorf("answered the size %q", answer)
					return
				}
				if known < floor {
					mu.Lock()
					regress++
					mu.Unlock()
				}
				old = known
			}
		}
	}
	for range 20 {
		c := startChild(t, dir, vkey)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for side := range sides {
			for range 2 {
				wg.Go(func() { submit(c.url, side, stop) })
			}
		}
		time.Sleep(30 * time.Millisecond)
		c.kill(t)
		close(stop)
		wg.Wait()
	}
	if count == 0 {
		t.Fatal("nothing was cosigned")
	}
	t.Logf("%d cosignatures over 20 kills, up to size %d", count, max(cosigned[0], cosigned[1]))
	if cosigned[0] > 0 && cosigned[1] > 0 {
		t.Errorf("both sides of the fork were cosigned, up to %d and %d", cosigned[0], cosigned[1])
	}
	if regress > 0 {
		t.Errorf("%d times the witness had forgotten what it had cosigned", regress)
	}
}

func FuzzAddCheckpoint(f *testing.F) {
	log, vkey := newKey(f, origin)
	tr := newTree(f, 20, 20, "")
	f.Add([]byte(body(0, nil, tr.checkpoint(log, 8))))
	f.Add([]byte(body(8, tr.proof(8, 20), tr.checkpoint(log, 20))))
	f.Add([]byte("old 0\n\n"))
	f.Add([]byte("old 0\n" + base64.StdEncoding.EncodeToString(make([]byte, tlog.HashSize)) + "\n\n" + origin + "\n0\n"))
	w := open(f, f.TempDir(), vkey)
	f.Cleanup(func() { w.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest("POST", "/add-checkpoint", bytes.NewReader(b)))
		switch rec.Code {
		case 200, 400, 403, 404, 409, 413, 422:
		default:
			t.Errorf("status %d (%q)", rec.Code, rec.Body)
		}
	})
}
