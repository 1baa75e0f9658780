package builder

import (
	"os"
	"path/filepath"
	"testing"
)

const recipesDir = "../testdata/recipes"

func TestShippedRecipesParse(t *testing.T) {
	recipes, err := filepath.Glob(recipesDir + "/*/image.yaml")
	if err != nil || len(recipes) < 3 {
		t.Fatalf("found the recipes %q: %v", recipes, err)
	}
	for _, name := range recipes {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRecipe(name, b); err != nil {
			t.Error(err)
		}
	}
}
