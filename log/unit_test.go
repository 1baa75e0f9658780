package log

import (
	"bytes"
	"encoding/json"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		size  int64
		level int
		n     int64
		w     int
		want  bool
	}{
		{0, 0, 0, 1, false},
		{1, 0, 0, 1, true},
		{1, -1, 0, 1, true},
		{1, -1, 0, 2, false},
		{256, 0, 0, 256, true},
		{255, 0, 0, 256, false},
		{256, 1, 0, 1, true},
		{255, 1, 0, 1, false},
		{257, -1, 1, 1, true},
		{65536, 1, 0, 256, true},
		{65536, 2, 0, 1, true},
		{65535, 2, 0, 1, false},
		{1 << 40, 0, 1 << 62, 1, false},
		{1 << 62, 63, 0, 1, false},
	} {
		if got := covers(c.size, c.level, c.n, c.w); got != c.want {
			t.Errorf("covers(%d, %d, %d, %d) = %v", c.size, c.level, c.n, c.w, got)
		}
	}
}

func TestCut(t *testing.T) {
	bundle, err := torchwood.AppendTileEntry(nil, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	one := len(bundle)
	if bundle, err = torchwood.AppendTileEntry(bundle, []byte("two")); err != nil {
		t.Fatal(err)
	}
	hashes := make([]byte, 3*tlog.HashSize)
	for _, c := range []struct {
		level, width int
		data, want   []byte
	}{
		{-1, 1, bundle, bundle[:one]},
		{-1, 2, bundle, bundle},
		{-1, 3, bundle, nil},
		{-1, 1, nil, nil},
		{0, 2, hashes, hashes[:2*tlog.HashSize]},
		{0, 3, hashes, hashes},
		{1, 4, hashes, nil},
	} {
		got, err := cut(tlog.Tile{H: torchwood.TileHeight, L: c.level, W: c.width}, c.data)
		if (err != nil) != (c.want == nil) || !bytes.Equal(got, c.want) {
			t.Errorf("level %d, width %d of %d bytes: %d bytes, %v", c.level, c.width, len(c.data), len(got), err)
		}
	}
}

func TestParseRefusal(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   *Error
	}{
		{403, `{"code":"log/not-admitted","detail":"who?"}`, &Error{Code: NotAdmitted, Detail: "who?"}},
		{202, `{"code":"log/no-receipt","detail":"later","index":7}`, &Error{Code: NoReceipt, Detail: "later", Index: 7}},
		{202, `{"code":"log/no-receipt","detail":"later"}`, nil},
		{202, `{"code":"log/no-receipt","detail":"later","index":-7}`, nil},
		{403, `{"code":"log/not-admitted","detail":"who?","index":7}`, nil},
		{404, `{"code":"log/not-admitted","detail":"who?"}`, nil},
		{403, `{"code":"log/unheard-of","detail":"who?"}`, nil},
		{200, `{}`, nil},
		{502, `<html>`, nil},
	} {
		got := parseRefusal(c.status, []byte(c.body))
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%d %s: read %+v", c.status, c.body, got)
		}
	}
}

func FuzzParseRefusal(f *testing.F) {
	f.Add(403, []byte(`{"code":"log/not-admitted","detail":"who?"}`))
	f.Add(202, []byte(`{"code":"log/no-receipt","detail":"later","index":7}`))
	f.Fuzz(func(t *testing.T, answered int, body []byte) {
		e := parseRefusal(answered, body)
		if e == nil {
			return
		}
		if status[e.Code] != answered || e.Index < 0 || e.Index > 0 && e.Code != NoReceipt {
			t.Errorf("read %+v from %d %q", e, answered, body)
		}
		if _, err := json.Marshal(refusal{Code: e.Code, Detail: e.Detail}); err != nil {
			t.Error(err)
		}
	})
}

func FuzzSplitBundle(f *testing.F) {
	bundle, err := torchwood.AppendTileEntry(nil, []byte("one"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bundle, 1)
	f.Add(append(bundle, 0, 0), 2)
	f.Add([]byte{0xff, 0xff}, 1)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		if n < 0 || n > torchwood.TileWidth {
			return
		}
		leaves, err := splitBundle(data, n)
		if err != nil {
			return
		}
		var again []byte
		for _, leaf := range leaves {
			if again, err = torchwood.AppendTileEntry(again, leaf); err != nil {
				t.Fatal(err)
			}
		}
		if len(leaves) != n || !bytes.Equal(again, data) {
			t.Errorf("%d leaves of %d bytes write %d", len(leaves), len(data), len(again))
		}
	})
}
