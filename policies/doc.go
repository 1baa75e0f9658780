// Package policies is a relying party's policy: whom to believe about what,
// and how old it may be.
//
// A policy is one YAML file ([Parse]). It is read strictly, because everything
// it leaves unsaid would have to be guessed by the verifier: an unknown or a
// repeated key, a missing section, an anchor or a tag is an error that names
// the file, the line and the mend. What is not to be checked has to be written
// as such, with a reason (`unchecked: "…"`), and the reason is printed in every
// verdict.
//
// Keys are read, the logs' tlog-policies are parsed and the rules are compiled
// here, so that a [Policy] that exists is one that can be applied.
// [Policy.Explain] says in sentences what it accepts. docs/policy.md describes
// every key; [Examples] has policies to start from.
package policies
