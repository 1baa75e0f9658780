package evidence_test

import (
	"fmt"

	"github.com/vitrine-dev/vitrine/node/evidence"
)

// What a client sends, and what the hardware must then have been given.
func Example() {
	nonce := [32]byte{31: 1} // from crypto/rand, of course
	fmt.Println(evidence.Path + "?" + evidence.NonceParameter + "=" + evidence.FormatNonce(nonce))

	h := evidence.UserData(evidence.UserDataInput{
		Platform:  evidence.TPM,
		Challenge: evidence.NonceChallenge(nonce),
		TLSKey:    []byte("the SubjectPublicKeyInfo seen on the connection"),
		LeafHash:  [32]byte{}, // of the release's leaf
	})
	fmt.Printf("a TPM quotes %x\n", evidence.QuoteData(h))
	// Output:
	// /.well-known/vitrine/evidence?nonce=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE
	// a TPM quotes 51fa04afb3b9cbb4e97178cd6a6cf876573bcdd5ea0c351098a415ee59046f9b
}
