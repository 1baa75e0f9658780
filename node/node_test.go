package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestNewRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change    func(*Config)
		wantError string
	}{
		"no attester":         {func(c *Config) { c.Attester = nil }, "attester"},
		"no logger":           {func(c *Config) { c.Logger = nil }, "logger"},
		"no upstream":         {func(c *Config) { c.Upstream = nil }, "no upstream"},
		"an upstream outside": {func(c *Config) { c.Upstream.Host = "192.0.2.1:80" }, "loopback"},
		"a key for two days":  {func(c *Config) { c.KeyLifetime = 48 * time.Hour }, "24h"},
		"a key for less than nothing": {func(c *Config) {
			c.KeyLifetime = -time.Second
		}, "may not live"},
		"a key for next to nothing":   {func(c *Config) { c.KeyLifetime = 1 }, "may not live"},
		"fewer connections than none": {func(c *Config) { c.MaxConnections = -1 }, "connections"},
		"a configuration in HOST_DATA": {func(c *Config) {
			c.Attester = &guest{hostData: [32]byte{31: 1}}
		}, "hostData"},
		"an attester that fails": {func(c *Config) { c.Attester = stub{err: errors.New("no such fuse")} }, "no such fuse"},
		"an unknown platform":    {func(c *Config) { c.Attester = stub{platform: "sgx"} }, `"sgx"`},
		"registers that lack one": {func(c *Config) {
			c.Attester = stub{platform: PlatformSNP, registers: without("vmpl")}
		}, "vmpl"},
		"a register too many": {func(c *Config) {
			c.Attester = stub{platform: PlatformSNP, registers: with("pcr0", strings.Repeat("00", 32))}
		}, "pcr0"},
		"a register too short": {func(c *Config) {
			c.Attester = stub{platform: PlatformSNP, registers: with("vmpl", "000000")}
		}, "vmpl"},
		"a register in upper case": {func(c *Config) {
			c.Attester = stub{platform: PlatformSNP, registers: with("vmpl", "0000000A")}
		}, "vmpl"},
	} {
		config := Config{
			Attester: &guest{},
			Upstream: &url.URL{Scheme: "http", Host: "127.0.0.1:8000"},
			Logger:   slog.New(slog.DiscardHandler),
		}
		if _, err := New(t.Context(), config); err != nil {
			t.Fatalf("without the change: %v", err)
		}
		test.change(&config)
		_, err := New(t.Context(), config)
		if err == nil || !strings.Contains(err.Error(), test.wantError) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.wantError)
		}
	}
}

// Each register in which a host can hand over a configuration is one that the
// platform has, and a value anywhere in it is seen.
func TestRefuseHostConfiguration(t *testing.T) {
	zero := func(string) string { return strings.Repeat("0", 64) }
	for platform, names := range hostConfiguration {
		registers := make(map[string]string)
		for _, name := range names {
			registers[name] = zero(name)
		}
		if err := refuseHostConfiguration(platform, registers); err != nil {
			t.Errorf("%s without a configuration: %v", platform, err)
		}
		for _, name := range names {
			for _, value := range []string{"1" + strings.Repeat("0", 63), strings.Repeat("0", 63) + "1"} {
				registers[name] = value
				if err := refuseHostConfiguration(platform, registers); err == nil || !strings.Contains(err.Error(), name) {
					t.Errorf("%s with a configuration in %s: error %v", platform, name, err)
				}
			}
			registers[name] = zero(name)
		}
	}
}

// An answer that streams when the node is stopped comes to its end.
func TestStopLetsAnswersEnd(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first ")
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-goOn
		_, _ = io.WriteString(w, "last")
	}))
	response, err := r.client().Get("https://" + r.public + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	<-begun
	r.stop()
	time.AfterFunc(100*time.Millisecond, func() { close(goOn) })
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "first last" {
		t.Errorf("the answer is %q, %v", body, err)
	}
}

func TestServeFailsWhenAListenerDoes(t *testing.T) {
	for _, broken := range []string{"public", "push"} {
		n, err := New(t.Context(), Config{
			Attester: &guest{},
			Upstream: &url.URL{Scheme: "http", Host: "127.0.0.1:8000"},
			Logger:   slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		public, push := listen(t), listen(t)
		if broken == "public" {
			public.Close()
		} else {
			push.Close()
		}
		if err := n.Serve(t.Context(), public, push); err == nil {
			t.Errorf("with a broken %s listener Serve ended well", broken)
		}
	}
}

// stub is an attester that says what it is told to.
type stub struct {
	platform  string
	registers map[string]string
	err       error
}

func (s stub) Platform() string { return s.platform }

func (s stub) Registers(context.Context) (map[string]string, error) { return s.registers, s.err }

func (s stub) Attest(context.Context, [64]byte) (*Attestation, error) {
	return nil, errors.New("a stub does not attest")
}

var snpZeros = map[string]string{
	"launchDigest": strings.Repeat("00", 48), "guestPolicy": strings.Repeat("00", 8), "vmpl": strings.Repeat("00", 4),
	"hostData": strings.Repeat("00", 32), "idKeyDigest": strings.Repeat("00", 48),
}

func with(name, value string) map[string]string {
	registers := maps.Clone(snpZeros)
	registers[name] = value
	return registers
}

func without(name string) map[string]string {
	registers := maps.Clone(snpZeros)
	delete(registers, name)
	return registers
}
