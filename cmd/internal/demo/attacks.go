//go:build linux

package demo

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/verifier"
)

// attack is something that somebody does to a client, and the one code with
// which the client refuses. The honest twin is the same set-up without it.
type attack struct {
	name string
	code string
	run  func(*story, context.Context, *attack) error
}

var attackList = []attack{
	{"a policy whose rebuilder is somebody else", "rebuild/threshold", (*story).attackStranger},
	{"a release that was never logged", "receipt/inclusion", (*story).attackUnlogged},
	{"a receipt without the quorum", "receipt/quorum", (*story).attackQuorum},
	{"a fork of the log, under its real key", "receipt/fork", (*story).attackFork},
	{"a replayed nonce", "binding/challenge", (*story).attackReplay},
	{"another TLS key than the attested one", "binding/tls-key", (*story).attackKey},
	{"evidence without a nonce, older than the policy allows", "current/evidence-stale", (*story).attackStale},
	{"the same, its checkpoint cosigned anew", "binding/user-data", (*story).attackRedated},
	{"a node with changed bits", "registers/mismatch", (*story).attackBits},
}

func (s *story) attacks(ctx context.Context) error {
	// From here on the demo is the sidecar: each attack pushes what it wants.
	s.staple.stop()
	if err := s.switchOnChanged(ctx); err != nil {
		return err
	}
	var seen []map[string]any
	for i := range attackList {
		a := &attackList[i]
		if err := s.honest(ctx); err != nil {
			return fmt.Errorf("before %s, the honest twin: %w", a.name, err)
		}
		if err := a.run(s, ctx, a); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		seen = append(seen, map[string]any{"attack": a.name, "code": a.code, "twin": "accepted"})
	}
	if err := s.honest(ctx); err != nil {
		return fmt.Errorf("after all attacks, the honest twin: %w", err)
	}
	s.say("   Without the attack, the same set-up was accepted before each of them, and is again at the end.")
	s.saw["attacks"] = seen
	return nil
}

// honest brings the node what is true, and demands acceptance.
func (s *story) honest(ctx context.Context) error {
	if err := s.stapleOnce(ctx, s.node); err != nil {
		return err
	}
	_, err := s.expect(ctx, "nothing is wrong", "", "policy.yaml")
	return err
}

func (s *story) stapleOnce(ctx context.Context, n *demoNode) error {
	a, err := s.quietly(ctx, "staple", n.push, s.release, "--log", s.log.hello["url"], "--log-policy", "tlog.policy", "--channel", "stable", "--once")
	if err != nil || a.exit != 0 {
		return fmt.Errorf("the sidecar could not push: %s", errorText(a, err))
	}
	return nil
}

// refused demands the attack's code, and no other.
func (s *story) refused(ctx context.Context, a *attack, url, policy string, more ...string) error {
	_, err := s.expectAt(ctx, url, a.name, a.code, policy, more...)
	return err
}

func (s *story) attackStranger(ctx context.Context, a *attack) error {
	return s.refused(ctx, a, s.node.url, "policy-stranger.yaml")
}

