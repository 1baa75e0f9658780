package node_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	firmware "github.com/vitrine-dev/vitrine/builder/measure/simulated"
	"github.com/vitrine-dev/vitrine/node"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/node/simulated"
	hardware "github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

// A node on hardware that is simulated, to which nobody has pushed a release
// yet. On real hardware the attester comes from OpenSNP or OpenTPM.
func Example() {
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "firmware.fd")
	if err := os.WriteFile(image, firmware.Firmware(), 0o600); err != nil {
		log.Fatal(err)
	}
	chip, err := hardware.NewAMD(time.Now())
	if err != nil {
		log.Fatal(err)
	}
	attester, err := simulated.Open(chip, simulated.Machine{Firmware: image, VCPUs: 1, VCPUType: "EPYC-v4"})
	if err != nil {
		log.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	n, err := node.New(ctx, node.Config{
		Attester: attester,
		Upstream: &url.URL{Scheme: "http", Host: "127.0.0.1:8000"},
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	push, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- n.Serve(ctx, public, push) }()

	// Who trusts the key is for a verifier to say; this client takes any.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := client.Get("https://" + public.Addr().String() + evidence.Path)
	if err != nil {
		log.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	response.Body.Close()
	refusal, err := evidence.ParseError(response.StatusCode, body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(refusal.Code)

	stop()
	fmt.Println(<-served)
	// Output:
	// node/no-statement
	// <nil>
}
