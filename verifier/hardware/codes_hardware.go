package hardware

// Reasons that belong to no single platform.
var hardwareCodes = []CodeInfo{
	{"hardware/options",
		"The appraisal was asked for without something it needs: a time, a root or key to trust, or a minimum security level. Nothing here has a default.",
		"Set the named option; a policy file sets all of them."},
	{"hardware/unknown-platform",
		"The evidence names a platform that this program cannot appraise.",
		"Use a program version that knows the platform, or a node on a known one."},
	{"hardware/unseen",
		"The evidence is of a kind that was implemented from the specification alone: no real sample has ever been compared with it.",
		"Admit it with the option for unseen evidence if you accept that, and send the project a sample."},
	{"hardware/collateral-size",
		"A certificate, revocation list or event log beside the evidence is larger than any real one.",
		"Have the node send the item that the vendor issued, by itself."},
}
