package policies

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

const (
	maxKeys      = 64
	maxLogs      = 8
	maxRoots     = 8
	maxRules     = 64
	maxRuleBytes = 4 << 10
)

// validName is docs/formats.md's rule for names.
var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Parse reads a policy. The name of the file is for messages only; every error
// is an [*Error] that names the file, the line and the mend.
func Parse(name string, yaml []byte) (*Policy, error) {
	r := &reader{file: name}
	p := r.policy(r.open(yaml))
	if r.err != nil {
		return nil, r.err
	}
	return p, nil
}

func (r *reader) policy(top value) *Policy {
	m := r.mapping(top, "vitrine", "name", "product", "logs", "publishers", "receipt", "evidence", "epoch",
		"rebuilders", "channel", "withdrawers", "machines", "platforms", "rules")

	version := r.need(m, top, "vitrine", `write "vitrine: `+Version+`"`)
	if s := r.text(version); r.err == nil && s != Version {
		r.failf(version.line, "this is a policy of version %q; this program reads %q", s, Version)
	}

	p := &Policy{}
	p.Name = r.text(r.need(m, top, "name", "give the policy a name"))
	p.Product = r.named(r.need(m, top, "product", "name the product whose releases are accepted"))

	for _, v := range r.some(r.need(m, top, "logs", "name at least one log"), maxLogs, "log") {
		p.Logs = append(p.Logs, r.tlogPolicy(v))
	}
	r.distinctLogs(p.Logs, m["logs"])

	p.Publishers = r.keys(r.need(m, top, "publishers", "name the keys that may release the product"))

	p.Receipt = r.receipt(r.need(m, top, "receipt",
		`write {maxAge: 24h, minAge: 0s}, or {unchecked: "<why>"}`), p.Logs)

	evidence := r.need(m, top, "evidence", "write {maxAge: 10m}")
	em := r.mapping(evidence, "maxAge")
	p.EvidenceAge = r.duration(r.need(em, evidence, "maxAge",
		"say how old evidence without a nonce may be, such as 10m"), true)

	epoch := r.need(m, top, "epoch", "write {minimum: 1}")
	epm := r.mapping(epoch, "minimum")
	p.MinimumEpoch = r.integer(r.need(epm, epoch, "minimum",
		"name the lowest accepted security epoch, at least 1"), 1, 1<<53-1)

	p.Rebuilders = r.rebuilders(r.need(m, top, "rebuilders",
		`write {threshold: 1, keys: […]}, or {unchecked: "<why>"}`))
	p.Channel = r.channel(r.need(m, top, "channel",
		`write {name: stable, maxAge: 24h, keys: […]}, or {unchecked: "<why>"}`))
	p.Withdrawers = r.withdrawers(r.need(m, top, "withdrawers",
		`list the keys that may take a release back, or write {unchecked: "<why>"}`))

	machines := r.need(m, top, "machines", `write {unchecked: "<why>"}`)
	mm := r.mapping(machines, "unchecked")
	p.Machines.Unchecked = r.text(r.need(mm, machines, "unchecked",
		`statements about machines are not specified yet; write {unchecked: "<why>"}`))

	for _, v := range r.some(r.need(m, top, "platforms", "name at least one platform"), 8, "platform") {
		p.Platforms = append(p.Platforms, r.platform(v, p.Platforms))
	}

	rules := r.need(m, top, "rules", "write rules: [] if there are none")
	for _, v := range r.bounded(rules, maxRules) {
		rule := r.rule(v)
		if rule != nil && slices.ContainsFunc(p.Rules, func(o *Rule) bool { return o.Name == rule.Name }) {
			r.failf(v.line, "two rules are named %q; name them apart", rule.Name)
		}
		p.Rules = append(p.Rules, rule)
	}

	r.separateRoles(p, m)
	return p
}

// some is a list that needs at least one item.
func (r *reader) some(v value, most int, what string) []value {
	items := r.bounded(v, most)
	if r.err == nil && len(items) == 0 {
		r.failf(v.line, "%s is empty; name at least one %s", v.name, what)
	}
	return items
}

