// Command initial stands where an image has its init.
package main

func main() { println("init") }
