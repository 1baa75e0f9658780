package builder

import "testing"

// TestCompareVersions holds orders that dpkg --compare-versions gives.
func TestCompareVersions(t *testing.T) {
	// Each is lower than the next.
	for _, chain := range [][]string{
		{"1.0~~", "1.0~~a", "1.0~", "1.0", "1.0-0.1", "1.0a", "1.0+b1", "1.0.1"},
		{"6.1.176-1", "6.1.192-1", "6.1.192-2", "6.1.192-10", "6.12.117-1~deb12u1", "6.12.117-1"},
		{"252.39-1~deb12u1", "252.39-1~deb12u2", "252.39-1", "257.1-1"},
		{"9.9", "1:0.1", "2:0"},
		{"0.9", "0.10", "0.10-1"},
		{"1-1", "1-1a", "1-1b", "1-1+"},
	} {
		for i, a := range chain {
			for j, b := range chain {
				want := 0
				switch {
				case i < j:
					want = -1
				case i > j:
					want = 1
				}
				if got := compareVersions(a, b); got != want {
					t.Errorf("%s and %s: got %d, want %d", a, b, got, want)
				}
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "1.00"}, {"1.0", "0:1.0"}, {"1.0", "1.0-"}, {"1.0", "1.0-0"}} {
		if got := compareVersions(same[0], same[1]); got != 0 {
			t.Errorf("%s and %s: got %d, want 0", same[0], same[1], got)
		}
	}
}
