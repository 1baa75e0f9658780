package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log/yamldoc"
)

// The forms of a recipe's values that log/statement has no check for.
var (
	releasePattern    = regexp.MustCompile(`^[a-z]{2,32}$`)
	packagePattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,127}$`) // Debian policy 5.6.1
	modulePattern     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	goPackagePattern  = regexp.MustCompile(`^\.(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)
	goVariablePattern = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_.-]+\.[A-Za-z_][A-Za-z0-9_]*$`)
	goVersionPattern  = regexp.MustCompile(`^go1\.[0-9]{1,3}(\.[0-9]{1,3}|rc[0-9]{1,2})?$`)
)

const (
	maxTextBytes = 512
	maxPathBytes = 1024
)

func matches(p *regexp.Regexp, s, mend string) error {
	if !p.MatchString(s) {
		return fmt.Errorf("%q is not %s", s, mend)
	}
	return nil
}

func checkDebianRelease(s string) error {
	return matches(releasePattern, s, "the code name of a Debian release, such as bookworm")
}

func checkPackage(s string) error {
	return matches(packagePattern, s, "the name of a Debian package")
}

func checkPackagePattern(s string) error {
	if strings.Count(s, "*") > 4 {
		return fmt.Errorf("%q holds a star more than four times", s)
	}
	return matches(packagePattern, strings.ReplaceAll(s, "*", "x"), "the name of a Debian package, in which * may stand for any text")
}

func checkModule(s string) error {
	return matches(modulePattern, s, "the name of a kernel module, such as dm-verity")
}

func checkGoVersion(s string) error {
	return matches(goVersionPattern, s, "a Go version, such as go1.26.8")
}

func checkNoControl(s string) error {
	for i, c := range s {
		if c < ' ' || c == 0x7f {
			return fmt.Errorf("control character %#02x at byte %d: remove it", c, i)
		}
	}
	return nil
}

func checkArgument(s string) error {
	if len(s) > 4096 {
		return fmt.Errorf("%d bytes, more than 4096", len(s))
	}
	return checkNoControl(s)
}

// checkCommandLine refuses what cannot be measured alike everywhere; what the
// parameters mean is builder/image's to judge.
func checkCommandLine(s string) error {
	if s == "" || len(s) > 2047 || strings.TrimSpace(s) != s {
		return errors.New("expected 1 to 2047 bytes without a space at either end")
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return fmt.Errorf("byte %#02x at %d: only printable ASCII on one line is taken", s[i], i)
		}
	}
	return nil
}

// checkLocalPath is for files beside the recipe: a path that stays there.
func checkLocalPath(s string) error {
	if err := checkPath(s); err != nil {
		return err
	}
	if !fs.ValidPath(s) || s == "." {
		return fmt.Errorf("%q does not stay in the recipe's folder, or is not in its shortest form: write it relative, without dots as parts", s)
	}
	return nil
}

// checkModuleFolder is for the folder of a Go module. It may lie above the
// recipe: only LockRecipe and RecipeFolder ever go there, the build takes the
// packed module that the lock names.
func checkModuleFolder(s string) error {
	if err := checkPath(s); err != nil {
		return err
	}
	if path.IsAbs(s) || path.Clean(s) != s {
		return fmt.Errorf("%q is absolute, or not in its shortest form: write it relative to the recipe", s)
	}
	return nil
}

// checkImagePath is for places in the root file system.
func checkImagePath(s string) error {
	if err := checkPath(s); err != nil {
		return err
	}
	if !path.IsAbs(s) || path.Clean(s) != s || s == "/" {
		return fmt.Errorf("%q is not an absolute path in its shortest form, such as /usr/bin/server", s)
	}
	return nil
}

func checkTarget(s string) error {
	if s == "" {
		return errors.New("empty: a symbolic link needs a target")
	}
	return checkPath(s)
}

// checkPath bounds a path and keeps it printable, since it is shown to people.
func checkPath(s string) error {
	if s == "" || len(s) > maxPathBytes {
		return fmt.Errorf("%d bytes: expected a path of 1 to %d", len(s), maxPathBytes)
	}
	for _, part := range strings.Split(s, "/") {
		if len(part) > 255 {
			return errors.New("a part of the path has more than 255 bytes")
		}
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '\\' {
			return fmt.Errorf("byte %#02x at %d: paths are printable ASCII without spaces and backslashes", s[i], i)
		}
	}
	return nil
}

func checkGoPackage(s string) error {
	if strings.Contains(s, "...") {
		return fmt.Errorf("%q names more than one package: write one step for each", s)
	}
	return matches(goPackagePattern, s, "a package of the module, such as ./cmd/server")
}

func checkGoVariable(s string) error {
	return matches(goVariablePattern, s, "a variable of a package, such as main.version")
}

// checkGoValue keeps quotes out: go build splits linker flags at spaces outside
// quotes, and a value that closes its quote could add a flag that names a
// program to run.
func checkGoValue(s string) error {
	if len(s) > maxTextBytes || strings.ContainsAny(s, `'"\`) {
		return fmt.Errorf("expected at most %d bytes without quotes and backslashes", maxTextBytes)
	}
	rest := strings.NewReplacer(varVersion, "", varBuildTime, "").Replace(s)
	if strings.Contains(rest, "$") {
		return fmt.Errorf("%q: only %s and %s are replaced here", s, varVersion, varBuildTime)
	}
	return checkNoControl(s)
}

// What is replaced in the values of Program.Set.
const (
	varVersion   = "${VERSION}"
	varBuildTime = "${BUILD_TIME}"
)

// parseTime reads RFC 3339 in UTC with the letter Z and whole seconds.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse("2006-01-02T15:04:05Z", s)
	if err != nil || t.Year() < 1980 || t.Year() >= 2100 {
		return time.Time{}, fmt.Errorf("%q is not a time from 1980 to 2099 such as 2026-11-25T10:00:00Z", s)
	}
	return t, nil
}

// octal reads permission bits.
func octal(v yamldoc.Value) fs.FileMode {
	s := v.Digits()
	bits, err := strconv.ParseUint(s, 8, 16)
	if err != nil || len(s) < 3 || len(s) > 5 || bits > 0o7777 {
		v.Errorf("mode: expected three or four octal digits such as 0755, found %q", s)
		return 0
	}
	mode := fs.FileMode(bits & 0o777)
	if bits&0o4000 != 0 {
		mode |= fs.ModeSetuid
	}
	if bits&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	if bits&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}
