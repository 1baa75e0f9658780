module vitrine.test/program

go 1.26.0
