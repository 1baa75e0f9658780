package verifier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vitrine-dev/vitrine/log/ijson"
	"github.com/vitrine-dev/vitrine/node/evidence"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

// RecordingFormat names the format of a recording's file.
const RecordingFormat = "https://vitrine.dev/recording/v1"

// MaxRecordingBytes bounds a recording: a document in base64, and little else.
const MaxRecordingBytes = evidence.MaxDocumentBytes/3*4 + 64<<10

// Recording is what a client got and saw when it asked a node for evidence, to
// be kept in a file. It is no evidence of when or from whom: whoever writes the
// file writes that too.
type Recording struct {
	URL      string    // of the node
	Time     time.Time // by the client's clock
	Nonce    *[32]byte // that it asked with, or nil
	SPKI     []byte    // DER, of the key that ended the connection
	Document []byte    // the evidence document's exact bytes
}

type recordingFile struct {
	Format   string    `json:"format"`
	URL      string    `json:"url"`
	Time     time.Time `json:"time"`
	Nonce    []byte    `json:"nonce,omitempty"`
	SPKI     []byte    `json:"spki"`
	Document []byte    `json:"document"`
}

// Marshal writes the recording in canonical JSON:
//
//	{"document":"<base64>","format":"https://vitrine.dev/recording/v1",
//	 "nonce":"<base64 of 32 bytes, absent without one>","spki":"<base64>",
//	 "time":"<RFC 3339, UTC>","url":"https://…"}
func (r *Recording) Marshal() ([]byte, error) {
	f := recordingFile{RecordingFormat, r.URL, r.Time.UTC().Truncate(time.Second), nil, r.SPKI, r.Document}
	if r.Nonce != nil {
		f.Nonce = r.Nonce[:]
	}
	b, err := ijson.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("writing a recording: %w", err)
	}
	if len(b) > MaxRecordingBytes {
		return nil, fmt.Errorf("writing a recording: %d bytes; the limit is %d", len(b), MaxRecordingBytes)
	}
	return b, nil
}

// ParseRecording reads a recording.
func ParseRecording(b []byte) (*Recording, error) {
	var f recordingFile
	if err := ijson.Unmarshal(b, &f, MaxRecordingBytes); err != nil {
		return nil, fmt.Errorf("reading a recording: %w; give a file that verify --save wrote", err)
	}
	if f.Format != RecordingFormat {
		return nil, fmt.Errorf("reading a recording: its format is %q, not %s", clip(f.Format), RecordingFormat)
	}
	r := &Recording{URL: f.URL, Time: f.Time, SPKI: f.SPKI, Document: f.Document}
	if f.Nonce != nil {
		if len(f.Nonce) != 32 {
			return nil, fmt.Errorf("reading a recording: the nonce has %d bytes; one has 32", len(f.Nonce))
		}
		n := [32]byte(f.Nonce)
		r.Nonce = &n
	}
	return r, nil
}

// Input is the recording as [Appraise] takes it.
func (r *Recording) Input() (Input, error) {
	d, err := evidence.ParseDocument(r.Document)
	if err != nil {
		return Input{}, documentRejection(err)
	}
	return Input{Document: d, Nonce: r.Nonce, SPKI: r.SPKI}, nil
}

// Replay gives the verdict that a recording would have got at an instant, by a
// policy of today. The verdict says that it is historical; what only the moment
// could show (that the nonce was this client's, that the connection ended with
// that key, the clock) is marked as recorded; and nothing is looked up in, or
// told to, opts.State. It opens no connection.
func Replay(ctx context.Context, r *Recording, at time.Time, opts Options) (*Verdict, error) {
	if at.IsZero() {
		return nil, errors.New("replaying a recording needs the time at which to judge it")
	}
	in, err := r.Input()
	if err != nil {
		return nil, err
	}
	opts.Now = func() time.Time { return at }
	opts.State = nil
	return appraise(ctx, in, opts, checks, true)
}

// documentRejection says in a code why a document was not read.
func documentRejection(err error) *hardware.Rejection {
	var f *evidence.FormatError
	if errors.As(err, &f) {
		switch {
		case f.Path == "/format":
			return hardware.Refuse("evidence/format", "%v", err)
		case f.Path == "/platform" || f.Path == "/report" || f.Path == "/quote":
			return hardware.Refuse("evidence/platform", "%v", err)
		}
	}
	return hardware.Refuse("evidence/malformed", "%v", err)
}
