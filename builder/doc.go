// Package builder turns a recipe and its lock into the artefacts of an
// inference image, bit for bit, and says what was built.
//
//   - A [Recipe] (image.yaml) is what a release engineer writes: kernel, root
//     file system, services.
//   - A [Lock] (image.lock) names every input of the recipe by SHA-256 and size,
//     and the version of the Go toolchain. [LockRecipe] makes it.
//   - [Build] gets those inputs through a [Fetcher], compares each with the lock
//     before anything reads it, compiles, assembles, and leaves a folder with
//     the artefacts and their [Manifest].
//   - [Compare] names the files in which two builds differ, and [Reproduce]
//     builds twice under conditions that differ in all that must not matter.
//   - [ReleaseStatement] makes what a publisher signs.
//
// Recipe, lock and the lock's local inputs ([Lock.Local]) are all that a
// stranger needs besides public mirrors: a log keeps them under their digests.
//
// A recipe may come from a stranger, too. Building it runs none of its code: Go
// packages are compiled without cgo, linker flags and code generation, and no
// path of a recipe leads outside the work folder.
package builder

// Version is this builder's, as statements name it. It grows when the same
// recipe and lock would give other bits.
const Version = "0.1.0"
