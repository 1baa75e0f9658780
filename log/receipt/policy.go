package receipt

import (
	"crypto/ed25519"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
)

// Policy is trust in one log: its key, the witnesses, and which of them must
// have cosigned a checkpoint (C2SP tlog-policy).
type Policy struct {
	text        string
	log         logKey
	witnesses   []witness
	quorum      *node // nil for "quorum none"
	unwitnessed bool
}

type logKey struct {
	vkey     string
	url      string
	verifier note.Verifier
}

type witness struct {
	Witness
	verifier *torchwood.CosignatureVerifier
}

// Witness is a witness of a policy. Name is the policy's own name for it; VKey
// is its key (C2SP signed-note, type 0x04); URL is where it is asked to cosign,
// empty if the policy does not say.
type Witness struct {
	Name string
	VKey string
	URL  string
}

// A node is a name that a quorum can refer to: a witness, or a group of which
// threshold members must agree.
type node struct {
	witness   int // index into Policy.witnesses, if members is empty
	threshold int
	members   []*node
}

// satisfied reports whether the witnesses that cosigned satisfy the node.
func (n *node) satisfied(cosigned []bool) bool {
	if len(n.members) == 0 {
		return cosigned[n.witness]
	}
	count := 0
	for _, m := range n.members {
		if m.satisfied(cosigned) {
			count++
		}
	}
	return count >= n.threshold
}

// Text returns the policy as it was written.
func (p *Policy) Text() string { return p.text }

// Origin returns the log's name, the first line of its checkpoints.
func (p *Policy) Origin() string { return p.log.verifier.Name() }

// LogVerifierKey returns the log's key (C2SP signed-note vkey, type 0x01).
func (p *Policy) LogVerifierKey() string { return p.log.vkey }

// LogURL returns where the log is, or nothing if the policy does not say.
func (p *Policy) LogURL() string { return p.log.url }

// Unwitnessed reports whether the policy demands no cosignature, so that
// nothing proves the time of anything.
func (p *Policy) Unwitnessed() bool { return p.unwitnessed }

// Witnesses returns the witnesses in the order of the policy.
func (p *Policy) Witnesses() []Witness {
	out := make([]Witness, len(p.witnesses))
	for i, w := range p.witnesses {
		out[i] = w.Witness
	}
	return out
}

// parser reads a policy line by line.
type parser struct {
	policy   *Policy
	names    map[string]*node
	grouped  map[string]string // member to the group that has it
	keys     map[string]string // raw public key to what it was first used for
	groups   int
	quorumAt int
}

// ParsePolicy reads a C2SP tlog-policy with exactly one log and one quorum.
// unwitnessed must be true if and only if the quorum is "none": whoever holds
// the policy says so in a second place.
//
// An error names the line and the mend.
func ParsePolicy(text string, unwitnessed bool) (*Policy, error) {
	if len(text) > MaxPolicyBytes {
		return nil, errorf(Malformed, "the policy has %d bytes; the limit is %d", len(text), MaxPolicyBytes)
	}
	p := parser{
		policy:  &Policy{text: text, unwitnessed: unwitnessed},
		names:   map[string]*node{},
		grouped: map[string]string{},
		keys:    map[string]string{},
	}
	body, ok := strings.CutSuffix(text, "\n")
	if !ok {
		return nil, errorf(Malformed, "the policy does not end with a newline; the last line may have been cut off")
	}
	for i, line := range strings.Split(body, "\n") {
		if err := p.line(i+1, line); err != nil {
			return nil, errorf(Malformed, "line %d of the policy: %v", i+1, err)
		}
	}
	switch {
	case p.policy.log.verifier == nil:
		return nil, errorf(Malformed, "the policy names no log; add a line: log <vkey> [<url>]")
	case p.quorumAt == 0:
		return nil, errorf(Malformed, "the policy has no quorum; add a line: quorum <name>")
	case p.policy.quorum == nil && !unwitnessed:
		return nil, errorf(Malformed, "line %d of the policy: quorum none accepts what no witness has seen; name a witness or group, or say unwitnessed: true beside the policy", p.quorumAt)
	case p.policy.quorum != nil && unwitnessed:
		return nil, errorf(Malformed, "line %d of the policy: unwitnessed: true stands beside a policy that demands witnesses; remove it, or write quorum none", p.quorumAt)
	}
	return p.policy, nil
}

