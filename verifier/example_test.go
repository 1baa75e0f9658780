package verifier_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/vitrine-dev/vitrine/policies"
	"github.com/vitrine-dev/vitrine/verifier"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

func readPolicy(name string) *policies.Policy {
	text, err := os.ReadFile(name)
	if err != nil {
		log.Fatal(err)
	}
	policy, err := policies.Parse(name, text)
	if err != nil {
		log.Fatal(err)
	}
	return policy
}

// A recording is appraised as of the time at which it was made.
func ExampleReplay() {
	file, err := os.ReadFile("testdata/recording.json")
	if err != nil {
		log.Fatal(err)
	}
	recording, err := verifier.ParseRecording(file)
	if err != nil {
		log.Fatal(err)
	}
	verdict, err := verifier.Replay(context.Background(), recording, recording.Time,
		verifier.Options{Policy: readPolicy("testdata/policy.yaml")})
	if err != nil {
		log.Fatal(err)
	}
	for _, check := range verdict.Checks[2:6] {
		fmt.Printf("%s: %s\n", check.Name, check.Result)
	}
	fmt.Println(verdict.Sentence())
	// Output:
	// challenge: not reached (recorded)
	// TLS key: not reached (recorded)
	// user data: pass
	// registers: pass
	// HISTORICAL, as of 2026-11-20T12:00:00Z: measured, not confidential: a simulated sev-snp machine says that it runs hello-inference 1.2.0; its maker can read everything
}

// An http.Client over the attested transport sends nothing into a machine that
// the policy does not accept.
func ExampleNewTransport() {
	state, err := verifier.OpenDir("/var/lib/client/vitrine")
	if err != nil {
		log.Fatal(err)
	}
	transport, err := verifier.NewTransport(verifier.TransportOptions{
		Options: verifier.Options{Policy: readPolicy("policy.yaml"), State: state},
		OnVerdict: func(address string, v *verifier.Verdict, err error) {
			if v != nil {
				log.Printf("%s: %s", address, v.Sentence())
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport}
	resp, err := client.Post("https://node.example/v1/chat/completions", "application/json", strings.NewReader(`{"messages":[]}`))
	var refusal *hardware.Rejection
	switch {
	case errors.As(err, &refusal):
		log.Fatalf("not sent, %s: %s", refusal.Code, refusal.Detail)
	case err != nil:
		log.Fatal(err)
	}
	defer resp.Body.Close()
}
