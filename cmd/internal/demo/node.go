//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/vitrine-dev/vitrine/cmd/internal/vm"
	"github.com/vitrine-dev/vitrine/node/attestationkey"
)

// demoNode is a node of either mode: where it is, and how to end it.
type demoNode struct {
	url, push string
	stop      func()
}

// The guest's ports, as the recipe configures the node.
const (
	guestPort     = 8443
	guestPushPort = 8480
)

// changedMachine is the folder of a second machine, with a copy of the TPM.
const changedMachine = "machine-changed"

// bootTimeout bounds a boot under software emulation, on a busy machine.
const bootTimeout = 3 * time.Minute

// startNode starts the image and shows that a node without a statement has
// nothing to say.
func (s *story) startNode(ctx context.Context) error {
	var err error
	if s.c.Mode == TPM {
		err = s.boot(ctx)
	} else {
		err = s.simulate(ctx)
	}
	if err != nil {
		return err
	}
	if err := s.writePolicies(); err != nil {
		return err
	}
	if err := s.waitForNode(ctx, s.node); err != nil {
		return err
	}
	if _, err := s.expect(ctx, "before the first push", "node/no-statement", "policy.yaml"); err != nil {
		return err
	}
	s.say("   The node never dials out. A sidecar on the untrusted host brings it what proves itself:")
	if s.staple, err = s.startStaple(ctx, s.node); err != nil {
		return err
	}
	s.saw["url"], s.saw["beforePush"] = s.node.url, "node/no-statement"
	return s.waitForStatement(ctx)
}

func (s *story) startStaple(ctx context.Context, n *demoNode) (*process, error) {
	return s.start(ctx, "staple", false, "staple", n.push, s.release, "--log", s.log.hello["url"], "--log-policy", "tlog.policy", "--channel", "stable", "--interval", "1s")
}

// boot boots disk.img, having asked the machine's TPM for its attestation key
// while the machine was off.
func (s *story) boot(ctx context.Context) error {
	machine := s.path("machine")
	err := vm.WithTPM(ctx, machine, func(tpm transport.TPM) error {
		key, err := attestationkey.Create(tpm)
		if err != nil {
			return err
		}
		defer key.Close()
		pem, err := attestationkey.PEM(key.Public)
		if err != nil {
			return err
		}
		return os.WriteFile(s.path("attestation.pem"), pem, 0o644)
	})
	if err != nil {
		return fmt.Errorf("reading the attestation key from the machine's TPM: %w", err)
	}
	if err := os.CopyFS(s.path(changedMachine), os.DirFS(machine)); err != nil {
		return err
	}
	s.say("   attestation key read from the vTPM before the boot, for the policy: attestation.pem")
	s.node, err = s.bootDisk(ctx, machine, filepath.Join(s.image, "disk.img"), "")
	return err
}

func (s *story) bootDisk(ctx context.Context, machine, disk, loadOptions string) (*demoNode, error) {
	m, err := vm.Start(ctx, vm.Config{
		Disk: disk, StateDir: machine, LoadOptions: loadOptions,
		Forward: map[int]int{guestPort: 0, guestPushPort: 0},
	})
	if err != nil {
		return nil, err
	}
	n := &demoNode{url: "https://" + m.Addr(guestPort), push: "http://" + m.Addr(guestPushPort), stop: func() { m.Stop() }}
	s.cleanup(n.stop)
	s.say("   booting %s under QEMU, network restricted to two forwarded ports …", filepath.Base(disk))
	return n, nil
}

// simulate runs the node over simulated hardware, and the inference server
// beside it.
func (s *story) simulate(ctx context.Context) error {
	if _, err := s.must(ctx, "keygen", "--simulated-chip", "chip"); err != nil {
		return err
	}
	upstream, err := s.inferenceServer(ctx)
	if err != nil {
		return err
	}
	s.node, err = s.simulateImage(ctx, "node", s.image, upstream)
	return err
}

