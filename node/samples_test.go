package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/verifier/hardware/simulated"
)

// chip signs the reports of all tests: its chain takes a while to make.
var chip = sync.OnceValue(func() *simulated.AMD {
	made, err := simulated.NewAMD(time.Now())
	if err != nil {
		panic(err)
	}
	return made
})

// guest is a simulated SEV-SNP guest.
type guest struct {
	launchDigest [48]byte
	hostData     [32]byte
	attested     atomic.Int64
	inside       atomic.Int64
	// hook, if there is one, runs within Attest.
	hook atomic.Pointer[func() error]
}

func (g *guest) Platform() string { return PlatformSNP }

func (g *guest) Registers(context.Context) (map[string]string, error) {
	reported, err := g.report([64]byte{})
	if err != nil {
		return nil, err
	}
	return SNPRegisters(reported)
}

func (g *guest) Attest(_ context.Context, h [64]byte) (*Attestation, error) {
	if g.inside.Add(1) != 1 {
		return nil, fmt.Errorf("two at a time use the attester")
	}
	defer g.inside.Add(-1)
	g.attested.Add(1)
	if hook := g.hook.Load(); hook != nil {
		if err := (*hook)(); err != nil {
			return nil, err
		}
	}
	reported, err := g.report(h)
	if err != nil {
		return nil, err
	}
	var endorsements []evidence.Endorsement
	for kind, data := range chip().Endorsements() {
		endorsements = append(endorsements, evidence.Endorsement{Type: string(kind), Data: data})
	}
	return &Attestation{Report: reported, Endorsements: endorsements}, nil
}

func (g *guest) setHook(hook func() error) { g.hook.Store(&hook) }

func (g *guest) report(h [64]byte) ([]byte, error) {
	return chip().Report(simulated.Report{LaunchDigest: g.launchDigest, HostData: g.hostData, ReportData: h})
}

// running is a node that serves.
type running struct {
	t        testing.TB
	node     *Node
	guest    *guest
	public   string // address
	push     string // address
	logged   *syncBuffer
	stop     context.CancelFunc
	finished chan error
}

