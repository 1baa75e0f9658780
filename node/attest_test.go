package node

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/certificate"
	"github.com/vitrine-dev/vitrine/node/evidence"
)

func TestEvidence(t *testing.T) {
	r := start(t, nil)
	client := r.client()
	nonce := sampleNonce(1)

	r.refused(client, evidence.Path+nonceQuery(nonce), http.StatusServiceUnavailable, "node/no-statement")
	r.refused(client, evidence.Path, http.StatusServiceUnavailable, "node/no-statement")

	registers, err := r.guest.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file, leaf := transparent(t, sampleRelease("1.0.0", registers))
	r.pushed(&evidence.Push{Release: file})
	r.refused(client, evidence.Path, http.StatusServiceUnavailable, "node/no-checkpoint")

	document, spki := r.document(client, nonceQuery(nonce))
	checkBinding(t, document, spki, statement.LeafHash(leaf))
	if !bytes.Equal(document.Challenge.Nonce, nonce[:]) || document.Challenge.Checkpoint != "" {
		t.Errorf("the challenge is %+v, want the nonce", document.Challenge)
	}
	if !bytes.Equal(document.Release, file) {
		t.Error("the document's release is not the pushed one")
	}
	for kind, want := range chip().Endorsements() {
		if got := document.Endorsement(string(kind)); !bytes.Equal(got, want) {
			t.Errorf("the endorsement %s is not the attester's", kind)
		}
	}

	checkpoint := string(checkpointOf(t, leaf, "first"))
	r.pushed(&evidence.Push{Checkpoint: checkpoint})
	document, spki = r.document(client, "")
	checkBinding(t, document, spki, statement.LeafHash(leaf))
	if document.Challenge.Checkpoint != checkpoint || document.Challenge.Nonce != nil {
		t.Errorf("the challenge is %+v, want the checkpoint", document.Challenge)
	}

	newer := string(checkpointOf(t, leaf, "second"))
	r.pushed(&evidence.Push{Checkpoint: newer})
	document, spki = r.document(client, "")
	checkBinding(t, document, spki, statement.LeafHash(leaf))
	if document.Challenge.Checkpoint != newer {
		t.Errorf("the challenge is %+v, want the newer checkpoint", document.Challenge)
	}
}

func TestBadNonce(t *testing.T) {
	r := start(t, nil)
	r.pushRelease("1.0.0")
	client := r.client()
	good := evidence.FormatNonce(sampleNonce(255)) // has letters of the URL alphabet
	if !strings.Contains(good, "_") {
		t.Fatalf("the nonce %s does not tell the alphabets apart", good)
	}
	r.document(client, "?nonce="+good)
	for name, query := range map[string]string{
		"empty":             "?nonce=",
		"short":             "?nonce=" + good[:42],
		"long":              "?nonce=" + good + "AAAA",
		"padded":            "?nonce=" + good + "=",
		"standard alphabet": "?nonce=" + strings.ReplaceAll(good, "_", "%2F"),
		"last bits set":     "?nonce=" + good[:42] + "9",
		"a line break":      "?nonce=" + good[:4] + "%0A" + good[4:],
		"twice":             "?nonce=" + good + "&nonce=" + good,
		"another parameter": "?nonce=" + good + "&x=1",
		"another name":      "?Nonce=" + good,
		"not a query":       "?nonce=%zz",
		"semicolon":         "?nonce=" + good + ";x",
		"huge":              "?nonce=" + strings.Repeat("A", 8<<10),
	} {
		t.Run(name, func(t *testing.T) {
			r.refused(client, evidence.Path+query, http.StatusBadRequest, "node/bad-nonce")
		})
	}
}

func TestOtherPathsAndMethods(t *testing.T) {
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	r := start(t, upstream)
	client := r.client()
	for _, path := range []string{
		"/.well-known/vitrine/", "/.well-known/vitrine/evidence/", "/.well-known/vitrine", "//.well-known/vitrine/evidence",
		"/.well-known/vitrine//evidence", "/.well-known/./vitrine/evidence", "/.well-known/vitrine/./evidence",
		"/.well-known/vitrine/x/../evidence", "/v1/../.well-known/vitrine/evidence", "/../.well-known/vitrine/evidence",
		"/.well-known/vitrine/x/../../vitrine/evidence", "/.well-known/%2e/vitrine%2fevidence", "/v1/%2e%2e/.well-known/vitrine",
	} {
		r.refused(client, path, http.StatusNotFound, "node/not-found")
	}
	// Another spelling of the same path is the same path (RFC 3986, §6.2.2).
	r.refused(client, "/.well-known/%76itrine/evidence", http.StatusServiceUnavailable, "node/no-statement")
	for _, path := range []string{"/.well-known/vitrine2", "/.well-known/other", "/.well-known/vitrine/../x", "/x/.well-known/vitrine/evidence", "/push", "/"} {
		if response, _ := r.get(client, path); response.StatusCode != http.StatusTeapot {
			t.Errorf("%s: %s, want the upstream's answer", path, response.Status)
		}
	}
	response, err := client.Post("https://"+r.public+evidence.Path, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST to the evidence path: %s", response.Status)
	}
}

