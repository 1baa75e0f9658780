module github.com/vitrine-dev/vitrine/testdata/recipes/hello-inference/server

go 1.26.0