// start runs a node in front of an upstream handler.
func start(t testing.TB, upstream http.Handler, adjust ...func(*Config, *Node)) *running {
	t.Helper()
	if upstream == nil {
		upstream = http.NotFoundHandler()
	}
	server := httptest.NewServer(upstream)
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, guest: &guest{}, logged: &syncBuffer{}, finished: make(chan error, 1)}
	config := Config{
		Attester: r.guest,
		Upstream: target,
		Logger:   slog.New(slog.NewTextHandler(r.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range adjust {
		f(&config, nil)
	}
	if r.node, err = New(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	for _, f := range adjust {
		f(nil, r.node)
	}
	public, push := listen(t), listen(t)
	r.public, r.push = public.Addr().String(), push.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.finished <- r.node.Serve(ctx, public, push) }()
	t.Cleanup(func() {
		stop()
		if err := <-r.finished; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
	return r
}

// withConfig and withNode adjust what start makes.
func withConfig(f func(*Config)) func(*Config, *Node) {
	return func(c *Config, _ *Node) {
		if c != nil {
			f(c)
		}
	}
}

func withNode(f func(*Node)) func(*Config, *Node) {
	return func(_ *Config, n *Node) {
		if n != nil {
			f(n)
		}
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// client returns an HTTP client that takes any certificate: these tests look
// at what is bound to it. It keeps no connection from another client.
func (r *running) client() *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get asks the public server, and returns the answer with its body read.
func (r *running) get(client *http.Client, path string) (*http.Response, []byte) {
	r.t.Helper()
	response, err := client.Get("https://" + r.public + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response, body
}

// document asks for evidence and returns the document with the key that the
// connection was made with.
func (r *running) document(client *http.Client, query string) (*evidence.Document, []byte) {
	r.t.Helper()
	response, body := r.get(client, evidence.Path+query)
	if response.StatusCode != http.StatusOK {
		r.t.Fatalf("evidence: %s: %s", response.Status, body)
	}
	document, err := evidence.ParseDocument(body)
	if err != nil {
		r.t.Fatal(err)
	}
	return document, response.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo
}

// refused asks for something and checks that the answer is one error.
func (r *running) refused(client *http.Client, path string, status int, code string) string {
	r.t.Helper()
	response, body := r.get(client, path)
	return checkRefusal(r.t, path, response, body, status, code)
}

func checkRefusal(t testing.TB, what string, response *http.Response, body []byte, status int, code string) string {
	t.Helper()
	var refusal struct{ Code, Detail string }
	if err := json.Unmarshal(body, &refusal); err != nil {
		t.Errorf("%s: the body %q is not an error: %v", what, body, err)
		return ""
	}
	if response.StatusCode != status || refusal.Code != code || refusal.Detail == "" {
		t.Errorf("%s: got %d %s %q, want %d %s", what, response.StatusCode, refusal.Code, refusal.Detail, status, code)
	}
	return refusal.Detail
}

// post pushes bytes and returns the answer.
func (r *running) post(body io.Reader) (*http.Response, []byte) {
	r.t.Helper()
	response, err := http.Post("http://"+r.push+evidence.PushPath, "application/json", body)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response, answer
}

// pushed pushes a document that has to be taken.
func (r *running) pushed(push *evidence.Push) {
	r.t.Helper()
	body, err := push.Marshal()
	if err != nil {
		r.t.Fatal(err)
	}
	if response, answer := r.post(bytes.NewReader(body)); response.StatusCode != http.StatusNoContent || len(answer) != 0 {
		r.t.Fatalf("push: %s: %s", response.Status, answer)
	}
}

// sampleSigner publishes every statement of these tests. The node does not care.
var sampleSigner = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// sampleRelease lists one measurement of SEV-SNP.
func sampleRelease(version string, registers map[string]string) *statement.Statement {
	allowed := make(map[string]statement.Register)
	for name, value := range registers {
		allowed[name] = statement.Register{OneOf: []string{value}}
	}
	digest := statement.DigestOf([]byte("an artefact"))
	return &statement.Statement{
		Subjects: []statement.Subject{{Name: "uki.efi", Digest: digest}},
		Predicate: &statement.Release{
			Product: "sample", Version: version, SecurityEpoch: 1,
			Source:       statement.Source{URI: "https://git.example/sample", Commit: fmt.Sprintf("%040x", 1)},
			Recipe:       statement.Reference{Digest: digest, Name: "image.yaml"},
			Lock:         statement.Reference{Digest: digest, Name: "image.lock"},
			Builder:      statement.Builder{ID: statement.BuilderID, Version: "0.1.0"},
			Volumes:      []statement.Volume{{Name: "root", VerityRoot: fmt.Sprintf("%064x", 1), SizeBytes: 4096}},
			Measurements: []statement.Measurement{{Platform: PlatformSNP, Shape: "one", Registers: allowed}},
			NotCovered:   []statement.NotCovered{},
		},
	}
}

func sampleRebuild(t testing.TB, release *statement.Statement) *statement.Statement {
	t.Helper()
	payload, err := release.Payload()
	if err != nil {
		t.Fatal(err)
	}
	id := statement.IDOf(payload).Digest()
	predicate, _ := release.Release()
	return &statement.Statement{
		Subjects: append([]statement.Subject{{Name: statement.ReleaseSubject, Digest: id}}, release.Subjects...),
		Predicate: &statement.Rebuild{
			Product: predicate.Product, Version: predicate.Version,
			Release: statement.ReleaseRef{Digest: id},
			Builder: predicate.Builder,
			Outcome: statement.Reproduced,
		},
	}
}

func sampleChannel(t testing.TB, release *statement.Statement, sequence int64) *statement.Statement {
	t.Helper()
	payload, err := release.Payload()
	if err != nil {
		t.Fatal(err)
	}
	predicate, _ := release.Release()
	issued := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	return &statement.Statement{
		Subjects:  []statement.Subject{{Name: predicate.Version, Digest: statement.IDOf(payload).Digest()}},
		Predicate: &statement.Channel{Product: predicate.Product, Channel: "stable", Sequence: sequence, IssuedAt: issued, NotAfter: issued.Add(24 * time.Hour)},
	}
}

// sampleLog is a log of one leaf at a time.
var sampleLog = sync.OnceValue(func() note.Signer {
	private, _, err := note.GenerateKey(rand.Reader, "log.example/sample")
	if err != nil {
		panic(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		panic(err)
	}
	return signer
})

// checkpointOf signs a checkpoint of the tree of one leaf. Tests make them
// differ by the last line.
func checkpointOf(t testing.TB, leaf []byte, extension string) []byte {
	t.Helper()
	hash := tlog.RecordHash(leaf)
	text := fmt.Sprintf("%s\n1\n%s\n", sampleLog().Name(), base64.StdEncoding.EncodeToString(hash[:]))
	if extension != "" {
		text += extension + "\n"
	}
	signed, err := note.Sign(&note.Note{Text: text}, sampleLog())
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// transparent signs a statement and gives it a receipt.
func transparent(t testing.TB, s *statement.Statement) (file json.RawMessage, leaf []byte) {
	t.Helper()
	payload, err := s.Payload()
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err = statement.Sign(payload, sampleSigner); err != nil {
		t.Fatal(err)
	}
	proof := receipt.FormatProof(0, nil, checkpointOf(t, leaf, ""))
	file, err = (&receipt.Transparent{Leaf: leaf, Receipts: []string{string(proof)}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return file, leaf
}

// pushRelease pushes a release that lists the node's registers and a checkpoint.
func (r *running) pushRelease(version string) (leafHash [32]byte) {
	r.t.Helper()
	registers, err := r.guest.Registers(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	file, leaf := transparent(r.t, sampleRelease(version, registers))
	r.pushed(&evidence.Push{Release: file, Checkpoint: string(checkpointOf(r.t, leaf, ""))})
	return statement.LeafHash(leaf)
}

func sampleNonce(b byte) [32]byte { return [32]byte(bytes.Repeat([]byte{b}, 32)) }

func nonceQuery(nonce [32]byte) string { return "?nonce=" + evidence.FormatNonce(nonce) }

// checkBinding checks that a document's report was made for a key and a
// challenge.
func checkBinding(t testing.TB, d *evidence.Document, spki []byte, leafHash [32]byte) {
	t.Helper()
	if !bytes.Equal(d.TLSKey, spki) {
		t.Errorf("the document names another key than that of its connection")
	}
	h, err := d.UserData(leafHash)
	if err != nil {
		t.Fatal(err)
	}
	if reported := d.Report[0x50 : 0x50+64]; !bytes.Equal(reported, h[:]) {
		t.Errorf("REPORT_DATA is %x, want %x", reported, h)
	}
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// syncBuffer is a log that several write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
