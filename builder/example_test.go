package builder_test

import (
	"fmt"

	"github.com/vitrine-dev/vitrine/builder"
)

// A recipe that is wrong in one place is refused with that place and the mend.
func ExampleParseRecipe() {
	_, err := builder.ParseRecipe("image.yaml", []byte(`vitrine: recipe/v1
product: hello
version: 1.10
`))
	fmt.Println(err)
	// Output: image.yaml:3: version: expected text, found 1.10, which YAML reads as another kind of value: write "1.10"
}

// A monitor that has only digests says which artefacts differ; with the
// manifests of both sides, which file inside.
func ExampleCompare() {
	published := &builder.Manifest{
		Artefacts: []builder.Artefact{{Name: "root.erofs", SHA256: "aa…"}, {Name: "root.verity", SHA256: "bb…"}},
		Files:     []builder.File{{Artefact: "root.erofs", Path: "usr/bin/server", SHA256: "cc…"}},
	}
	rebuilt := &builder.Manifest{
		Artefacts: []builder.Artefact{{Name: "root.erofs", SHA256: "dd…"}, {Name: "root.verity", SHA256: "ee…"}},
		Files:     []builder.File{{Artefact: "root.erofs", Path: "usr/bin/server", SHA256: "ff…"}},
	}
	differences := builder.Compare(published, rebuilt)
	for _, d := range differences {
		fmt.Println(d)
	}
	fmt.Println("to blame:", builder.Causes(differences))
	// Output:
	// root.erofs differs: aa… published, dd… rebuilt
	// root.verity differs: bb… published, ee… rebuilt (follows from root.erofs)
	// to blame: [root.erofs: usr/bin/server]
}
