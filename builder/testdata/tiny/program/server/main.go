// Command server stands where an image has its inference server.
package main

import "vitrine.test/program/embedded"

var version, built = "unset", "unset"

func main() { println(version, built, embedded.Text) }
