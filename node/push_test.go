package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/node/evidence"
)

func TestHostilePushes(t *testing.T) {
	r := start(t, nil)
	leafHash := r.pushRelease("1.0.0")
	client := r.client()
	before, _ := r.document(client, "")

	registers, err := r.guest.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release := sampleRelease("6.6.6", registers)
	good, leaf := transparent(t, release)
	rebuild, _ := transparent(t, sampleRebuild(t, release))
	channel, _ := transparent(t, sampleChannel(t, release, 1))
	checkpoint, err := json.Marshal(string(checkpointOf(t, leaf, "")))
	if err != nil {
		t.Fatal(err)
	}
	push := func(members string) string { return `{"format":"` + evidence.PushFormat + `",` + members + `}` }
	many := func(n int, one json.RawMessage) string {
		return "[" + strings.Repeat(string(one)+",", n-1) + string(one) + "]"
	}
	for name, body := range map[string]string{
		"empty":                        "",
		"not JSON":                     "release",
		"binary":                       "\x00\xff\xfe",
		"null":                         "null",
		"a list":                       "[]",
		"nothing in it":                `{"format":"` + evidence.PushFormat + `"}`,
		"another format":               strings.Replace(push(`"release":`+string(good)), "push/v1", "push/v2", 1),
		"no format":                    `{"release":` + string(good) + `}`,
		"cut off":                      push(`"release":` + string(good))[:2000],
		"trailing bytes":               push(`"release":`+string(good)) + "x",
		"an unknown member":            push(`"release":` + string(good) + `,"key":"x"`),
		"a member twice":               push(`"release":` + string(good) + `,"release":` + string(good)),
		"another case":                 push(`"Release":` + string(good)),
		"deep":                         strings.Repeat(`{"a":`, 100000),
		"deep lists":                   push(`"rebuilds":` + strings.Repeat("[", 500000)),
		"a release that is a rebuild":  push(`"release":` + string(rebuild)),
		"a channel that is a release":  push(`"channel":` + string(good)),
		"a rebuild that is a channel":  push(`"rebuilds":[` + string(channel) + `]`),
		"one bad rebuild among good":   push(`"release":` + string(good) + `,"rebuilds":[` + string(rebuild) + `,` + string(good) + `]`),
		"a withdrawal that is not one": push(`"withdrawals":[` + string(rebuild) + `]`),
		"too many rebuilds":            push(`"rebuilds":` + many(evidence.MaxRebuilds+1, rebuild)),
		"no receipt":                   push(`"release":` + noReceipt(t, good)),
		"a leaf of no statement":       push(`"release":` + otherLeaf(t, good, []byte("{}"))),
		"a leaf not canonical":         push(`"release":` + otherLeaf(t, good, append([]byte(" "), leaf...))),
		"a checkpoint of no note":      push(`"checkpoint":"x"`),
		"a checkpoint of no tree":      push(`"checkpoint":"a\nb\n\n— a AAAAAAAA\n"`),
		"a checkpoint cut off":         push(`"checkpoint":` + strings.Replace(string(checkpoint), `\n\n`, `\n`, 1)),
		"an endorsement twice":         push(`"endorsements":[{"type":"vcek","data":"AA=="},{"type":"vcek","data":"AA=="}]`),
		"an unknown endorsement":       push(`"endorsements":[{"type":"key","data":"AA=="}]`),
		"an endorsement of nothing":    push(`"endorsements":[{"type":"vcek","data":""}]`),
		"bad base64":                   push(`"endorsements":[{"type":"vcek","data":"A"}]`),
	} {
		t.Run(name, func(t *testing.T) {
			response, answer := r.post(strings.NewReader(body))
			checkRefusal(t, name, response, answer, http.StatusBadRequest, "node/bad-push")
		})
	}

	after, spki := r.document(client, "")
	checkBinding(t, after, spki, leafHash)
	if !bytes.Equal(after.Release, before.Release) || after.Challenge.Checkpoint != before.Challenge.Checkpoint || after.Rebuilds != nil {
		t.Error("a refused push changed what the node shows")
	}
}

