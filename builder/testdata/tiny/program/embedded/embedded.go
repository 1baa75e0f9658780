// Package embedded holds a file, which has to be packed with the module.
package embedded

import _ "embed"

// Text is the content of text.txt.
//
//go:embed text.txt
var Text string
