package policies

import (
	"embed"
	"io/fs"
)

//go:embed examples/*.yaml
var examples embed.FS

// Examples returns the shipped policies, to start one's own from. None accepts
// a machine without isolation or a simulated one, and none trusts a key that
// anybody holds: whoever uses one as it is trusts nobody.
func Examples() fs.FS {
	sub, err := fs.Sub(examples, "examples")
	if err != nil {
		panic(err) // the embedded folder has that name, or this did not compile
	}
	return sub
}