// noReceipt and otherLeaf change a transparent statement.
func noReceipt(t *testing.T, file json.RawMessage) string {
	return changed(t, file, func(m map[string]any) { m["receipts"] = []string{} })
}

func otherLeaf(t *testing.T, file json.RawMessage, leaf []byte) string {
	return changed(t, file, func(m map[string]any) { m["leaf"] = leaf })
}

func changed(t *testing.T, file json.RawMessage, f func(map[string]any)) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(file, &m); err != nil {
		t.Fatal(err)
	}
	f(m)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHugePush(t *testing.T) {
	r := start(t, nil)
	for name, body := range map[string]io.Reader{
		"with its length":    bytes.NewReader(make([]byte, evidence.MaxPushBytes+1)),
		"without its length": io.LimitReader(endless{}, evidence.MaxPushBytes+1),
	} {
		response, answer := r.post(body)
		checkRefusal(t, name, response, answer, http.StatusRequestEntityTooLarge, "node/too-large")
	}
	// One that never ends is cut off; the sender may see that as an error.
	response, err := http.Post("http://"+r.push+evidence.PushPath, "application/json", io.LimitReader(endless{}, 1<<30))
	if err == nil {
		response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("an endless push: %s", response.Status)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestPushPort(t *testing.T) {
	reached := false
	r := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{http.MethodGet, "/push", http.StatusMethodNotAllowed},
		{http.MethodPut, "/push", http.StatusMethodNotAllowed},
		{http.MethodPost, "/", http.StatusNotFound},
		{http.MethodPost, "/push/", http.StatusNotFound},
		{http.MethodPost, "//push", http.StatusNotFound},
		{http.MethodGet, "/v1/models", http.StatusNotFound},
		{http.MethodGet, evidence.Path, http.StatusNotFound},
	} {
		request, err := http.NewRequest(test.method, "http://"+r.push+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != test.status {
			t.Errorf("%s %s: %s, want %d", test.method, test.path, response.Status, test.status)
		}
	}
	if reached {
		t.Error("the push port forwards to the upstream")
	}
}

// The last push stands, also an older one that somebody kept: the node does
// not know which is newer, and a forged "largest" would shut out all others.
// What a client thinks of its age is the client's to say.
func TestReplayedPush(t *testing.T) {
	r := start(t, nil)
	client := r.client()
	first := r.pushRelease("1.0.0")
	old, _ := r.document(client, "")
	second := r.pushRelease("1.1.0")
	document, spki := r.document(client, "")
	checkBinding(t, document, spki, second)

	r.pushed(&evidence.Push{Release: old.Release, Checkpoint: old.Challenge.Checkpoint})
	document, spki = r.document(client, "")
	checkBinding(t, document, spki, first)

	r.pushRelease("1.1.0")
	document, spki = r.document(client, "")
	checkBinding(t, document, spki, second)
}

// What a push leaves out stays.
func TestPushedInParts(t *testing.T) {
	r := start(t, nil)
	registers, err := r.guest.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release := sampleRelease("1.0.0", registers)
	file, leaf := transparent(t, release)
	rebuild, _ := transparent(t, sampleRebuild(t, release))
	channel, _ := transparent(t, sampleChannel(t, release, 1))
	newerChannel, _ := transparent(t, sampleChannel(t, release, 2))
	checkpoint := string(checkpointOf(t, leaf, ""))
	r.pushed(&evidence.Push{Checkpoint: checkpoint})
	r.refused(r.client(), evidence.Path, http.StatusServiceUnavailable, "node/no-statement")
	r.pushed(&evidence.Push{Channel: channel})
	r.pushed(&evidence.Push{Rebuilds: []json.RawMessage{rebuild}})
	r.pushed(&evidence.Push{Release: file})
	r.pushed(&evidence.Push{Endorsements: []evidence.Endorsement{{Type: "crl", Data: []byte("crl")}, {Type: "vcek", Data: []byte("another")}}})
	r.pushed(&evidence.Push{Channel: newerChannel})
	document, spki := r.document(r.client(), "")
	checkBinding(t, document, spki, statement.LeafHash(leaf))
	if !bytes.Equal(document.Channel, newerChannel) || len(document.Rebuilds) != 1 || !bytes.Equal(document.Rebuilds[0], rebuild) || document.Challenge.Checkpoint != checkpoint {
		t.Error("the document is not made of the last of each part")
	}
	if string(document.Endorsement("crl")) != "crl" {
		t.Error("a pushed endorsement is missing")
	}
	if !bytes.Equal(document.Endorsement("vcek"), chip().Endorsements()["vcek"]) {
		t.Error("a pushed endorsement took the place of the machine's own")
	}
}

func TestOtherRelease(t *testing.T) {
	r := start(t, nil)
	client := r.client()
	own, err := r.guest.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*statement.Release)
		wants  string // at the end of the refusal; empty if the release is the node's
		hidden bool   // also from who brings a nonce
	}{
		"its own": {func(*statement.Release) {}, "", false},
		"another launch digest": {func(r *statement.Release) {
			r.Measurements[0].Registers["launchDigest"] = statement.Register{OneOf: []string{strings.Repeat("ab", 48)}}
		}, "launchDigest", false},
		"two registers": {func(r *statement.Release) {
			r.Measurements[0].Registers["vmpl"] = statement.Register{OneOf: []string{"00000003"}}
			r.Measurements[0].Registers["hostData"] = statement.Register{OneOf: []string{strings.Repeat("01", 32)}}
		}, "vmpl, hostData", false},
		"one of several": {func(r *statement.Release) {
			r.Measurements[0].Registers["launchDigest"] = statement.Register{OneOf: []string{strings.Repeat("ab", 48), own["launchDigest"]}}
		}, "", false},
		"left open": {func(r *statement.Release) {
			r.Measurements[0].Registers["idKeyDigest"] = statement.Register{Any: "whoever starts the machine chooses it"}
		}, "", false},
		"the second shape": {func(r *statement.Release) {
			other := statement.Measurement{Platform: PlatformSNP, Shape: "two", Registers: map[string]statement.Register{}}
			for name, register := range r.Measurements[0].Registers {
				other.Registers[name] = register
			}
			other.Registers["launchDigest"] = statement.Register{OneOf: []string{strings.Repeat("ab", 48)}}
			r.Measurements = []statement.Measurement{other, r.Measurements[0]}
		}, "", false},
		"registers of two shapes": {func(r *statement.Release) {
			other := statement.Measurement{Platform: PlatformSNP, Shape: "two", Registers: map[string]statement.Register{}}
			for name, register := range r.Measurements[0].Registers {
				other.Registers[name] = register
			}
			other.Registers["launchDigest"] = statement.Register{OneOf: []string{strings.Repeat("ab", 48)}}
			r.Measurements[0].Registers["vmpl"] = statement.Register{OneOf: []string{"00000003"}}
			r.Measurements = append(r.Measurements, other)
		}, "vmpl", false},
		"another platform": {func(r *statement.Release) {
			tpm := statement.Measurement{Platform: PlatformTPM, Shape: "one", Registers: map[string]statement.Register{}}
			for _, name := range statement.MandatoryRegisters(PlatformTPM) {
				tpm.Registers[name] = statement.Register{Any: "for the test"}
			}
			r.Measurements = []statement.Measurement{tpm}
		}, "no measurement for sev-snp", true},
	} {
		t.Run(name, func(t *testing.T) {
			release := sampleRelease("1.0.0", own)
			predicate, _ := release.Release()
			test.change(predicate)
			file, leaf := transparent(t, release)
			r.pushed(&evidence.Push{Release: file, Checkpoint: string(checkpointOf(t, leaf, ""))})
			hash := statement.LeafHash(leaf)
			if test.wants != "" {
				detail := r.refused(client, evidence.Path, http.StatusServiceUnavailable, "node/no-statement")
				if !strings.HasSuffix(detail, test.wants) {
					t.Errorf("the refusal %q does not name %q", detail, test.wants)
				}
			} else {
				document, spki := r.document(client, "")
				checkBinding(t, document, spki, hash)
			}
			// The client is to see for itself what does not fit.
			if test.hidden {
				r.refused(client, evidence.Path+nonceQuery(sampleNonce(1)), http.StatusServiceUnavailable, "node/no-statement")
			} else {
				document, spki := r.document(client, nonceQuery(sampleNonce(1)))
				checkBinding(t, document, spki, hash)
			}
		})
	}
}

