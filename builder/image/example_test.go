package image_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/vitrine-dev/vitrine/builder/image"
	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// An image without a kernel, for a node that only simulates its hardware.
func ExampleAssemble() {
	dir, err := os.MkdirTemp("", "image")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	out, err := image.Assemble(context.Background(), image.Spec{
		Epoch:    time.Unix(1_760_000_000, 0),
		Init:     image.Bytes([]byte("a static executable")),
		Services: []guestconfig.Service{{Name: "hello", Argv: []string{"/usr/bin/hello"}}},
		Volumes: []image.Volume{{Name: "root", Mount: "/", Entries: []image.Entry{
			image.RegularFile("usr/bin/hello", 0o755, image.Bytes([]byte("another one"))),
		}}},
	}, dir)
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range out.Artefacts {
		fmt.Println(a.Name)
	}
	fmt.Println(out.Volumes[0].RootHash)
	// Output:
	// cmdline
	// initrd.cpio
	// root.erofs
	// root.verity
	// d29c72f93e0de676222e85bc0654679f180f6dc8cac14a37813e48f44ce53c9d
}
