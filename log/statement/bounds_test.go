package statement

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// longRelease is a release whose payload has about n bytes.
func longRelease(n int) *Statement {
	s := sampleRelease()
	r := s.Predicate.(*Release)
	for i := 0; n > 0; i++ {
		why := strings.Repeat("x", min(n, maxTextBytes))
		r.NotCovered = append(r.NotCovered, NotCovered{What: fmt.Sprintf("thing-%d", i), Why: why})
		n -= maxTextBytes
	}
	return s
}

func TestBounds(t *testing.T) {
	if _, err := longRelease(40 << 10).Payload(); err == nil {
		t.Error("a payload of 40 KiB is written")
	}
	s := longRelease(20 << 10)
	payload, err := s.Payload()
	if err != nil {
		t.Fatal(err)
	}
	// The largest payload fits into a leaf: fill up to the last byte.
	r := s.Predicate.(*Release)
	for len(payload) < MaxPayloadBytes {
		room := MaxPayloadBytes - len(payload)
		last := &r.NotCovered[len(r.NotCovered)-1]
		switch {
		case len(last.Why)+room <= maxTextBytes:
			last.Why += strings.Repeat("x", room)
		default:
			r.NotCovered = append(r.NotCovered, NotCovered{What: fmt.Sprintf("more-%d", len(r.NotCovered)), Why: strings.Repeat("x", min(300, max(1, room-200)))})
		}
		if payload, err = s.Payload(); err != nil {
			t.Fatal(err)
		}
	}
	leaf, err := Sign(payload, testKeyP256("publisher"))
	if err != nil {
		t.Fatalf("a payload of exactly %d bytes: %v", len(payload), err)
	}
	if len(leaf) > MaxLeafBytes {
		t.Errorf("the leaf of the largest payload has %d bytes", len(leaf))
	}
	if _, err := ParsePayload(append(payload, ' ')); err == nil || !strings.Contains(err.Error(), "32769 bytes; the limit is 32768") {
		t.Errorf("one byte more: %v", err)
	}
	if _, err := Parse(bytes.Repeat([]byte(" "), MaxLeafBytes+1)); err == nil || !strings.Contains(err.Error(), "65536 bytes; the limit is 65535") {
		t.Errorf("a leaf of one byte more: %v", err)
	}
}

// TestPayloadRefuses shows that what cannot be read is not written.
func TestPayloadRefuses(t *testing.T) {
	for name, change := range map[string]func(*Statement){
		"no predicate":         func(s *Statement) { s.Predicate = nil },
		"no subject":           func(s *Statement) { s.Subjects = nil },
		"bad digest":           func(s *Statement) { s.Subjects[0].Digest.SHA256 = "00" },
		"text that is no UTF8": func(s *Statement) { s.Predicate.(*Release).NotCovered[0].Why = "\xff" },
		"text of two lines":    func(s *Statement) { s.Predicate.(*Release).NotCovered[0].Why = "one\ntwo" },
		"long text":            func(s *Statement) { s.Predicate.(*Release).NotCovered[0].Why = strings.Repeat("x", 513) },
		"epoch beyond 2^53":    func(s *Statement) { s.Predicate.(*Release).SecurityEpoch = 1 << 53 },
		"no time":              func(s *Statement) { s.Predicate = &Withdrawal{Product: "p", Reason: "r"} },
		"time with a fraction": func(s *Statement) {
			s.Predicate = &Withdrawal{Product: "p", Reason: "r", Since: time.Unix(1, 1)}
		},
	} {
		s := sampleRelease()
		change(s)
		var format *FormatError
		if payload, err := s.Payload(); !errors.As(err, &format) {
			t.Errorf("%s: wrote %s, %v", name, payload, err)
		}
	}
	// Absent lists are written as empty ones.
	s := sampleRelease()
	r := s.Predicate.(*Release)
	r.Volumes, r.NotCovered = nil, nil
	payload, err := s.Payload()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(payload, []byte(`"notCovered":[]`)) || !bytes.Contains(payload, []byte(`"volumes":[]`)) {
		t.Errorf("%s", payload)
	}
}

// TestEveryMemberIsRequired removes each member of each sample in turn.
func TestEveryMemberIsRequired(t *testing.T) {
	for name := range samples(t) {
		payload := samplePayload(t, name)
		for _, pointer := range membersOf(t, payload) {
			changed := apply(t, payload, edit{pointer, absent})
			if _, err := ParsePayload(changed); err == nil {
				t.Errorf("%s: accepted without %s", name, pointer)
			}
		}
	}
}

func TestDeceptiveText(t *testing.T) {
	for _, s := range []string{"a\tb", "a\x7fb", "a\u0085b", "a\u200bb", "a\u202eb", "a\u2066b", "a\u2028b", "\ufeffa", "a\U000e0041b", "a\x00b"} {
		if checkText("", s) == nil {
			t.Errorf("%q is accepted as text", s)
		}
	}
	for _, s := range []string{"a b", "žluťoučký kůň", "模型", "👩‍🔬"} {
		err := checkText("", s)
		if zeroWidth := strings.ContainsRune(s, '\u200d'); (err != nil) != zeroWidth {
			t.Errorf("%q: %v", s, err)
		}
	}
}
