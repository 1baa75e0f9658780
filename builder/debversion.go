package builder

import (
	"strconv"
	"strings"
)

// compareVersions orders versions of Debian packages, Debian policy 5.6.12:
// epoch, upstream version and revision, each by alternating runs of non-digits
// and digits, in which a tilde sorts before everything, even the end.
func compareVersions(a, b string) int {
	epochA, a := splitEpoch(a)
	epochB, b := splitEpoch(b)
	if epochA != epochB {
		return sign(epochA < epochB)
	}
	upstreamA, revisionA := splitRevision(a)
	upstreamB, revisionB := splitRevision(b)
	if c := compareRuns(upstreamA, upstreamB); c != 0 {
		return c
	}
	return compareRuns(revisionA, revisionB)
}

func sign(less bool) int {
	if less {
		return -1
	}
	return 1
}

func splitEpoch(v string) (int, string) {
	before, after, ok := strings.Cut(v, ":")
	if !ok {
		return 0, v
	}
	epoch, err := strconv.Atoi(before)
	if err != nil {
		return 0, v
	}
	return epoch, after
}

func splitRevision(v string) (upstream, revision string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

func compareRuns(a, b string) int {
	for a != "" || b != "" {
		textA, textB := run(a, false), run(b, false)
		a, b = a[len(textA):], b[len(textB):]
		for i := 0; i < len(textA) || i < len(textB); i++ {
			if oa, ob := order(textA, i), order(textB, i); oa != ob {
				return sign(oa < ob)
			}
		}
		numberA, numberB := run(a, true), run(b, true)
		a, b = a[len(numberA):], b[len(numberB):]
		numberA, numberB = strings.TrimLeft(numberA, "0"), strings.TrimLeft(numberB, "0")
		if len(numberA) != len(numberB) {
			return sign(len(numberA) < len(numberB))
		}
		if numberA != numberB {
			return sign(numberA < numberB)
		}
	}
	return 0
}

// run gives the digits, or the non-digits, that s begins with.
func run(s string, digits bool) string {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9') == digits {
		i++
	}
	return s[:i]
}

// order is the weight of the character at i: tilde, end, letters, the rest.
func order(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z':
		return int(s[i])
	}
	return int(s[i]) + 256
}