func (r *reader) bounded(v value, most int) []value {
	items := r.list(v)
	if len(items) > most {
		r.failf(v.line, "%s has %d items; at most %d are read", v.name, len(items), most)
		return nil
	}
	return items
}

func (r *reader) named(v value) string {
	s := r.text(v)
	if r.err == nil && !validName.MatchString(s) {
		r.failf(v.line, "%s is %q; a name is 1 to 64 of a-z, 0-9, '.', '_' and '-', and begins with a letter or a digit", v.name, s)
	}
	return s
}

// unchecked reads {unchecked: "<why>"}. It is false when the mapping has not
// got that key; when it has, it may have no other.
func (r *reader) unchecked(v value, m map[string]value) (why string, ok bool) {
	u, ok := m["unchecked"]
	if !ok {
		return "", false
	}
	if len(m) > 1 {
		r.failf(u.line, "%s is unchecked and has other keys; keep one or the other", v.name)
		return "", true
	}
	return r.text(u), true
}

// duration reads a Go duration. Zero is a duration only where there is a
// meaning in it.
func (r *reader) duration(v value, positive bool) time.Duration {
	s := r.text(v)
	if r.err != nil {
		return 0
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		r.failf(v.line, "%s is %q; write a duration such as 24h, 10m or 90s", v.name, s)
	case d < 0, positive && d == 0:
		r.failf(v.line, "%s is %s; it must be longer than nothing", v.name, s)
	case d > 10*365*24*time.Hour:
		r.failf(v.line, "%s is %s; longer than ten years is no limit", v.name, s)
	}
	return d
}

func (r *reader) receipt(v value, logs []*receipt.Policy) ReceiptAges {
	m := r.mapping(v, "maxAge", "minAge", "unchecked")
	if why, ok := r.unchecked(v, m); ok {
		return ReceiptAges{Unchecked: why}
	}
	a := ReceiptAges{
		MaxAge: r.duration(r.need(m, v, "maxAge", "say how old the newest cosignatures may be, such as 24h"), true),
		MinAge: r.duration(r.need(m, v, "minAge", "say how long a release must have been public, such as 0s"), false),
	}
	for _, l := range logs {
		if r.err == nil && l.Unwitnessed() {
			r.failf(v.line, `%s has ages, but the log %q is unwitnessed and time comes from witnesses alone; write {unchecked: "<why>"}`, v.name, l.Origin())
		}
	}
	return a
}

func (r *reader) rebuilders(v value) Rebuilders {
	m := r.mapping(v, "threshold", "keys", "unchecked")
	if why, ok := r.unchecked(v, m); ok {
		return Rebuilders{Unchecked: why}
	}
	keys := r.keys(r.need(m, v, "keys", "list the rebuilders' keys"))
	threshold := r.need(m, v, "threshold", "say how many of the keys must have rebuilt, at least 1")
	return Rebuilders{Threshold: int(r.integer(threshold, 1, int64(max(len(keys), 1)))), Keys: keys}
}

func (r *reader) channel(v value) Channel {
	m := r.mapping(v, "name", "maxAge", "keys", "unchecked")
	if why, ok := r.unchecked(v, m); ok {
		return Channel{Unchecked: why}
	}
	return Channel{
		Name:   r.named(r.need(m, v, "name", "name the channel, such as stable")),
		MaxAge: r.duration(r.need(m, v, "maxAge", "say how old the channel statement may be, such as 24h"), true),
		Keys:   r.keys(r.need(m, v, "keys", "list the keys that may sign the channel")),
	}
}

// withdrawers reads a list of keys, or a mapping with the reason for having
// none.
func (r *reader) withdrawers(v value) Withdrawers {
	if r.err != nil {
		return Withdrawers{}
	}
	if isMapping(v.node) {
		m := r.mapping(v, "unchecked")
		return Withdrawers{Unchecked: r.text(r.need(m, v, "unchecked", "say why nobody may withdraw"))}
	}
	return Withdrawers{Keys: r.keys(v)}
}

