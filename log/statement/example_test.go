package statement_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// A release engineer says which release is current; a client, who has that
// engineer's key, reads it.
func Example() {
	seed := sha256.Sum256([]byte("not secret"))
	signer := ed25519.NewKeyFromSeed(seed[:])

	s := &statement.Statement{
		Subjects: []statement.Subject{{Name: "1.2.0", Digest: statement.DigestOf([]byte("the release's payload"))}},
		Predicate: &statement.Channel{
			Product: "hello-inference", Channel: "stable", Sequence: 12,
			IssuedAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
			NotAfter: time.Date(2026, 3, 8, 0, 0, 0, 0, time.UTC),
		},
	}
	payload, err := s.Payload()
	if err != nil {
		fmt.Println(err)
		return
	}
	leaf, err := statement.Sign(payload, signer)
	if err != nil {
		fmt.Println(err)
		return
	}

	signed, err := statement.Parse(leaf)
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := statement.NewPublicKey(signer.Public())
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := signed.VerifyAny([]*statement.PublicKey{key}); err != nil {
		fmt.Println(err)
		return
	}
	channel, _ := signed.Channel()
	fmt.Println(channel.Product, channel.Channel, channel.Sequence)
	// Output: hello-inference stable 12
}

// An error names the place and the mend.
func ExampleParsePayload() {
	_, err := statement.ParsePayload([]byte(`{"_type":"https://in-toto.io/Statement/v1","predicate":{"channel":"stable"},"predicateType":"https://vitrine.dev/predicate/channel/v1","subject":[]}`))
	var format *statement.FormatError
	if errors.As(err, &format) {
		fmt.Println(format.Path)
		fmt.Println(format.Detail)
	}
	// Output:
	// /predicate
	// member "product" is missing; it is required
}
