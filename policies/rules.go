package policies

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/vitrine-dev/vitrine/log/statement"
	"github.com/vitrine-dev/vitrine/log/yamldoc"
	"github.com/vitrine-dev/vitrine/verifier/hardware"
)

const (
	// maxRuleCost bounds the work of one rule in CEL's own units, about one
	// per operation. A rule reads evidence that a stranger wrote, so its cost
	// must not be the stranger's to choose.
	maxRuleCost = 100_000
	maxRuleTime = 2 * time.Second
)

// Rule is a condition in CEL (https://cel.dev) over what was claimed and what
// was released. It was type-checked when the policy was parsed.
type Rule struct {
	Name    string
	Source  string
	program cel.Program
}

// ruleClaims and the types below it are what a rule sees. They are apart from
// the types that they are filled from, so that a policy keeps its meaning when
// those change.
type ruleClaims struct {
	Platform  string                      `cel:"platform"`
	Isolation string                      `cel:"isolation"`
	Simulated bool                        `cel:"simulated"`
	Registers map[string]string           `cel:"registers"`
	TCB       map[string]map[string]int64 `cel:"tcb"`
	Flags     map[string]bool             `cel:"flags"`
	Facts     map[string][]string         `cel:"facts"`
}

type ruleRelease struct {
	Product       string            `cel:"product"`
	Version       string            `cel:"version"`
	SecurityEpoch int64             `cel:"securityEpoch"`
	Source        ruleSource        `cel:"source"`
	Builder       ruleBuilder       `cel:"builder"`
	Artefacts     map[string]string `cel:"artefacts"`
	Volumes       []ruleVolume      `cel:"volumes"`
	NotCovered    []string          `cel:"notCovered"`
}

type ruleSource struct {
	URI    string `cel:"uri"`
	Commit string `cel:"commit"`
}

type ruleBuilder struct {
	ID      string `cel:"id"`
	Version string `cel:"version"`
}

type ruleVolume struct {
	Name       string `cel:"name"`
	VerityRoot string `cel:"verityRoot"`
	SizeBytes  int64  `cel:"sizeBytes"`
}

var ruleEnv = sync.OnceValues(func() (*cel.Env, error) {
	env, err := cel.NewEnv(cel.ParserRecursionLimit(64), cel.ParserExpressionSizeLimit(maxRuleBytes))
	if err != nil {
		return nil, err
	}
	provider, adapter, err := types.ComposeTypes(env.CELTypeProvider(), env.CELTypeAdapter(),
		types.ParseStructTags(true),
		types.NativeTypeFor[ruleClaims](types.NativeTypeAlias("vitrine.Claims"), types.ParseStructTags(true)),
		types.NativeTypeFor[ruleRelease](types.NativeTypeAlias("vitrine.Release"), types.ParseStructTags(true)),
	)
	if err != nil {
		return nil, err
	}
	return env.Extend(
		cel.CustomTypeAdapter(adapter),
		cel.CustomTypeProvider(provider),
		cel.Variable("claims", cel.ObjectType("vitrine.Claims")),
		cel.Variable("release", cel.ObjectType("vitrine.Release")),
	)
})

// readRule reads {name, rule} and compiles it.
func readRule(v yamldoc.Value) *Rule {
	m := v.Mapping("name", "rule")
	rule := &Rule{Name: text(m.Need("name", "say in words what the rule demands"))}
	source := m.Need("rule", "give the CEL expression")
	s, first := source.Block()
	if v.Err() != nil {
		return nil
	}
	rule.Source = strings.TrimSpace(s)
	if rule.Source == "" || len(s) > maxRuleBytes {
		source.Errorf("%s must be 1 to %d bytes of CEL", source.Name(), maxRuleBytes)
		return nil
	}
	env, err := ruleEnv()
	if err != nil {
		source.Errorf("%s: rules cannot be compiled: %v", source.Name(), err)
		return nil
	}
	ast, issues := env.Compile(s)
	if issues.Err() != nil {
		e := issues.Errors()[0]
		message := oneLine(e.Message)
		if first > 0 {
			source.ErrorfAt(first+e.Location.Line()-1, "%s does not compile: %s", source.Name(), message)
		}
		source.Errorf("%s does not compile: %s", source.Name(), message)
		return nil
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		source.Errorf("%s is of type %s; a rule must be true or false", source.Name(), ast.OutputType())
		return nil
	}
	rule.program, err = env.Program(ast,
		cel.CostLimit(maxRuleCost),
		cel.InterruptCheckFrequency(100),
		cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		source.Errorf("%s cannot be planned: %v", source.Name(), err)
		return nil
	}
	return rule
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Holds tells whether the rule is true of genuine claims and of the release
// that they were matched with. An error (a missing key of a map, too much
// work) is neither, and refuses.
func (r *Rule) Holds(ctx context.Context, claims *hardware.Claims, release *statement.Statement) (bool, error) {
	in, err := ruleInput(claims, release)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, maxRuleTime)
	defer cancel()
	out, _, err := r.program.ContextEval(ctx, in)
	if err != nil {
		return false, fmt.Errorf("evaluating the rule %q: %w", r.Name, err)
	}
	b, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("the rule %q gave %s, which is neither true nor false", r.Name, out.Type().TypeName())
	}
	return b, nil
}

func ruleInput(claims *hardware.Claims, st *statement.Statement) (map[string]any, error) {
	rel, ok := st.Predicate.(*statement.Release)
	if !ok {
		return nil, fmt.Errorf("rules are about releases, and this statement is none")
	}
	c := &ruleClaims{
		Platform:  claims.Platform,
		Isolation: string(claims.Isolation),
		Simulated: claims.Simulated,
		Registers: claims.Registers,
		TCB:       claims.TCB,
		Flags:     claims.Flags,
		Facts:     map[string][]string{},
	}
	for _, f := range claims.Facts {
		// Only what the hardware signed: a rule has no way to tell them apart.
		if !f.Unverified {
			c.Facts[f.Name] = append(c.Facts[f.Name], f.Value)
		}
	}
	out := &ruleRelease{
		Product:       rel.Product,
		Version:       rel.Version,
		SecurityEpoch: rel.SecurityEpoch,
		Source:        ruleSource{rel.Source.URI, rel.Source.Commit},
		Builder:       ruleBuilder{rel.Builder.ID, rel.Builder.Version},
		Artefacts:     map[string]string{},
	}
	for _, s := range st.Subjects {
		out.Artefacts[s.Name] = s.Digest.SHA256
	}
	for _, v := range rel.Volumes {
		out.Volumes = append(out.Volumes, ruleVolume{v.Name, v.VerityRoot, v.SizeBytes})
	}
	for _, n := range rel.NotCovered {
		out.NotCovered = append(out.NotCovered, n.What)
	}
	return map[string]any{"claims": c, "release": out}, nil
}