// Without a nonce, one report serves all who ask, until there is a newer
// checkpoint.
func TestDatedEvidenceIsMadeOnce(t *testing.T) {
	r := start(t, nil, withConfig(func(c *Config) {
		c.Attester.(*guest).setHook(func() error { time.Sleep(20 * time.Millisecond); return nil })
	}))
	leafHash := r.pushRelease("1.0.0")
	client := r.client()
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			document, spki := r.document(client, "")
			checkBinding(t, document, spki, leafHash)
		})
	}
	asking.Wait()
	if made := r.guest.attested.Load(); made != 1 {
		t.Errorf("%d reports were made for one checkpoint", made)
	}
}

// Clients with nonces wait for one another, and those beyond the queue are
// told so at once.
func TestAttesterIsUsedByOneAtATime(t *testing.T) {
	hold := make(chan struct{})
	var once sync.Once
	letGo := func() { once.Do(func() { close(hold) }) }
	defer letGo()
	r := start(t, nil)
	leafHash := r.pushRelease("1.0.0")
	r.document(r.client(), "") // the background's report is made
	r.guest.setHook(func() error { <-hold; return nil })

	const clients = maxEvidenceRequests + 10
	statuses := make(chan int, clients)
	var asking sync.WaitGroup
	for i := range clients {
		client := r.client() // one connection may not ask for so much
		asking.Go(func() {
			nonce := sampleNonce(byte(i))
			response, body := r.get(client, evidence.Path+nonceQuery(nonce))
			statuses <- response.StatusCode
			switch response.StatusCode {
			case http.StatusOK:
				document, err := evidence.ParseDocument(body)
				if err != nil {
					t.Error(err)
					return
				}
				checkBinding(t, document, response.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo, leafHash)
				if !bytes.Equal(document.Challenge.Nonce, nonce[:]) {
					t.Error("a client was answered for another's nonce")
				}
			case http.StatusServiceUnavailable:
				checkRefusal(t, "beyond the queue", response, body, http.StatusServiceUnavailable, "node/busy")
			default:
				t.Errorf("%s: %s", response.Status, body)
			}
		})
	}
	for refused := 0; refused < clients-maxEvidenceRequests; refused++ {
		if status := <-statuses; status != http.StatusServiceUnavailable {
			t.Fatalf("a client got %d while the attester was held", status)
		}
	}
	letGo()
	asking.Wait()
}

func TestAttesterFails(t *testing.T) {
	r := start(t, nil)
	r.pushRelease("1.0.0")
	client := r.client()
	r.document(client, "")
	r.guest.setHook(func() error { return errors.New("the fuse 0xSECRET is blown") })
	detail := r.refused(client, evidence.Path+nonceQuery(sampleNonce(1)), http.StatusInternalServerError, "node/attester")
	if strings.Contains(detail, "SECRET") {
		t.Errorf("a client is told about the hardware: %s", detail)
	}
	if !strings.Contains(r.logged.String(), "SECRET") {
		t.Error("the console is not told why")
	}
}

func TestCertificateCarriesEvidence(t *testing.T) {
	r := start(t, nil)
	if _, err := certificate.Read(r.handshake().PeerCertificates[0]); !errors.Is(err, certificate.ErrAbsent) {
		t.Errorf("before the first push: error %v, want ErrAbsent", err)
	}
	leafHash := r.pushRelease("1.0.0")
	var seen *certificate.Evidence
	var spki []byte
	within(t, 5*time.Second, func() bool {
		c := r.handshake().PeerCertificates[0]
		e, err := certificate.Read(c)
		if err != nil && !errors.Is(err, certificate.ErrAbsent) {
			t.Fatal(err)
		}
		if len(c.Raw) > certificate.MaxBytes {
			t.Fatalf("the certificate has %d bytes", len(c.Raw))
		}
		seen, spki = e, c.RawSubjectPublicKeyInfo
		return err == nil
	})
	want := evidence.UserData(evidence.UserDataInput{
		Platform: seen.Platform, Challenge: seen.Challenge, TLSKey: spki, LeafHash: seen.Release,
	})
	if !bytes.Equal(seen.Report[0x50:0x90], want[:]) || seen.Release != leafHash {
		t.Error("the evidence in the certificate is not for the certificate's key and the release")
	}
	document, _ := r.document(r.client(), "")
	if challenge, err := document.Challenge.Challenge(); err != nil || challenge != seen.Challenge {
		t.Errorf("the certificate's challenge is not the document's: %v", err)
	}

	// A release that is not the node's takes the evidence away again.
	registers, err := r.guest.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	registers["launchDigest"] = strings.Repeat("ab", 48)
	file, _ := transparent(t, sampleRelease("2.0.0", registers))
	r.pushed(&evidence.Push{Release: file})
	within(t, 5*time.Second, func() bool {
		_, err := certificate.Read(r.handshake().PeerCertificates[0])
		return errors.Is(err, certificate.ErrAbsent)
	})
}

// handshake opens a connection and returns what the client saw.
func (r *running) handshake(adjust ...func(*tls.Config)) tls.ConnectionState {
	r.t.Helper()
	config := &tls.Config{InsecureSkipVerify: true}
	for _, f := range adjust {
		f(config)
	}
	c, err := tls.Dial("tcp", r.public, config)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState()
}

// within waits for something to become true.
func within(t testing.TB, d time.Duration, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen within %v", d)
		}
	}
}