// transparent reads the release's transparent statement.
func (s *story) transparent() (*receipt.Transparent, error) {
	path := s.release
	if !filepath.IsAbs(path) {
		path = s.path(path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return receipt.ParseTransparent(b)
}

// pushRelease pushes another transparent statement for the release.
func (s *story) pushRelease(ctx context.Context, n *demoNode, t *receipt.Transparent) error {
	b, err := t.Marshal()
	if err != nil {
		return err
	}
	document, err := (&evidence.Push{Release: b}).Marshal()
	if err != nil {
		return err
	}
	return push(ctx, n, document)
}

// attackUnlogged: the publisher's own key signs another release of the same
// bits, and the genuine receipt is put beside it.
func (s *story) attackUnlogged(ctx context.Context, a *attack) error {
	t, err := s.transparent()
	if err != nil {
		return err
	}
	signed, err := statement.Parse(t.Leaf)
	if err != nil {
		return err
	}
	release, _ := signed.Release()
	release.Version = "6.6.6"
	payload, err := signed.Statement.Payload()
	if err != nil {
		return err
	}
	pem, err := s.read("publisher.key")
	if err != nil {
		return err
	}
	key, err := statement.ParsePrivateKeyPEM([]byte(pem))
	if err != nil {
		return err
	}
	if t.Leaf, err = statement.Sign(payload, key); err != nil {
		return err
	}
	if err := s.pushRelease(ctx, s.node, t); err != nil {
		return err
	}
	return s.refused(ctx, a, s.node.url, "policy.yaml")
}

// attackQuorum: one witness's cosignature is missing from the receipt.
func (s *story) attackQuorum(ctx context.Context, a *attack) error {
	t, err := s.transparent()
	if err != nil {
		return err
	}
	for i, r := range t.Receipts {
		var kept []string
		for line := range strings.SplitSeq(r, "\n") {
			if !strings.HasPrefix(line, "— witness-2.example ") {
				kept = append(kept, line)
			}
		}
		t.Receipts[i] = strings.Join(kept, "\n")
	}
	if err := s.pushRelease(ctx, s.node, t); err != nil {
		return err
	}
	return s.refused(ctx, a, s.node.url, "policy.yaml")
}

// attackReplay: somebody kept an answer to another client's nonce.
func (s *story) attackReplay(ctx context.Context, a *attack) error {
	old, err := s.ask(ctx, false)
	if err != nil {
		return err
	}
	url, stop, err := impostor(func(*http.Request) ([]byte, error) { return old.Document, nil })
	if err != nil {
		return err
	}
	defer stop()
	return s.refused(ctx, a, url, "policy.yaml")
}

// attackKey: somebody in the middle ends TLS and passes the client's own nonce
// on to the real node.
func (s *story) attackKey(ctx context.Context, a *attack) error {
	relay := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	url, stop, err := impostor(func(r *http.Request) ([]byte, error) {
		resp, err := relay.Get(s.node.url + r.URL.RequestURI())
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return io.ReadAll(io.LimitReader(resp.Body, evidence.MaxDocumentBytes))
	})
	if err != nil {
		return err
	}
	defer stop()
	return s.refused(ctx, a, url, "policy.yaml")
}

// impostor is a TLS server with a key of its own that answers as it is told.
func impostor(answer func(*http.Request) ([]byte, error)) (url string, stop func(), err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "impostor"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := answer(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Write(b)
		}),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
	}
	go server.ServeTLS(l, "", "")
	return "https://" + l.Addr().String(), func() { server.Close() }, nil
}

// ask gets evidence as the client does.
func (s *story) ask(ctx context.Context, dated bool) (*verifier.Recording, error) {
	return verifier.Fetch(ctx, s.node.url, verifier.FetchOptions{Dated: dated})
}

// attackBits starts a node whose image is another than the one released: in tpm
// mode by load options that replace the command line, in a real boot, and
// otherwise by a changed byte in the initrd.
func (s *story) attackBits(ctx context.Context, a *attack) error {
	n, err := s.changedNode(ctx)
	if err != nil {
		return err
	}
	defer n.stop()
	if err := s.waitForNode(ctx, n); err != nil {
		return err
	}
	if err := s.stapleOnce(ctx, n); err != nil {
		return err
	}
	v, err := s.expectAt(ctx, n.url, a.name, a.code, "policy.yaml")
	if err != nil {
		return err
	}
	named := []string{"pcr9", "pcr12"}
	if s.c.Mode == Simulated {
		named = []string{"launchDigest"}
	}
	for _, register := range named {
		if !strings.Contains(v.Rejection.Detail, register) {
			return fmt.Errorf("the refusal does not name %s: %s", register, v.Rejection.Detail)
		}
	}
	return nil
}

// switchOnChanged begins the boot that attackBits needs, so that the attacks
// before it are not in its way: another machine with a copy of the same TPM, so
// that the attestation key is the policy's and only what it boots is another.
func (s *story) switchOnChanged(ctx context.Context) (err error) {
	if s.c.Mode != TPM {
		return nil
	}
	s.say("   meanwhile, for a later attack: the same machine, with load options that replace the command line")
	s.changed, err = s.bootDisk(ctx, s.path(changedMachine), s.imageFile("disk.img"), "console=ttyS0 panic=-1 quiet vitrine.attack=1")
	return err
}