// The console names what does not fit, once for each release, and again if it
// is another register.
func TestOtherReleaseIsLogged(t *testing.T) {
	r := start(t, nil)
	own, err := r.guest.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pushWithout := func(version string, names ...string) {
		release := sampleRelease(version, own)
		predicate, _ := release.Release()
		for _, name := range names {
			predicate.Measurements[0].Registers[name] = statement.Register{OneOf: []string{strings.Repeat("ab", len(own[name])/2)}}
		}
		file, _ := transparent(t, release)
		r.pushed(&evidence.Push{Release: file})
	}
	count := func(registers string) int { return strings.Count(r.logged.String(), "registers="+registers+"\n") }
	for range 3 {
		pushWithout("1.0.0", "vmpl")
	}
	if n := count("vmpl"); n != 1 {
		t.Errorf("the register is named %d times for one release", n)
	}
	pushWithout("1.0.1", "vmpl", "hostData")
	pushWithout("1.0.0", "vmpl")
	if one, two := count("vmpl"), count(`"vmpl, hostData"`); one != 2 || two != 1 {
		t.Errorf("after another release: %d and %d", one, two)
	}
	pushWithout("1.0.2")
	if strings.Contains(r.logged.String(), "1.0.2") {
		t.Error("a release that fits is warned of")
	}
}