func (p *parser) line(number int, line string) error {
	if !utf8.ValidString(line) {
		return fmt.Errorf("not UTF-8")
	}
	for _, r := range line {
		if r != '\t' && (r < 0x20 || 0x7f <= r && r <= 0x9f) {
			return fmt.Errorf("has the control character %U; only tab and newline are allowed", r)
		}
	}
	// Space and tab separate, and nothing else that Unicode calls a space.
	fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
		return nil
	}
	// Other implementations cut any line at a '#'; this way all read the same.
	if strings.Contains(line, "#") {
		return fmt.Errorf("has a '#'; give a comment a line of its own")
	}
	switch keyword, args := fields[0], fields[1:]; keyword {
	case "log":
		return p.log(args)
	case "witness":
		return p.witness(args)
	case "group":
		return p.group(args)
	case "quorum":
		return p.quorum(number, args)
	default:
		return fmt.Errorf("unknown keyword %q; the keywords are log, witness, group and quorum", clip(keyword))
	}
}

func (p *parser) log(args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return fmt.Errorf("a log is written: log <vkey> [<url>]")
	}
	if p.policy.log.verifier != nil {
		return fmt.Errorf("a second log; write one policy for each")
	}
	key, err := vkeyParts(args[0], algEd25519)
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(args[0])
	if err != nil {
		return fmt.Errorf("the log's key: %v", err)
	}
	if err := p.useKey(key, "the log"); err != nil {
		return err
	}
	p.policy.log = logKey{vkey: args[0], verifier: verifier}
	if len(args) == 2 {
		p.policy.log.url = args[1]
		return checkURL(args[1])
	}
	return nil
}

func (p *parser) witness(args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return fmt.Errorf("a witness is written: witness <name> <vkey> [<url>]")
	}
	if len(p.policy.witnesses) == MaxWitnesses {
		return fmt.Errorf("more than %d witnesses", MaxWitnesses)
	}
	name, vkey := args[0], args[1]
	if err := p.define(name, &node{witness: len(p.policy.witnesses)}); err != nil {
		return err
	}
	key, err := vkeyParts(vkey, algCosignature)
	if err != nil {
		return err
	}
	verifier, err := torchwood.NewCosignatureVerifier(vkey)
	if err != nil {
		return fmt.Errorf("the key of witness %s: %v", name, err)
	}
	if err := p.useKey(key, "witness "+name); err != nil {
		return err
	}
	w := witness{Witness: Witness{Name: name, VKey: vkey}, verifier: verifier}
	if len(args) == 3 {
		w.URL = args[2]
		if err := checkURL(w.URL); err != nil {
			return err
		}
	}
	p.policy.witnesses = append(p.policy.witnesses, w)
	return nil
}

func (p *parser) group(args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("a group is written: group <name> all|any|<number> <name>..., with at least one member")
	}
	if p.groups == MaxGroups {
		return fmt.Errorf("more than %d groups", MaxGroups)
	}
	p.groups++
	name, threshold, members := args[0], args[1], args[2:]
	n := &node{}
	for _, member := range members {
		m, ok := p.names[member]
		if !ok {
			return fmt.Errorf("group %s has the member %q, which no line before this one defines", name, clip(member))
		}
		if other, ok := p.grouped[member]; ok {
			return fmt.Errorf("%s is already a member of group %s; each name stands in one group, once", member, other)
		}
		p.grouped[member] = name
		n.members = append(n.members, m)
	}
	switch threshold {
	case "all":
		n.threshold = len(members)
	case "any":
		n.threshold = 1
	default:
		k, err := strconv.Atoi(threshold)
		if err != nil || strconv.Itoa(k) != threshold || k < 1 || k > len(members) {
			return fmt.Errorf("the threshold %q of group %s is not all, any or a number from 1 to its %d members", clip(threshold), name, len(members))
		}
		n.threshold = k
	}
	return p.define(name, n)
}

