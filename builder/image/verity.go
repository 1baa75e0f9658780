package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/containerd/go-dmverity/pkg/verity"

	"github.com/vitrine-dev/vitrine/builder/image/guestconfig"
)

// writeVerity writes superblock and hash tree of dataFile into hashFile, byte
// for byte as veritysetup(8) would with the same salt and UUID, and gives the
// volume as init will find it.
//
// Salt and UUID are derived from the volume's name. A random salt would make
// the image irreproducible, and protects nothing here: it is public either way.
func writeVerity(v Volume, dataFile, hashFile string) (guestconfig.Volume, error) {
	fi, err := os.Stat(dataFile)
	if err != nil {
		return guestconfig.Volume{}, fmt.Errorf("hashing volume %s: %w", v.Name, err)
	}
	salt := derive("verity salt", []byte(v.Name))
	p := verity.DefaultParams()
	p.DataBlockSize, p.HashBlockSize = guestconfig.BlockSize, guestconfig.BlockSize
	p.DataBlocks = uint64(fi.Size() / guestconfig.BlockSize)
	p.HashAreaOffset = guestconfig.HashStart
	p.Salt, p.SaltSize = salt[:], uint16(len(salt))
	p.UUID = deriveGUID("verity UUID", []byte(v.Name)).rfc4122()
	root, err := verity.Create(&p, dataFile, hashFile)
	if err != nil {
		return guestconfig.Volume{}, fmt.Errorf("hashing volume %s: %w", v.Name, err)
	}
	return guestconfig.Volume{
		Name: v.Name, Mount: v.Mount,
		RootHash: hex.EncodeToString(root), Salt: hex.EncodeToString(salt[:]), DataBlocks: p.DataBlocks,
	}, nil
}

// derive gives bytes for a purpose: whatever a format wants to be unique or
// random has to be a function of the image's content here.
func derive(purpose string, of ...[]byte) [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprintf(h, "vitrine image v1: %s\x00", purpose)
	for _, b := range of {
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
