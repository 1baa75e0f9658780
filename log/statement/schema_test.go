package statement

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var predicateTypes = map[string]string{
	"release": ReleaseType, "rebuild": RebuildType, "withdrawal": WithdrawalType, "channel": ChannelType,
}

func readSchema(t *testing.T, name string) any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("schema", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func compileSchema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	doc := readSchema(t, name)
	id := doc.(map[string]any)["$id"].(string)
	if want := predicateTypes[name] + "/schema.json"; id != want {
		t.Errorf("%s: $id %s, want %s", name, id, want)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(id, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSchemasAgreeWithVectors shows that what a schema refuses, the parser
// refuses, and that the schema sees the faults that a schema can see.
func TestSchemasAgreeWithVectors(t *testing.T) {
	schemas := map[string]*jsonschema.Schema{}
	for name, predicateType := range predicateTypes {
		schemas[predicateType] = compileSchema(t, name)
	}
	// Faults that a schema cannot tell: they are about two places at once, or
	// about uniqueness by a part.
	beyond := []string{
		"release-measured-twice", "release-volume-twice", "rebuild-got-twice",
		"withdrawal-since-date", "withdrawal-register", "withdrawal-register-value", "channel-never-current",
		"minus-zero", "exponent", // a schema sees numbers and not how they are written
	}
	valid, caught := 0, 0
	for _, v := range payloadVectors(t) {
		var layer struct {
			PredicateType string          `json:"predicateType"`
			Predicate     json.RawMessage `json:"predicate"`
		}
		if json.Unmarshal(v.Bytes(), &layer) != nil || schemas[layer.PredicateType] == nil || layer.Predicate == nil {
			continue
		}
		predicate, err := jsonschema.UnmarshalJSON(bytes.NewReader(layer.Predicate))
		if err != nil {
			continue
		}
		err = schemas[layer.PredicateType].Validate(predicate)
		switch {
		case v.Valid && err != nil:
			t.Errorf("%s: the parser accepts what the schema refuses: %v", v.Name, err)
		case v.Valid:
			valid++
		case err != nil:
			caught++
		case strings.Contains(v.Error, "/predicate/") && !slices.Contains(beyond, v.Name) && !strings.Contains(v.Error, "stands twice"):
			t.Errorf("%s: the schema does not see that %s", v.Name, v.Why)
		}
	}
	if valid < 8 || caught < 45 {
		t.Errorf("%d valid vectors and %d faults seen; the test has lost its vectors", valid, caught)
	}
}

// TestSchemasAgreeWithStructs compares members: the same names, required where
// the Go field is.
func TestSchemasAgreeWithStructs(t *testing.T) {
	for name, predicateType := range predicateTypes {
		doc := readSchema(t, name).(map[string]any)
		compareMembers(t, doc, doc, reflect.TypeOf(newPredicate(predicateType)).Elem(), name)
	}
}

func compareMembers(t *testing.T, doc, schema map[string]any, typ reflect.Type, at string) {
	t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		schema = doc["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	switch typ.Kind() {
	case reflect.Pointer:
		compareMembers(t, doc, schema, typ.Elem(), at)
		return
	case reflect.Slice:
		compareMembers(t, doc, schema["items"].(map[string]any), typ.Elem(), at+"[]")
		return
	case reflect.Struct:
		if typ.String() == "time.Time" {
			return
		}
	default:
		return
	}
	properties := schema["properties"].(map[string]any)
	var names, required []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		member, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, member)
		if options == "" {
			required = append(required, member)
		}
		if sub, ok := properties[member].(map[string]any); ok {
			compareMembers(t, doc, sub, f.Type, at+"."+member)
		}
	}
	slices.Sort(names)
	slices.Sort(required)
	if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, names) {
		t.Errorf("%s: the schema has members %v, the struct %v", at, got, names)
	}
	var listed []string
	for _, r := range schema["required"].([]any) {
		listed = append(listed, r.(string))
	}
	slices.Sort(listed)
	if !slices.Equal(listed, required) {
		t.Errorf("%s: the schema requires %v, the struct %v", at, listed, required)
	}
	if schema["additionalProperties"] != false {
		t.Errorf("%s: the schema takes unknown members", at)
	}
}

// TestSchemaRegisters compares the schema of a release with the register table.
func TestSchemaRegisters(t *testing.T) {
	defs := readSchema(t, "release").(map[string]any)["$defs"].(map[string]any)
	for _, platform := range Platforms() {
		def, ok := defs["registers-"+platform].(map[string]any)
		if !ok {
			t.Errorf("the schema has no registers of %s", platform)
			continue
		}
		properties := def["properties"].(map[string]any)
		if len(properties) != len(Registers(platform)) || len(def["required"].([]any)) != len(MandatoryRegisters(platform)) {
			t.Errorf("%s: the schema has %d registers, %d required", platform, len(properties), len(def["required"].([]any)))
		}
		for _, register := range MandatoryRegisters(platform) {
			if !slices.Contains(def["required"].([]any), any(register)) {
				t.Errorf("%s: the schema does not require %s", platform, register)
			}
		}
	}
	for _, row := range registerTable {
		predicate := sampleRelease().Predicate.(*Release)
		predicate.Measurements = []Measurement{{Platform: row.platform, Shape: "s", Registers: sampleRegisters(row.platform)}}
		schema := compileSchema(t, "release")
		if err := validatePredicate(t, schema, predicate); err != nil {
			t.Errorf("%s: %v", row.platform, err)
		}
		predicate.Measurements[0].Registers[row.register] = Register{OneOf: []string{hexBytes(row.bytes+1, "x")}}
		if err := validatePredicate(t, schema, predicate); err == nil {
			t.Errorf("%s %s: the schema takes a value that is too long", row.platform, row.register)
		}
	}
}

func validatePredicate(t *testing.T, schema *jsonschema.Schema, p *Release) error {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(doc)
}
