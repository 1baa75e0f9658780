package policies_test

import (
	"fmt"
	"io/fs"

	"github.com/vitrine-dev/vitrine/policies"
)

func Example() {
	text, err := fs.ReadFile(policies.Examples(), "starting.yaml")
	if err != nil {
		panic(err)
	}
	policy, err := policies.Parse("starting.yaml", text)
	if err != nil {
		panic(err)
	}
	for _, sentence := range policy.Explain()[:4] {
		fmt.Println(sentence)
	}

	_, err = policies.Parse("mine.yaml", []byte("vitrine: policy/v1\nnmae: mine\n"))
	fmt.Println(err)
	// Output:
	// The policy "starting example" accepts machines that run a release of the product hello-inference.
	// The machine may be an AMD SEV-SNP guest, on firmware of at least bootloader 4, TEE 0, SNP 22, microcode 213.
	// On sev-snp a release must name every register.
	// The release must be signed by release team.
	// mine.yaml:2: unknown key "nmae" in the policy: expected one of vitrine, name, product, logs, publishers, receipt, evidence, epoch, rebuilders, channel, withdrawers, machines, platforms and rules
}