func (s *story) simulateImage(ctx context.Context, name, image, upstream string) (*demoNode, error) {
	p, err := s.start(ctx, name, true, "node", "simulate", image, "--chip", "chip.key", "--upstream", upstream, "--listen", "127.0.0.1:0", "--push-listen", "127.0.0.1:0", "--json")
	if err != nil {
		return nil, err
	}
	return &demoNode{url: p.hello["url"], push: p.hello["push"], stop: p.stop}, nil
}

// waitForNode waits until the node answers at all.
func (s *story) waitForNode(ctx context.Context, n *demoNode) error {
	began := time.Now()
	for {
		a, err := s.quietly(ctx, "verify", n.url, "--policy", "policy.yaml", "--state", "seen", "--json")
		if err != nil {
			return err
		}
		var v verdict
		if err := a.into(&v); err != nil {
			return err
		}
		if v.code() != "node/unreachable" {
			s.say("   it answers after %.0f s", time.Since(began).Seconds())
			return nil
		}
		if time.Since(began) > bootTimeout {
			console, _ := s.read("machine/console.log")
			return fmt.Errorf("the node did not answer within %v: %s", bootTimeout, tail(console))
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

// waitForStatement waits until the sidecar's first push has come.
func (s *story) waitForStatement(ctx context.Context) error {
	for range 120 {
		v, err := s.verify(ctx, s.node.url, "policy.yaml")
		if err != nil {
			return err
		}
		if c := v.code(); c != "node/no-statement" && c != "current/channel-missing" {
			return nil
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the sidecar's push did not reach the node")
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writePolicies writes the client's policy, and the variants that attacks need.
func (s *story) writePolicies() error {
	for _, p := range []struct{ name, rebuilder, maxEvidenceAge string }{
		{"policy.yaml", "rebuilder", "1m"},
		{"policy-stranger.yaml", "stranger", "1m"},
		{"policy-impatient.yaml", "rebuilder", "5s"},
	} {
		text, err := s.policy(p.rebuilder, p.maxEvidenceAge)
		if err != nil {
			return err
		}
		if err := s.write(p.name, text); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) policy(rebuilder, maxEvidenceAge string) (string, error) {
	tlog, err := s.tlogPolicy("all")
	if err != nil {
		return "", err
	}
	keys := map[string]string{}
	for _, k := range []string{"publisher", "channel", rebuilder} {
		if keys[k], err = s.indented(k+".pub", "        "); err != nil {
			return "", err
		}
	}
	platform := "  - platform: tpm\n    isolation: none\n    attestationKeys:\n      - |\n%s\n    any: [pcr0]\n"
	root := "attestation.pem"
	if s.c.Mode == Simulated {
		platform = "  - platform: sev-snp\n    isolation: none\n    simulatedRoots:\n      - |\n%s\n    minimumTCB: {bootloader: 0, tee: 0, snp: 0, microcode: 0}\n    any: []\n"
		root = "chip.pem"
	}
	rootPEM, err := s.indented(root, "        ")
	if err != nil {
		return "", err
	}
	return "vitrine: policy/v1\nname: demo\nproduct: " + product + "\nlogs:\n  - policy: |\n      " +
		strings.ReplaceAll(strings.TrimSpace(tlog), "\n", "\n      ") +
		"\npublishers:\n  - name: release team\n    key: |\n" + keys["publisher"] +
		"\nreceipt: {maxAge: 10m, minAge: 0s}\nevidence: {maxAge: " + maxEvidenceAge + "}\nepoch: {minimum: 1}\nrebuilders:\n  threshold: 1\n  keys:\n    - name: " + rebuilder + "\n      key: |\n" + keys[rebuilder] +
		"\nchannel:\n  name: stable\n  maxAge: 24h\n  keys:\n    - name: channel\n      key: |\n" + keys["channel"] +
		"\nwithdrawers: {unchecked: nobody withdraws anything in the demo}\nmachines: {unchecked: the machine is made up}\nplatforms:\n" + fmt.Sprintf(platform, rootPEM) + "rules: []\n", nil
}

// push sends a document to a node's push port, as a hostile sidecar would.
func push(ctx context.Context, n *demoNode, document []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.push+"/push", strings.NewReader(string(document)))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("the node did not take the push: %s: %s", resp.Status, said)
	}
	return nil
}

// freePort finds a free port on loopback.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
