package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/log"
	"github.com/vitrine-dev/vitrine/log/statement"
)

// statementFlags are those of the commands that make a statement about releases.
type statementFlags struct {
	logFlags
	key    *string
	out    *string
	asJSON *bool
}

func addStatementFlags(c *cobra.Command) statementFlags {
	f := statementFlags{
		logFlags: addLogFlags(c),
		key:      c.Flags().String("key", "", "`FILE` of the key that signs"),
		out:      c.Flags().String("out", "", "`FILE` (ending in .json) for the payload; the signed bytes are kept beside it"),
		asJSON:   jsonFlag(c),
	}
	require(c, "key", "out")
	return f
}

// publish writes the payload, and then does what vitrine publish does with it.
func (f statementFlags) publish(c *cobra.Command, client *log.Client, s *statement.Statement) error {
	if _, err := readPrivateKey(*f.key); err != nil {
		return err
	}
	payload, err := s.Payload()
	if err != nil {
		return err
	}
	base, ok := strings.CutSuffix(*f.out, ".json")
	if !ok || filepath.Base(*f.out) == ".json" {
		return fmt.Errorf("--out %s does not end in .json; name a file such as channel-1.json", *f.out)
	}
	again := fmt.Sprintf("vitrine publish %s --log-policy %s", *f.out, *f.policy)
	if *f.url != "" {
		again += " --log " + *f.url
	}
	if _, err := os.Lstat(*f.out); err == nil {
		return fmt.Errorf("%s exists; to send it again: %s", *f.out, again)
	}
	if err := writeNew(newFile{*f.out, append(payload, '\n'), 0o644}); err != nil {
		return err
	}
	return (&submission{base: base, payload: payload, again: again, made: []string{*f.out}}).publish(c, client, *f.key, *f.asJSON)
}

// releases reads the transparent statements that a command was given.
func releases(client *log.Client, paths []string) (all []*statement.Signed, product string, err error) {
	for _, path := range paths {
		signed, _, err := readRelease(client, path)
		if err != nil {
			return nil, "", err
		}
		switch p := signed.Statement.Product(); {
		case product == "":
			product = p
		case product != p:
			return nil, "", fmt.Errorf("%s is a release of %s, and the others are of %s; make one statement for each product", path, p, product)
		}
		all = append(all, signed)
	}
	return all, product, nil
}
