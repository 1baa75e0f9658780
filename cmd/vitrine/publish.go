package main

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/builder"
	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/durable"
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// What publish leaves beside its input.
const (
	leafSuffix        = ".bundle.json"
	transparentSuffix = ".transparent.json"
)

// logFlags name a log and how much of it is believed.
type logFlags struct {
	policy *string
	url    *string
}

func addLogFlags(c *cobra.Command) logFlags {
	f := logFlags{
		policy: c.Flags().String("log-policy", "", "tlog-policy `FILE` with the log and its witnesses"),
		url:    c.Flags().String("log", "", "`URL` of the log (default: the one in the tlog-policy)"),
	}
	require(c, "log-policy")
	return f
}

func (f logFlags) client() (*log.Client, error) {
	p, err := readTlogPolicy(*f.policy)
	if err != nil {
		return nil, err
	}
	return logClient(p, *f.url)
}

func logClient(p *receipt.Policy, url string) (*log.Client, error) {
	if url == "" {
		url = p.LogURL()
	}
	if url == "" {
		return nil, fmt.Errorf("the tlog-policy has no URL for the log %s; name one with --log", p.Origin())
	}
	return log.NewClient(url, p, nil), nil
}

func newPublish() *cobra.Command {
	c := &cobra.Command{
		Use:   "publish IMAGE",
		Short: "Sign a release and put it into a log",
		Long: `Predict the registers of the image in the folder IMAGE (made by vitrine build)
from its artefacts, sign the release statement, and put it into the log, with
recipe, lock and local inputs beside it. IMAGE may also be a file with a
statement's payload, as --dry-run prints it.

The signed bytes stay beside IMAGE before they are sent, and a later call sends
the same ones: when the log has the entry but no quorum of witnesses answered,
call again, and the same entry gets its receipt.`,
		Example: `  vitrine publish image --recipe testdata/recipes/hello-inference \
    --key publisher.key --log-policy tlog.policy`,
		Args: cobra.ExactArgs(1),
	}
	recipe := addRecipeFlags(c)
	key := c.Flags().String("key", "", "publisher's key `FILE`")
	dryRun := c.Flags().Bool("dry-run", false, "print the statement's payload and do nothing")
	addenda := c.Flags().StringArray("addendum", nil, "`FILE` to store beside the log as well; may be repeated")
	flags := addBuildFlags(c)
	l := addLogFlags(c)
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := flags.environment(c.Context())
		if err != nil {
			return err
		}
		s, err := e.submission(c.Context(), args[0], recipe)
		if err != nil {
			return err
		}
		if *dryRun {
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", s.payload)
			return err
		}
		if *key == "" {
			return errors.New("a release is signed; name the publisher's key with --key")
		}
		signer, err := readPrivateKey(*key)
		if err != nil {
			return err
		}
		client, err := l.client()
		if err != nil {
			return err
		}
		for _, path := range *addenda {
			s.addenda = append(s.addenda, func(context.Context) (io.ReadSeekCloser, error) { return os.Open(path) })
		}
		return s.publish(c, client, signer, *asJSON)
	}
	return c
}

// submission is a payload on its way into a log.
type submission struct {
	base    string // of the files that publish leaves
	payload []byte
	addenda []func(context.Context) (io.ReadSeekCloser, error)
}

// submission reads what publish was given: a folder of an image, or a payload.
func (e *environment) submission(ctx context.Context, path string, recipe *recipeFlags) (*submission, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		payload, err := readFile(path, statement.MaxPayloadBytes+1)
		if err != nil {
			return nil, err
		}
		payload = bytes.TrimSuffix(payload, []byte("\n"))
		if _, err := statement.ParsePayload(payload); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return &submission{base: strings.TrimSuffix(path, filepath.Ext(path)), payload: payload}, nil
	}
	in, err := e.inputs(recipe)
	if err != nil {
		return nil, err
	}
	image, err := builder.OpenOutput(path)
	if err != nil {
		return nil, err
	}
	measurements, err := image.Measurements(ctx, in, e.cache)
	if err != nil {
		return nil, err
	}
	release, err := builder.ReleaseStatement(image, in, builder.Version, measurements)
	if err != nil {
		return nil, err
	}
	payload, err := release.Payload()
	if err != nil {
		return nil, err
	}
	s := &submission{base: filepath.Join(path, "release"), payload: payload}
	for _, b := range [][]byte{in.Recipe, in.Lock} {
		s.addenda = append(s.addenda, func(context.Context) (io.ReadSeekCloser, error) { return nopSeekCloser{bytes.NewReader(b)}, nil })
	}
	s.addenda = append(s.addenda, func(context.Context) (io.ReadSeekCloser, error) { return os.Open(image.Path(builder.ManifestName)) })
	lock, err := builder.ParseLock(recipe.lockPath(), in.Lock)
	if err != nil {
		return nil, err
	}
	for _, local := range lock.Local() {
		s.addenda = append(s.addenda, func(ctx context.Context) (io.ReadSeekCloser, error) {
			path, err := e.cache.Get(ctx, local, in.Fetchers)
			if err != nil {
				return nil, err
			}
			return os.Open(path)
		})
	}
	return s, nil
}