// keys reads a list of {name, key}, with no key and no name twice.
func (r *reader) keys(v value) []Key {
	var out []Key
	for _, item := range r.some(v, maxKeys, "key") {
		m := r.mapping(item, "name", "key")
		k := Key{Name: r.text(r.need(m, item, "name", "say whose key it is"))}
		pemText := r.need(m, item, "key", "give the public key as PEM")
		s, _ := r.str(pemText)
		if r.err != nil {
			return nil
		}
		pub, err := statement.ParsePublicKeyPEM([]byte(s))
		if err != nil {
			r.failf(pemText.line, "%s: %v; give an Ed25519 or ECDSA P-256 public key as PEM", pemText.name, err)
			return nil
		}
		k.PublicKey = pub
		for _, o := range out {
			if o.Hint() == k.Hint() {
				r.failf(item.line, "the key of %q is also that of %q; one key is one voice", k.Name, o.Name)
			}
			if o.Name == k.Name {
				r.failf(item.line, "two keys are named %q; name them apart", k.Name)
			}
		}
		out = append(out, k)
	}
	return out
}

// separateRoles refuses a key that could answer for itself: a publisher who is
// his own rebuilder proves nothing by rebuilding, and one who also signs the
// channel needs only one stolen key to release and to call it current.
func (r *reader) separateRoles(p *Policy, m map[string]value) {
	if r.err != nil {
		return
	}
	roles := []struct {
		name string
		keys []Key
	}{{"rebuilders", p.Rebuilders.Keys}, {"channel", p.Channel.Keys}}
	for _, role := range roles {
		for _, k := range role.keys {
			if who := KeyNamed(p.Publishers, k.PublicKey); who != "" {
				r.failf(m[role.name].line, "%s lists the key of the publisher %q as %q; roles are separate, use another key", role.name, who, k.Name)
			}
		}
	}
	for _, k := range p.Rebuilders.Keys {
		if who := KeyNamed(p.Channel.Keys, k.PublicKey); who != "" {
			r.failf(m["rebuilders"].line, "rebuilders lists the channel's key %q as %q; roles are separate, use another key", who, k.Name)
		}
	}
}

func (r *reader) platform(v value, before []Platform) Platform {
	m := r.mapping(v, "platform", "isolation", "attestationKeys", "simulatedRoots", "minimumTCB", "any")
	name := r.need(m, v, "platform", "name it: tpm or sev-snp")
	p := Platform{Platform: r.text(name)}
	isolation := r.need(m, v, "isolation", "write confidential or none")
	p.Isolation = hardware.Isolation(r.text(isolation))
	if r.err != nil {
		return p
	}
	if slices.ContainsFunc(before, func(o Platform) bool { return o.Platform == p.Platform }) {
		r.failf(name.line, "the platform %s stands twice; merge the two", p.Platform)
	}
	if p.Isolation != hardware.Confidential && p.Isolation != hardware.None {
		r.failf(isolation.line, "%s is %q; write confidential or none", isolation.name, p.Isolation)
	}

	switch p.Platform {
	case "tpm":
		r.without(v, m, "tpm", "simulatedRoots", "minimumTCB")
		if p.Isolation == hardware.Confidential {
			r.failf(isolation.line, "%s is confidential, but a TPM alone isolates nothing: the host owns it; write none", isolation.name)
		}
		p.AttestationKeys = r.attestationKeys(r.need(m, v, "attestationKeys", "list the public keys that may quote, as PEM"))
	case "sev-snp":
		r.without(v, m, "sev-snp", "attestationKeys")
		if roots, ok := m["simulatedRoots"]; ok {
			if p.Isolation == hardware.Confidential {
				r.failf(isolation.line, "%s is confidential, but simulated roots give no isolation; write none, or remove simulatedRoots", isolation.name)
			}
			p.SimulatedRoots = r.roots(roots)
		}
		p.MinimumTCB = r.tcb(r.need(m, v, "minimumTCB", "write {bootloader: 3, tee: 0, snp: 8, microcode: 115} with the versions you demand"))
	default:
		r.failf(name.line, "%s is %q; evidence of tpm and of sev-snp can be appraised", name.name, p.Platform)
		return p
	}

	p.Any = r.registers(r.need(m, v, "any", "write any: [] if a release may leave no register open"), p.Platform)
	return p
}

