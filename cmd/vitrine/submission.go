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
	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// What publish leaves beside its input.
const (
	leafSuffix        = ".bundle.json"
	transparentSuffix = ".transparent.json"
)

// submission is a payload on its way into a log.
type submission struct {
	base    string // of the files that publish leaves
	payload []byte
	addenda []opener
	again   string   // the command that gets a missing receipt
	made    []string // files that go if the log refuses
}

// opener opens what is stored beside the log.
type opener func(context.Context) (io.ReadSeekCloser, error)

func openFile(path string) opener {
	return func(context.Context) (io.ReadSeekCloser, error) {
		f, err := os.Open(path)
		return f, noSuch(err)
	}
}

func openBytes(b []byte) opener {
	return func(context.Context) (io.ReadSeekCloser, error) { return nopSeekCloser{bytes.NewReader(b)}, nil }
}

// submission reads what publish was given: a folder of an image, or a payload.
func (e *environment) submission(ctx context.Context, path string, recipe *recipeFlags) (*submission, error) {
	if path == stdin {
		return nil, errors.New("publish keeps the signed bytes beside its input; give it a file or a folder")
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, noSuch(err)
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
		return &submission{base: strings.TrimSuffix(path, filepath.Ext(path)), payload: payload, again: "the same command again"}, nil
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
	s := &submission{base: filepath.Join(path, "release"), payload: payload, again: "the same command again"}
	s.addenda = append(s.addenda, openBytes(in.Recipe), openBytes(in.Lock), openFile(image.Path(builder.ManifestName)))
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
	Index       *int64        `json:"index,omitempty"` // of the entry, unless the log refused
	Identity    string        `json:"identity"`
	Receipt     bool          `json:"receipt"`
	Transparent string        `json:"transparent,omitempty"` // file
	Cosigned    []cosignature `json:"cosigned,omitempty"`
	Code        log.Code      `json:"code,omitempty"` // why there is no receipt
	Detail      string        `json:"detail,omitempty"`
}

type cosignature struct {
	Witness string `json:"witness"`
	Time    string `json:"time"`
}

// publish signs the payload with the key in a file, unless the signed bytes are
// there, sends them, and keeps the transparent statement.
func (s *submission) publish(c *cobra.Command, client *log.Client, key string, asJSON bool) error {
	signed, err := s.sign(key)
	if err != nil {
		return err
	}
	answer, err := s.send(c.Context(), client, signed)
	if err != nil {
		return err
	}
	return answer.print(c, s.again, asJSON)
}

func (s *submission) send(ctx context.Context, client *log.Client, signed *statement.Signed) (*published, error) {
	answer := &published{Identity: signed.ID.String()}
	t, index, err := s.add(ctx, client, signed.Leaf)
	var no *log.Error
	if errors.As(err, &no) && no.Code != log.Unavailable {
		answer.Code, answer.Detail = no.Code, no.Detail
		if no.Code == log.NoReceipt {
			answer.Index = &no.Index
			return answer, nil
		}
		// What was refused was not said: mend it, and say it for the first time.
		for _, path := range s.made {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
		return answer, nil
	}
	if err != nil {
		return nil, err
	}
	answer.Index, answer.Receipt, answer.Transparent = &index, true, s.base+transparentSuffix
	if err := writeTransparent(answer.Transparent, t); err != nil {
		return nil, err
	}
	best, err := client.Policy().VerifyTransparent(t, timeNow())
	if err != nil {
		return nil, err
	}
	for _, w := range best.Newest.Cosignatures {
		answer.Cosigned = append(answer.Cosigned, cosignature{w.Witness, w.Time.Format(timeLayout)})
	}
	return answer, nil
}

// add stores what the statement names by digest, and then the statement.
func (s *submission) add(ctx context.Context, client *log.Client, leaf []byte) (*receipt.Transparent, int64, error) {
	for _, open := range s.addenda {
		if err := store(ctx, client, open); err != nil {
			return nil, 0, err
		}
	}
	return client.Add(ctx, leaf)
}

func (a *published) print(c *cobra.Command, again string, asJSON bool) error {
	if asJSON {
		if err := printJSON(c.OutOrStdout(), a); err != nil {
			return err
		}
	}
	p := colours(c.OutOrStdout())
	switch {
	case a.Receipt:
		say(c, asJSON, "%s✓%s entry %d of the log, cosigned by %d witnesses", p.good, p.reset, *a.Index, len(a.Cosigned))
		say(c, asJSON, "  %s", a.Transparent)
		return nil
	case a.Index != nil:
		say(c, asJSON, "%s✗%s no receipt: %s", p.bad, p.reset, a.Detail)
		say(c, asJSON, "  For its receipt: %s", again)
	default:
		say(c, asJSON, "%s✗%s the log refused: %s: %s", p.bad, p.reset, a.Code, a.Detail)
	}
	return errNo
}

// sign gives the signed bytes that stand beside the input, or makes them. What
// was once sent is sent again: a second signature would be a second leaf.
func (s *submission) sign(key string) (*statement.Signed, error) {
	var signer crypto.Signer
	var err error
	if key != "" {
		if signer, err = readPrivateKey(key); err != nil {
			return nil, err
		}
	}
	path := s.base + leafSuffix
	leaf, err := readFile(path, statement.MaxLeafBytes)
	if err == nil {
		return s.signed(path, leaf, key, signer)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if signer == nil {
		return nil, errors.New("a statement is signed; name the key with --key")
	}
	if leaf, err = statement.Sign(s.payload, signer); err != nil {
		return nil, err
	}
	if err := writeNew(newFile{path, leaf, 0o644}); err != nil {
		return nil, err
	}
	s.made = append(s.made, path)
	return statement.Parse(leaf)
}

// signed reads the signed bytes of an earlier call, which have to be about this
// payload and by this key, if one was named.
func (s *submission) signed(path string, leaf []byte, key string, signer crypto.Signer) (*statement.Signed, error) {
	signed, err := statement.Parse(leaf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !bytes.Equal(signed.Payload, s.payload) {
		return nil, fmt.Errorf("%s holds another statement than the one to publish; a version is said once: give the release a new version, or move the file away if it was never sent", path)
	}
	if signer == nil {
		return signed, nil
	}
	public, err := statement.NewPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if _, err := signed.VerifyAny([]*statement.PublicKey{public}); err != nil {
		return nil, fmt.Errorf("%s is not signed with %s; leave --key out to send it as it is, or move it away if it was never sent", path, key)
	}
	return signed, nil
}

func store(ctx context.Context, client *log.Client, open opener) error {
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