type nopSeekCloser struct{ io.ReadSeeker }

func (nopSeekCloser) Close() error { return nil }

// published is what publish answers.
type published struct {
	Index       int64         `json:"index"`
	Identity    string        `json:"identity"`
	Receipt     bool          `json:"receipt"`
	Transparent string        `json:"transparent,omitempty"` // file
	Cosigned    []cosignature `json:"cosigned,omitempty"`
	Detail      string        `json:"detail,omitempty"`
}

type cosignature struct {
	Witness string `json:"witness"`
	Time    string `json:"time"`
}

func (s *submission) publish(c *cobra.Command, client *log.Client, signer crypto.Signer, asJSON bool) error {
	ctx := c.Context()
	leaf, err := s.sign(signer)
	if err != nil {
		return err
	}
	for _, open := range s.addenda {
		if err := store(ctx, client, open); err != nil {
			return err
		}
	}
	signed, err := statement.Parse(leaf)
	if err != nil {
		return err
	}
	answer := published{Identity: signed.ID.String()}
	t, index, err := client.Add(ctx, leaf)
	var refusal *log.Error
	switch {
	case errors.As(err, &refusal) && refusal.Code == log.NoReceipt:
		answer.Index, answer.Detail = refusal.Index, refusal.Detail
	case err != nil:
		return err
	default:
		answer.Index, answer.Receipt, answer.Transparent = index, true, s.base+transparentSuffix
		if err := writeTransparent(answer.Transparent, t); err != nil {
			return err
		}
		best, err := client.Policy().VerifyTransparent(t, timeNow())
		if err != nil {
			return err
		}
		for _, w := range best.Newest.Cosignatures {
			answer.Cosigned = append(answer.Cosigned, cosignature{w.Witness, w.Time.Format(timeLayout)})
		}
	}
	return answer.print(c, asJSON)
}

func (a published) print(c *cobra.Command, asJSON bool) error {
	if asJSON {
		if err := printJSON(c.OutOrStdout(), a); err != nil {
			return err
		}
	} else if a.Receipt {
		p := colours(c.OutOrStdout())
		say(c, false, "%s✓%s entry %d of the log, cosigned by %d witnesses", p.good, p.reset, a.Index, len(a.Cosigned))
		say(c, false, "  %s", a.Transparent)
	} else {
		p := colours(c.OutOrStdout())
		say(c, false, "%s✗%s entry %d of the log, without a receipt: %s", p.bad, p.reset, a.Index, a.Detail)
		say(c, false, "  The entry is in. Call the same command again for its receipt.")
	}
	if !a.Receipt {
		return errNo
	}
	return nil
}

// sign gives the signed bytes that stand beside the input, or makes them. What
// was once sent is sent again: a second signature would be a second leaf.
func (s *submission) sign(signer crypto.Signer) ([]byte, error) {
	path := s.base + leafSuffix
	leaf, err := readFile(path, statement.MaxLeafBytes)
	if err == nil {
		signed, err := statement.Parse(leaf)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if !bytes.Equal(signed.Payload, s.payload) {
			return nil, fmt.Errorf("%s holds another statement than the one to publish; a version is said once: give the release a new version, or move the file away if it was never sent", path)
		}
		return leaf, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if leaf, err = statement.Sign(s.payload, signer); err != nil {
		return nil, err
	}
	return leaf, writeNew(path, leaf, 0o644)
}

func store(ctx context.Context, client *log.Client, open func(context.Context) (io.ReadSeekCloser, error)) error {
	f, err := open(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = client.PutAddendum(ctx, f)
	return err
}

// writeTransparent writes a transparent statement, with the receipts that the
// file already has: the oldest gives seniority.
func writeTransparent(path string, t *receipt.Transparent) error {
	if b, err := readFile(path, receipt.MaxTransparentBytes); err == nil {
		if old, err := receipt.ParseTransparent(b); err == nil && bytes.Equal(old.Leaf, t.Leaf) {
			for _, r := range t.Receipts {
				if err := old.Add(r); err != nil {
					return err
				}
			}
			t = old
		}
	}
	b, err := t.Marshal()
	if err != nil {
		return err
	}
	return replaceFile(path, b)
}

// replaceFile writes beside the file, syncs and renames.
func replaceFile(path string, data []byte) error { return durable.WriteFile(path, data, 0o644) }