func (s *story) changedNode(ctx context.Context) (*demoNode, error) {
	if s.c.Mode == TPM {
		return s.changed, nil
	}
	changed := s.path("changed")
	if err := os.Mkdir(changed, 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"vmlinuz", "initrd.cpio", "cmdline"} {
		b, err := os.ReadFile(s.imageFile(name))
		if err != nil {
			return nil, err
		}
		if name == "initrd.cpio" {
			b[len(b)/2] ^= 1
		}
		if err := os.WriteFile(filepath.Join(changed, name), b, 0o600); err != nil {
			return nil, err
		}
	}
	s.say("   the same chip, with one bit of the initrd changed:")
	upstream, err := s.inferenceServer(ctx)
	if err != nil {
		return nil, err
	}
	return s.simulateImage(ctx, "changed-node", "changed", upstream)
}

func (s *story) imageFile(name string) string {
	if filepath.IsAbs(s.image) {
		return filepath.Join(s.image, name)
	}
	return s.path(s.image, name)
}

// attackStale: nobody has brought the node a newer checkpoint for longer than
// the policy allows evidence without a nonce to be old.
func (s *story) attackStale(ctx context.Context, a *attack) error {
	if _, err := s.expect(ctx, "fresh evidence without a nonce", "", "policy-impatient.yaml", "--dated"); err != nil {
		return fmt.Errorf("the honest twin: %w", err)
	}
	s.say("   waiting until the evidence is older than 5 s …")
	if err := sleep(ctx, 7*time.Second); err != nil {
		return err
	}
	return s.refused(ctx, a, s.node.url, "policy-impatient.yaml", "--dated")
}

// attackRedated: an idle log is cosigned again and again. Somebody takes old
// evidence, and puts the same checkpoint with newer cosignatures into it. Only
// the document is changed, so this is judged from a recording: the connection
// plays no part in it.
func (s *story) attackRedated(ctx context.Context, a *attack) error {
	r, err := s.ask(ctx, true)
	if err != nil {
		return err
	}
	if err := s.saveRecording("dated.json", r); err != nil {
		return err
	}
	later := func() string { return time.Now().UTC().Add(time.Second).Format(time.RFC3339) }
	if _, err := s.expectAt(ctx, "dated.json", "the evidence as it was recorded", "", "policy-impatient.yaml", "--at", later()); err != nil {
		return fmt.Errorf("the honest twin: %w", err)
	}
	document, err := evidence.ParseDocument(r.Document)
	if err != nil {
		return err
	}
	old := document.Challenge.Checkpoint
	anew, err := s.cosignedAnew(ctx, old)
	if err != nil {
		return err
	}
	document.Challenge.Checkpoint = anew
	if r.Document, err = document.Marshal(); err != nil {
		return err
	}
	if err := s.saveRecording("redated.json", r); err != nil {
		return err
	}
	return s.refused(ctx, a, "redated.json", "policy-impatient.yaml", "--at", later())
}

func (s *story) saveRecording(name string, r *verifier.Recording) error {
	b, err := r.Marshal()
	if err != nil {
		return err
	}
	return os.WriteFile(s.path(name), b, 0o600)
}

// cosignedAnew waits until the log's checkpoint has the same body as note and
// newer cosignatures.
func (s *story) cosignedAnew(ctx context.Context, note string) (string, error) {
	body, _, _ := strings.Cut(note, "\n\n")
	for range 60 {
		resp, err := http.Get(s.log.hello["url"] + "/checkpoint")
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		resp.Body.Close()
		if err != nil {
			return "", err
		}
		if !bytes.HasPrefix(b, []byte(body+"\n\n")) {
			return "", errors.New("the log has grown meanwhile")
		}
		if string(b) != note {
			return string(b), nil
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return "", err
		}
	}
	return "", errors.New("the idle log was not cosigned anew")
}

// inferenceServer builds and starts the recipe's inference server beside the
// simulated node, which boots nothing.
func (s *story) inferenceServer(ctx context.Context) (string, error) {
	if s.upstream != "" {
		return s.upstream, nil
	}
	address, err := freePort()
	if err != nil {
		return "", err
	}
	if err := s.startServer(ctx, address); err != nil {
		return "", err
	}
	s.upstream = "http://" + address
	return s.upstream, nil
}
