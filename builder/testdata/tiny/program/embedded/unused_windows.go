package embedded

func init() { panic("this file is not for Linux, and is not packed") }