func (r *reader) without(v value, m map[string]value, platform string, keys ...string) {
	for _, k := range keys {
		if x, ok := m[k]; ok {
			r.failf(x.line, "%s has %s, which %s has not; remove it", v.name, k, platform)
		}
	}
}

func (r *reader) registers(v value, platform string) []string {
	var out []string
	for _, item := range r.bounded(v, maxKeys) {
		s := r.text(item)
		if r.err != nil {
			return nil
		}
		if !slices.Contains(statement.MandatoryRegisters(platform), s) {
			r.failf(item.line, "%s has no register %q; the registers are %s", platform, s, strings.Join(statement.MandatoryRegisters(platform), ", "))
		}
		if slices.Contains(out, s) {
			r.failf(item.line, "%s names %q twice; keep one", v.name, s)
		}
		out = append(out, s)
	}
	return out
}

func (r *reader) tcb(v value) TCB {
	m := r.mapping(v, "fmc", "bootloader", "tee", "snp", "microcode")
	component := func(key string) uint8 {
		return uint8(r.integer(r.need(m, v, key, "write its lowest accepted version, 0 to 255"), 0, 255))
	}
	t := TCB{Bootloader: component("bootloader"), TEE: component("tee"), SNP: component("snp"), Microcode: component("microcode")}
	if _, ok := m["fmc"]; ok {
		t.FMC = component("fmc")
	}
	return t
}

// pemBlock reads a string that is exactly one PEM block of the given type.
func (r *reader) pemBlock(v value, kind string) []byte {
	s, _ := r.str(v)
	if r.err != nil {
		return nil
	}
	block, rest := pem.Decode([]byte(s))
	if block == nil || block.Type != kind || len(block.Headers) > 0 || strings.TrimSpace(string(rest)) != "" {
		r.failf(v.line, "%s must be one PEM block %q and nothing else", v.name, kind)
		return nil
	}
	return block.Bytes
}

func (r *reader) attestationKeys(v value) []crypto.PublicKey {
	var out []crypto.PublicKey
	for _, item := range r.some(v, maxKeys, "key") {
		der := r.pemBlock(item, "PUBLIC KEY")
		if r.err != nil {
			return nil
		}
		key, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			r.failf(item.line, "%s is no public key: %v", item.name, err)
			return nil
		}
		switch k := key.(type) {
		case *rsa.PublicKey:
			if k.Size() < 2048/8 {
				r.failf(item.line, "%s is an RSA key of %d bits; at least 2048 are accepted", item.name, k.N.BitLen())
			}
		case *ecdsa.PublicKey:
		default:
			r.failf(item.line, "%s is neither an RSA nor an ECDSA key; a TPM quotes with one of these", item.name)
		}
		type equal interface{ Equal(crypto.PublicKey) bool }
		for _, o := range out {
			if o.(equal).Equal(key) {
				r.failf(item.line, "%s stands twice; keep one", item.name)
			}
		}
		out = append(out, key)
	}
	return out
}

func (r *reader) roots(v value) []*x509.Certificate {
	var out []*x509.Certificate
	for _, item := range r.some(v, maxRoots, "root certificate") {
		der := r.pemBlock(item, "CERTIFICATE")
		if r.err != nil {
			return nil
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			r.failf(item.line, "%s is no certificate: %v", item.name, err)
			return nil
		}
		if _, ok := cert.PublicKey.(ed25519.PublicKey); ok || cert.PublicKey == nil {
			r.failf(item.line, "%s has a key that no SEV-SNP root has; give an RSA or ECDSA certificate", item.name)
		}
		out = append(out, cert)
	}
	return out
}
