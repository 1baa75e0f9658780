package sevsnp

import "strings"

// product is an AMD product line: processors that share one root.
type product string

const (
	milan product = "Milan"
	genoa product = "Genoa" // and Bergamo and Siena
	turin product = "Turin"
)

// productOf returns the line of a processor, by its family and model (AMD
// 57230, "Determining the Product Name").
func productOf(family, model byte) (product, bool) {
	switch {
	case family == 0x19 && model <= 0x0f:
		return milan, true
	case family == 0x19 && (model >= 0x10 && model <= 0x1f || model >= 0xa0 && model <= 0xaf):
		return genoa, true
	case family == 0x1a && model <= 0x11:
		return turin, true
	}
	return "", false
}

// productNamed returns the line of a product name as certificates give it:
// "Milan-B0" in a VCEK, "Milan" in a VLEK.
func productNamed(name string) (product, bool) {
	line, _, _ := strings.Cut(name, "-")
	switch p := product(line); p {
	case milan, genoa, turin:
		return p, true
	}
	return "", false
}