func (p *parser) quorum(number int, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("a quorum is written: quorum <name>")
	}
	if p.quorumAt != 0 {
		return fmt.Errorf("a second quorum; the first is in line %d", p.quorumAt)
	}
	p.quorumAt = number
	if args[0] == "none" {
		return nil
	}
	n, ok := p.names[args[0]]
	if !ok {
		return fmt.Errorf("the quorum %q is not defined by a line before this one", clip(args[0]))
	}
	p.policy.quorum = n
	return nil
}

// reserved names would read as something else in a group or quorum line here or
// in another implementation.
var reserved = map[string]bool{
	"none": true, "any": true, "all": true,
	"log": true, "witness": true, "group": true, "quorum": true,
}

func (p *parser) define(name string, n *node) error {
	if reserved[name] {
		return fmt.Errorf("the name %q is a word of the policy language; use another", name)
	}
	if p.names[name] != nil {
		return fmt.Errorf("the name %q is already defined; witnesses and groups share their names", clip(name))
	}
	p.names[name] = n
	return nil
}

func (p *parser) useKey(key, user string) error {
	if other, ok := p.keys[key]; ok {
		return fmt.Errorf("%s has the public key of %s; a key that stands twice would count twice", user, other)
	}
	p.keys[key] = user
	return nil
}

// Signature types of C2SP signed-note.
const (
	algEd25519     = 0x01 // a log's signature
	algCosignature = 0x04 // a witness's timestamped Ed25519 cosignature
)

// vkeyParts checks that a vkey is written in its one form and has the type, and
// returns the raw public key.
func vkeyParts(vkey string, alg byte) (key string, err error) {
	name, rest, _ := strings.Cut(vkey, "+")
	hash, text, _ := strings.Cut(rest, "+")
	raw, ok := decodeBase64(text)
	if !ok || !isKeyName(name) || len(hash) != 8 || strings.ToLower(hash) != hash || len(raw) == 0 {
		return "", fmt.Errorf("%q is not a vkey; it is written <name>+<8 hex digits>+<base64>", clip(vkey))
	}
	if raw[0] != alg {
		return "", fmt.Errorf("the key of %s has signature type 0x%02x; want 0x%02x (0x01 for a log, 0x04 for a witness)", name, raw[0], alg)
	}
	if len(raw) != 1+ed25519.PublicKeySize {
		return "", fmt.Errorf("the key of %s has %d bytes; an Ed25519 key has %d", name, len(raw)-1, ed25519.PublicKeySize)
	}
	return string(raw[1:]), nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") {
		return fmt.Errorf("%q is not an absolute http or https URL without user, query and fragment", clip(s))
	}
	return nil
}

// TesseraWitnessPolicy returns the witnesses and quorum as Tessera's own parser
// reads them (NewWitnessGroupFromPolicy), written anew: that parser is laxer
// than this one. Names are replaced by w0, w1 and g0, g1, since Tessera's parser
// splits a line at whatever Unicode calls a space. Every witness needs a URL,
// and a policy with "quorum none" has no such form.
func (p *Policy) TesseraWitnessPolicy() ([]byte, error) {
	if p.quorum == nil {
		return nil, fmt.Errorf("writing the witness policy of log %s: its quorum is none; run the log without witnesses", p.Origin())
	}
	var b strings.Builder
	for i, w := range p.witnesses {
		if w.URL == "" {
			return nil, fmt.Errorf("writing the witness policy of log %s: witness %s has no URL to be asked at; add it after its key", p.Origin(), w.Name)
		}
		fmt.Fprintf(&b, "witness w%d %s %s\n", i, w.VKey, w.URL)
	}
	groups := 0
	var write func(*node) string
	write = func(n *node) string {
		if len(n.members) == 0 {
			return "w" + strconv.Itoa(n.witness)
		}
		var members []string
		for _, m := range n.members {
			members = append(members, write(m))
		}
		name := "g" + strconv.Itoa(groups)
		groups++
		fmt.Fprintf(&b, "group %s %d %s\n", name, n.threshold, strings.Join(members, " "))
		return name
	}
	quorum := write(p.quorum)
	fmt.Fprintf(&b, "quorum %s\n", quorum)
	return []byte(b.String()), nil
}
