//go:build linux

package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// attackFork shows the client a second history of the log: the same origin and
// the same real key, the same first entry, the same size, another root, cosigned
// by one witness that plays along. The log's folder and that witness's memory
// were copied before the third step ended, so both are the real programs.
func (s *story) attackFork(ctx context.Context, a *attack) error {
	size, err := s.logSize(ctx)
	if err != nil {
		return err
	}
	// The client has to have seen the honest tree of this size.
	if _, err := s.expect(ctx, "the honest history", "", "policy.yaml"); err != nil {
		return err
	}
	logKey, err := s.read("log.vkey")
	if err != nil {
		return err
	}
	witness, err := s.start(ctx, "fork-witness", true, "witness", "serve", "--dir", "fork-witness", "--key", "witness-1.key", "--log", logKey, "--listen", "127.0.0.1:0", "--json")
	if err != nil {
		return err
	}
	defer witness.stop()
	if err := s.write("fork.policy", fmt.Sprintf("log %s\nwitness w1 %s %s\nquorum w1\n", logKey, witness.hello["key"], witness.hello["url"])); err != nil {
		return err
	}
	fork, err := s.startLog(ctx, "fork-log", "fork.policy")
	if err != nil {
		return err
	}
	defer fork.stop()
	client, err := s.forkClient(fork.hello["url"])
	if err != nil {
		return err
	}
	t, err := s.transparent()
	if err != nil {
		return err
	}
	if err := s.fillFork(ctx, client, t.Leaf, size); err != nil {
		return err
	}
	checkpoint, err := client.Checkpoint(ctx)
	if err != nil {
		return err
	}
	if checkpoint.Size != size {
		return fmt.Errorf("the fork has size %d and not %d", checkpoint.Size, size)
	}
	proof, _, err := client.ReceiptAt(ctx, checkpoint, s.index, t.Leaf)
	if err != nil {
		return err
	}
	t.Receipts = []string{string(proof)}
	if err := s.pushRelease(ctx, s.node, t); err != nil {
		return err
	}
	if err := s.refused(ctx, a, s.node.url, "policy.yaml"); err != nil {
		return err
	}
	return s.forkEvidence()
}

// copyForFork copies the log and one witness as they are after the first entry.
// Both run meanwhile, and a file that is replaced may vanish under the copy.
func (s *story) copyForFork() (err error) {
	for range 5 {
		for from, to := range map[string]string{"log": "fork-log", "witness-1": "fork-witness"} {
			if err = errors.Join(os.RemoveAll(s.path(to)), os.CopyFS(s.path(to), os.DirFS(s.path(from)))); err != nil {
				break
			}
		}
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("copying the log for the fork: %w", err)
}

func (s *story) logSize(ctx context.Context) (int64, error) {
	text, err := s.tlogPolicy("all")
	if err != nil {
		return 0, err
	}
	policy, err := receipt.ParsePolicy(text, false)
	if err != nil {
		return 0, err
	}
	checkpoint, err := log.NewClient(s.log.hello["url"], policy, nil).Checkpoint(ctx)
	if err != nil {
		return 0, err
	}
	return checkpoint.Size, nil
}

func (s *story) forkClient(url string) (*log.Client, error) {
	text, err := readText(s.path("fork.policy"))
	if err != nil {
		return nil, err
	}
	policy, err := receipt.ParsePolicy(text, false)
	if err != nil {
		return nil, err
	}
	return log.NewClient(url, policy, nil), nil
}

// fillFork adds other entries until the fork is as large as the honest log.
func (s *story) fillFork(ctx context.Context, client *log.Client, leaf []byte, size int64) error {
	pem, err := s.read("publisher.key")
	if err != nil {
		return err
	}
	key, err := statement.ParsePrivateKeyPEM([]byte(pem))
	if err != nil {
		return err
	}
	checkpoint, err := client.Checkpoint(ctx)
	if err != nil {
		return err
	}
	for n := checkpoint.Size; n < size; n++ {
		signed, err := statement.Parse(leaf)
		if err != nil {
			return err
		}
		release, _ := signed.Release()
		release.Version = fmt.Sprintf("0.0.%d", n)
		payload, err := signed.Statement.Payload()
		if err != nil {
			return err
		}
		other, err := statement.Sign(payload, key)
		if err != nil {
			return err
		}
		if _, _, err := client.Add(ctx, other); err != nil {
			return fmt.Errorf("filling the fork: %w", err)
		}
	}
	// The last receipt's checkpoint is the newest.
	for range 40 {
		if checkpoint, err = client.Checkpoint(ctx); err == nil && checkpoint.Size >= size {
			return nil
		}
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the fork did not grow")
}

// forkEvidence shows that the client kept both signed checkpoints.
func (s *story) forkEvidence() error {
	var kept []string
	err := filepath.WalkDir(s.path("seen", "forks"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(s.dir, path)
			kept = append(kept, rel)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the client kept no evidence of the fork: %w", err)
	}
	if len(kept) == 0 {
		return errors.New("the client kept no evidence of the fork")
	}
	s.say("     both signed checkpoints are kept: %s", strings.Join(kept, ", "))
	b, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	s.saw["forkEvidence"] = json.RawMessage(b)
	return nil
}