// However much is pushed, one after another, a document can be made of it.
func TestPushesAddUp(t *testing.T) {
	r := start(t, nil)
	registers, err := r.guest.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release := sampleRelease("1.0.0", registers)
	file, leaf := transparent(t, release)
	rebuild, _ := transparent(t, sampleRebuild(t, release))
	// White space between members is the cheapest way to make them big.
	padded := "{" + strings.Repeat(" ", 24<<10) + string(rebuild[1:])
	rebuilds := strings.Repeat(padded+",", evidence.MaxRebuilds-1) + padded
	r.pushed(&evidence.Push{Release: file, Checkpoint: string(checkpointOf(t, leaf, ""))})
	response, answer := r.post(strings.NewReader(`{"format":"` + evidence.PushFormat + `","rebuilds":[` + rebuilds + `]}`))
	if response.StatusCode != http.StatusNoContent {
		t.Fatalf("push: %s: %s", response.Status, answer)
	}
	client := r.client()
	if document, _ := r.document(client, ""); len(document.Rebuilds) != evidence.MaxRebuilds {
		t.Errorf("%d rebuilds of %d", len(document.Rebuilds), evidence.MaxRebuilds)
	}
	r.pushed(&evidence.Push{Endorsements: []evidence.Endorsement{{Type: "crl", Data: make([]byte, 600<<10)}}})
	document, spki := r.document(client, "")
	checkBinding(t, document, spki, statement.LeafHash(leaf))
	if len(document.Endorsement("crl")) != 600<<10 || document.Rebuilds != nil {
		t.Error("the newest part is missing, or the sum of all is above one push")
	}
}

// Whoever pushes slowly is cut off, and keeps nobody else waiting until then.
func TestSlowPush(t *testing.T) {
	const bound = 500 * time.Millisecond
	r := start(t, nil, withNode(func(n *Node) { n.pushTimeout = bound }))
	var dialled, slow sync.WaitGroup
	for range maxPushConnections - 1 {
		dialled.Add(1)
		slow.Go(func() {
			c, err := net.Dial("tcp", r.push)
			if err != nil {
				t.Error(err)
				dialled.Done()
				return
			}
			defer c.Close()
			fmt.Fprintf(c, "POST /push HTTP/1.1\r\nHost: node\r\nContent-Length: 1000\r\n\r\n{")
			dialled.Done()
			if err := c.SetReadDeadline(time.Now().Add(20 * bound)); err != nil {
				t.Error(err)
				return
			}
			answer, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("a push that does not come is still waited for: %q, %v", answer, err)
			}
		})
	}
	dialled.Wait()
	began := time.Now()
	r.pushRelease("1.0.0")
	if took := time.Since(began); took > bound {
		t.Errorf("behind slow ones, a push took %v", took)
	}
	slow.Wait()
}

