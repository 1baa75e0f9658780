package log_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http/httptest"
	"os"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// A log of one writer, which nobody witnesses, takes a channel statement; a
// client that knows only the policy reads it back.
func Example() {
	ctx := context.Background()
	if err := example(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// added at 0
	// 0: stable is 1.0.0 of hello
}

func example(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "log")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	// The log's key, and what readers trust.
	skey, vkey, err := note.GenerateKey(rand.Reader, "log.example")
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return err
	}
	policy, err := receipt.ParsePolicy("log "+vkey+"\nquorum none\n", true)
	if err != nil {
		return err
	}
	// The one who may write, and what.
	writer, err := statement.NewPrivateKey(rand.Reader)
	if err != nil {
		return err
	}
	public, err := statement.NewPublicKey(writer.Public())
	if err != nil {
		return err
	}
	admission, err := log.ParseAdmission("admission.yaml", fmt.Appendf(nil,
		"vitrine: admission/v1\nwriters:\n  - {name: release team, key: %q, roles: [channel], products: [hello]}\n", public.PEM()))
	if err != nil {
		return err
	}

	l, err := log.Open(ctx, log.Config{
		Dir: dir, Signer: signer, Policy: policy, Admission: admission,
		RepublishInterval: time.Hour, CheckpointInterval: 100 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	defer l.Close(ctx)
	srv := httptest.NewServer(l.Handler())
	defer srv.Close()
	client := log.NewClient(srv.URL, policy, nil)

	said := &statement.Statement{
		Subjects: []statement.Subject{{Name: "1.0.0", Digest: statement.DigestOf([]byte("a release"))}},
		Predicate: &statement.Channel{
			Product: "hello", Channel: "stable", Sequence: 1,
			IssuedAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 3, 8, 0, 0, 0, 0, time.UTC),
		},
	}
	signed, err := said.Sign(writer)
	if err != nil {
		return err
	}
	_, index, err := client.Add(ctx, signed.Leaf)
	if err != nil {
		return err
	}
	fmt.Println("added at", index)

	checkpoint, err := client.Checkpoint(ctx)
	if err != nil {
		return err
	}
	for entry, err := range client.Entries(ctx, checkpoint, 0) {
		if err != nil {
			return err
		}
		signed, err := statement.Parse(entry.Leaf)
		if err != nil {
			return err
		}
		if c, ok := signed.Statement.Channel(); ok {
			fmt.Printf("%d: %s is %s of %s\n", entry.Index, c.Channel, signed.Statement.Subjects[0].Name, c.Product)
		}
	}
	return nil
}
