package policies

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-dev/vitrine/log/receipt"
	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/yamldoc"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

const (
	maxPlatforms = 8
	maxKeys      = 64
	maxLogs      = 8
	maxRoots     = 8
	maxRules     = 64
	maxRuleBytes = 4 << 10
)

// Parse reads a policy. The name of the file is for messages only; every error
// is an [*Error] that names the file, the line and the mend.
func Parse(name string, yaml []byte) (*Policy, error) {
	m := yamldoc.Read(name, yaml, yamldoc.Form{Name: "the policy", Version: Version, MaxBytes: MaxBytes},
		"name", "product", "logs", "publishers", "receipt", "evidence", "epoch",
		"rebuilders", "channel", "withdrawers", "machines", "platforms", "rules")
	p := readPolicy(m)
	if err := m.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// Error is what is wrong with a policy file, where, and what to do about it.
type Error = yamldoc.Error

func readPolicy(m yamldoc.Mapping) *Policy {
	p := &Policy{}
	p.Name = text(m.Need("name", "give the policy a name"))
	p.Product = m.Need("product", "name the product whose releases are accepted").Text(statement.CheckName)

	logs := m.Need("logs", "name at least one log")
	for _, v := range logs.Some(maxLogs, "log") {
		p.Logs = append(p.Logs, readLog(v))
	}
	distinctLogs(p.Logs, logs)

	p.Publishers = readKeys(m.Need("publishers", "name the keys that may release the product"))

	p.Receipt = readReceipt(m.Need("receipt", `write {maxAge: 24h, minAge: 0s}, or {unchecked: "<why>"}`), p.Logs)

	evidence := m.Need("evidence", "write {maxAge: 10m}").Mapping("maxAge")
	p.EvidenceAge = duration(evidence.Need("maxAge", "say how old evidence without a nonce may be, such as 10m"), true)

	epoch := m.Need("epoch", "write {minimum: 1}").Mapping("minimum")
	p.MinimumEpoch = epoch.Need("minimum", "name the lowest accepted security epoch, at least 1").Integer(1, 1<<53-1)

	p.Rebuilders = readRebuilders(m.Need("rebuilders", `write {threshold: 1, keys: […]}, or {unchecked: "<why>"}`))
	p.Channel = readChannel(m.Need("channel", `write {name: stable, maxAge: 24h, keys: […]}, or {unchecked: "<why>"}`))
	p.Withdrawers = readWithdrawers(m.Need("withdrawers",
		`list the keys that may take a release back, or write {unchecked: "<why>"}`))

	machines := m.Need("machines", `write {unchecked: "<why>"}`).Mapping("unchecked")
	p.Machines.Unchecked = text(machines.Need("unchecked",
		`statements about machines are not specified yet; write {unchecked: "<why>"}`))

	for _, v := range m.Need("platforms", "name at least one platform").Some(maxPlatforms, "platform") {
		p.Platforms = append(p.Platforms, readPlatform(v, p.Platforms))
	}

	for _, v := range m.Need("rules", "write rules: [] if there are none").List(maxRules) {
		rule := readRule(v)
		if rule != nil && slices.ContainsFunc(p.Rules, func(o *Rule) bool { return o.Name == rule.Name }) {
			v.Errorf("two rules are named %q; name them apart", rule.Name)
		}
		p.Rules = append(p.Rules, rule)
	}

	separateRoles(p, m)
	return p
}

// text reads what people name things by.
func text(v yamldoc.Value) string { return v.Text(statement.CheckText) }

// unchecked reads {unchecked: "<why>"}. It is false when the mapping has not
// got that key; when it has, it may have no other.
func unchecked(m yamldoc.Mapping) (why string, ok bool) {
	u := m.Optional("unchecked")
	if !u.Present() {
		return "", false
	}
	if len(m.Members()) > 1 {
		u.Errorf("%s is unchecked and has other keys; keep one or the other", m.Name())
	}
	return text(u), true
}

// duration reads a Go duration. Zero is a duration only where there is a
// meaning in it.
func duration(v yamldoc.Value, positive bool) (d time.Duration) {
	v.Text(func(s string) (err error) {
		d, err = time.ParseDuration(s)
		switch {
		case err != nil:
			return fmt.Errorf("%q is no duration; write one such as 24h, 10m or 90s", s)
		case d < 0, positive && d == 0:
			return fmt.Errorf("%s is no limit; it must be longer than nothing", s)
		case d > 10*365*24*time.Hour:
			return fmt.Errorf("%s is no limit; write at most ten years", s)
		}
		return nil
	})
	return d
}

func readReceipt(v yamldoc.Value, logs []*receipt.Policy) ReceiptAges {
	m := v.Mapping("maxAge", "minAge", "unchecked")
	if why, ok := unchecked(m); ok {
		return ReceiptAges{Unchecked: why}
	}
	a := ReceiptAges{
		MaxAge: duration(m.Need("maxAge", "say how old the newest cosignatures may be, such as 24h"), true),
		MinAge: duration(m.Need("minAge", "say how long a release must have been public, such as 0s"), false),
	}
	for _, l := range logs {
		if v.Err() == nil && l.Unwitnessed() {
			v.Errorf(`%s has ages, but the log %q is unwitnessed and time comes from witnesses alone; write {unchecked: "<why>"}`, v.Name(), l.Origin())
		}
	}
	return a
}

func readRebuilders(v yamldoc.Value) Rebuilders {
	m := v.Mapping("threshold", "keys", "unchecked")
	if why, ok := unchecked(m); ok {
		return Rebuilders{Unchecked: why}
	}
	keys := readKeys(m.Need("keys", "list the rebuilders' keys"))
	threshold := m.Need("threshold", "say how many of the keys must have rebuilt, at least 1")
	return Rebuilders{Threshold: int(threshold.Integer(1, int64(len(keys)))), Keys: keys}
}

func readChannel(v yamldoc.Value) Channel {
	m := v.Mapping("name", "maxAge", "keys", "unchecked")
	if why, ok := unchecked(m); ok {
		return Channel{Unchecked: why}
	}
	return Channel{
		Name:   m.Need("name", "name the channel, such as stable").Text(statement.CheckName),
		MaxAge: duration(m.Need("maxAge", "say how old the channel statement may be, such as 24h"), true),
		Keys:   readKeys(m.Need("keys", "list the keys that may sign the channel")),
	}
}

// readWithdrawers reads a list of keys, or a mapping with the reason for having
// none.
func readWithdrawers(v yamldoc.Value) Withdrawers {
	if v.IsMapping() {
		return Withdrawers{Unchecked: text(v.Mapping("unchecked").Need("unchecked", "say why nobody may withdraw"))}
	}
	return Withdrawers{Keys: readKeys(v)}
}

// readKeys reads a list of {name, key}, with no key and no name twice.
func readKeys(v yamldoc.Value) []Key {
	var out []Key
	for _, item := range v.Some(maxKeys, "key") {
		m := item.Mapping("name", "key")
		k := Key{Name: text(m.Need("name", "say whose key it is"))}
		pemText := m.Need("key", "give the public key as PEM")
		s, _ := pemText.Block()
		if v.Err() != nil {
			return nil
		}
		pub, err := statement.ParsePublicKeyPEM([]byte(s))
		if err != nil {
			pemText.Errorf("%s: %v; give an Ed25519 or ECDSA P-256 public key as PEM", pemText.Name(), err)
			return nil
		}
		k.PublicKey = pub
		for _, o := range out {
			if o.Hint() == k.Hint() {
				item.Errorf("the key of %q is also that of %q; one key is one voice", k.Name, o.Name)
			}
			if o.Name == k.Name {
				item.Errorf("two keys are named %q; name them apart", k.Name)
			}
		}
		out = append(out, k)
	}
	return out
}

// separateRoles refuses a key that could answer for itself: a publisher who is
// his own rebuilder proves nothing by rebuilding, and one who also signs the
// channel needs only one stolen key to release and to call it current.
func separateRoles(p *Policy, m yamldoc.Mapping) {
	if m.Err() != nil {
		return
	}
	roles := []struct {
		name string
		keys []Key
	}{{"rebuilders", p.Rebuilders.Keys}, {"channel", p.Channel.Keys}}
	for _, role := range roles {
		for _, k := range role.keys {
			if who := KeyNamed(p.Publishers, k.PublicKey); who != "" {
				m.Optional(role.name).Errorf("%s lists the key of the publisher %q as %q; roles are separate, use another key", role.name, who, k.Name)
			}
		}
	}
	for _, k := range p.Rebuilders.Keys {
		if who := KeyNamed(p.Channel.Keys, k.PublicKey); who != "" {
			m.Optional("rebuilders").Errorf("rebuilders lists the channel's key %q as %q; roles are separate, use another key", who, k.Name)
		}
	}
}

func readPlatform(v yamldoc.Value, before []Platform) Platform {
	m := v.Mapping("platform", "isolation", "attestationKeys", "simulatedRoots", "minimumTCB", "any")
	name := m.Need("platform", "name it: tpm or sev-snp")
	p := Platform{Platform: text(name)}
	isolation := m.Need("isolation", "write confidential or none")
	p.Isolation = hardware.Isolation(text(isolation))
	if v.Err() != nil {
		return p
	}
	if slices.ContainsFunc(before, func(o Platform) bool { return o.Platform == p.Platform }) {
		name.Errorf("the platform %s stands twice; merge the two", p.Platform)
	}
	if p.Isolation != hardware.Confidential && p.Isolation != hardware.None {
		isolation.Errorf("%s is %q; write confidential or none", isolation.Name(), p.Isolation)
	}

	switch p.Platform {
	case "tpm":
		without(m, "tpm", "simulatedRoots", "minimumTCB")
		if p.Isolation == hardware.Confidential {
			isolation.Errorf("%s is confidential, but a TPM alone isolates nothing: the host owns it; write none", isolation.Name())
		}
		p.AttestationKeys = readAttestationKeys(m.Need("attestationKeys", "list the public keys that may quote, as PEM"))
	case "sev-snp":
		without(m, "sev-snp", "attestationKeys")
		if roots := m.Optional("simulatedRoots"); roots.Present() {
			if p.Isolation == hardware.Confidential {
				isolation.Errorf("%s is confidential, but simulated roots give no isolation; write none, or remove simulatedRoots", isolation.Name())
			}
			p.SimulatedRoots = readRoots(roots)
		}
		p.MinimumTCB = readTCB(m.Need("minimumTCB", "write {bootloader: 3, tee: 0, snp: 8, microcode: 115} with the versions you demand"))
	default:
		name.Errorf("%s is %q; evidence of tpm and of sev-snp can be appraised", name.Name(), p.Platform)
		return p
	}

	p.Any = readRegisters(m.Need("any", "write any: [] if a release may leave no register open"), p.Platform)
	return p
}

func without(m yamldoc.Mapping, platform string, keys ...string) {
	for _, k := range keys {
		if v := m.Optional(k); v.Present() {
			v.Errorf("%s has %s, which %s has not; remove it", m.Name(), k, platform)
		}
	}
}

func readRegisters(v yamldoc.Value, platform string) []string {
	known := statement.MandatoryRegisters(platform)
	var out []string
	for _, item := range v.List(maxKeys) {
		s := item.Text(func(s string) error {
			if !slices.Contains(known, s) {
				return fmt.Errorf("%s has no register %q; the registers are %s", platform, s, strings.Join(known, ", "))
			}
			if !MayBeOpen(platform, s) {
				return fmt.Errorf("%s measures the image itself on %s and can never be open; remove it", s, platform)
			}
			return nil
		})
		if slices.Contains(out, s) {
			item.Errorf("%s names %q twice; keep one", v.Name(), s)
		}
		out = append(out, s)
	}
	return out
}

func readTCB(v yamldoc.Value) TCB {
	m := v.Mapping("fmc", "bootloader", "tee", "snp", "microcode")
	component := func(key string) uint8 {
		return uint8(m.Need(key, "write its lowest accepted version, 0 to 255").Integer(0, 255))
	}
	return TCB{
		FMC:        uint8(m.Optional("fmc").Integer(0, 255)),
		Bootloader: component("bootloader"), TEE: component("tee"), SNP: component("snp"), Microcode: component("microcode"),
	}
}

// pemBlock reads a string that is exactly one PEM block of the given type.
func pemBlock(v yamldoc.Value, kind string) []byte {
	s, _ := v.Block()
	block, rest := pem.Decode([]byte(s))
	if block == nil || block.Type != kind || len(block.Headers) > 0 || strings.TrimSpace(string(rest)) != "" {
		v.Errorf("%s must be one PEM block %q and nothing else", v.Name(), kind)
		return nil
	}
	return block.Bytes
}

func readAttestationKeys(v yamldoc.Value) []crypto.PublicKey {
	var out []crypto.PublicKey
	for _, item := range v.Some(maxKeys, "key") {
		der := pemBlock(item, "PUBLIC KEY")
		if v.Err() != nil {
			return nil
		}
		key, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			item.Errorf("%s is no public key: %v", item.Name(), err)
			return nil
		}
		switch k := key.(type) {
		case *rsa.PublicKey:
			if n := k.N.BitLen(); n < 2048 || n > 4096 {
				item.Errorf("%s is an RSA key of %d bits; 2048 to 4096 are accepted", item.Name(), n)
			}
		case *ecdsa.PublicKey:
			if k.Curve != elliptic.P256() {
				item.Errorf("%s is an ECDSA key on %s; P-256 is accepted", item.Name(), k.Curve.Params().Name)
			}
		default:
			item.Errorf("%s is neither an RSA nor an ECDSA key; a TPM quotes with one of these", item.Name())
		}
		type equal interface{ Equal(crypto.PublicKey) bool }
		for _, o := range out {
			if o.(equal).Equal(key) {
				item.Errorf("%s stands twice; keep one", item.Name())
			}
		}
		out = append(out, key)
	}
	return out
}

func readRoots(v yamldoc.Value) []*x509.Certificate {
	var out []*x509.Certificate
	for _, item := range v.Some(maxRoots, "root certificate") {
		der := pemBlock(item, "CERTIFICATE")
		if v.Err() != nil {
			return nil
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			item.Errorf("%s is no certificate: %v", item.Name(), err)
			return nil
		}
		if _, ok := cert.PublicKey.(ed25519.PublicKey); ok || cert.PublicKey == nil {
			item.Errorf("%s has a key that no SEV-SNP root has; give an RSA or ECDSA certificate", item.Name())
		}
		out = append(out, cert)
	}
	return out
}