// Pushes, clients and changes of the key at once; the race detector watches,
// and each document must fit together.
func TestConcurrency(t *testing.T) {
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }),
		withConfig(func(c *Config) { c.KeyLifetime = time.Second }))
	hashes := map[string][32]byte{}
	type version struct {
		file json.RawMessage
		note string
	}
	var versions []version
	registers, err := r.guest.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		file, leaf := transparent(t, sampleRelease(fmt.Sprintf("1.%d.0", i), registers))
		hashes[string(file)] = statement.LeafHash(leaf)
		versions = append(versions, version{file, string(checkpointOf(t, leaf, fmt.Sprint(i)))})
	}
	r.pushed(&evidence.Push{Release: versions[0].file, Checkpoint: versions[0].note})
	end := time.Now().Add(2 * time.Second)
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			for n := i; time.Now().Before(end); n++ {
				v := versions[n%len(versions)]
				body, err := (&evidence.Push{Release: v.file, Checkpoint: v.note}).Marshal()
				if err != nil {
					t.Error(err)
					return
				}
				response, err := http.Post("http://"+r.push+"/push", "application/json", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				response.Body.Close()
				if response.StatusCode != http.StatusNoContent {
					t.Errorf("push: %s", response.Status)
				}
			}
		})
	}
	for i := range 4 {
		all.Go(func() {
			client := r.client()
			for n := 0; time.Now().Before(end); n++ {
				query := ""
				if n%2 == 0 {
					query = nonceQuery(sampleNonce(byte(i*64 + n%64)))
				}
				response, err := client.Get("https://" + r.public + evidence.Path + query)
				if err != nil {
					continue // the connection's key came to its end
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil {
					continue
				}
				document, err := evidence.ParseDocument(body)
				if err != nil {
					t.Errorf("%s: %v", response.Status, err)
					return
				}
				checkBinding(t, document, response.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo, hashes[string(document.Release)])
				echo, err := client.Post("https://"+r.public+"/echo", "text/plain", strings.NewReader(query))
				if err != nil {
					continue
				}
				back, err := io.ReadAll(echo.Body)
				echo.Body.Close()
				if err == nil && string(back) != query {
					t.Errorf("echo: %q, want %q", back, query)
				}
			}
		})
	}
	all.Wait()
}

func FuzzReadPush(f *testing.F) {
	release := sampleRelease("1.0.0", map[string]string{
		"launchDigest": strings.Repeat("00", 48), "guestPolicy": strings.Repeat("00", 8), "vmpl": strings.Repeat("00", 4),
		"hostData": strings.Repeat("00", 32), "idKeyDigest": strings.Repeat("00", 48),
	})
	file, leaf := transparent(f, release)
	rebuild, _ := transparent(f, sampleRebuild(f, release))
	channel, _ := transparent(f, sampleChannel(f, release, 1))
	for _, push := range []*evidence.Push{
		{Release: file},
		{Checkpoint: string(checkpointOf(f, leaf, ""))},
		{Release: file, Rebuilds: []json.RawMessage{rebuild}, Channel: channel, Endorsements: []evidence.Endorsement{{Type: "vcek", Data: []byte{1}}}},
	} {
		body, err := push.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		push, signed, err := readPush(body)
		if err != nil {
			return
		}
		if (push.Release != nil) != (signed != nil) {
			t.Error("a release was pushed and not read")
		}
		next := (&state{}).with(push, nil)
		if size := next.size(); size > evidence.MaxPushBytes {
			t.Errorf("a push of %d bytes takes up %d", len(body), size)
		}
	})
}
