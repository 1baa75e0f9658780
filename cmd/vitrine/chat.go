package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-dev/vitrine/verifier"
)

const (
	maxPromptBytes = 4 << 20
	maxEventBytes  = 1 << 20
	maxAnswerBytes = 64 << 20
)

func newChat() *cobra.Command {
	c := &cobra.Command{
		Use:   "chat URL PROMPT",
		Short: "Check a node, and only then send it a prompt",
		Long: `Check the node at URL against the policy, print the verdict, and only if it is
accepted send PROMPT (OpenAI chat completions, streaming) over the very connection
that was checked, and print the answer as it comes. The PROMPT - is read from
standard input.

Exit status 0: accepted, and answered in full. 1: the policy does not accept the node,
and nothing was sent. 2: there was no answer.`,
		Example: `  vitrine chat https://inference.example.com "What is a vitrine?" --policy policy.yaml
  vitrine chat https://inference.example.com - --policy policy.yaml < question.txt`,
		Args: arguments,
	}
	f := addClientFlags(c)
	model := c.Flags().String("model", "hello", "`NAME` of the model")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		prompt := args[1]
		if prompt == stdin {
			text, err := readFile(stdin, maxPromptBytes)
			if err != nil {
				return err
			}
			prompt = string(text)
		}
		opts, err := f.options()
		if err != nil {
			return err
		}
		var verdict *verifier.Verdict
		transport, err := verifier.NewTransport(verifier.TransportOptions{
			Options: opts,
			OnVerdict: func(_ string, v *verifier.Verdict, err error) {
				// Before a byte of the prompt goes out. A refusal is printed where
				// it ends the command.
				if err == nil && verdict == nil && !*asJSON {
					printVerdict(c, v, nil, false)
				}
				verdict = v
			},
		})
		if err != nil {
			return err
		}
		defer transport.CloseIdleConnections()
		answer, err := chat(c, &http.Client{Transport: transport}, args[0], *model, prompt, *asJSON)
		if err != nil && verdict == nil {
			verdict, err = refusedEarly(err, verifier.Verdict{Policy: opts.Policy.Name, Time: timeNow()})
		}
		if err != nil || answer == nil {
			return printVerdict(c, verdict, err, *asJSON)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"verdict": verdict, "answer": answer})
		}
		return nil
	}
	return c
}

// answer is what a model said, and when.
type answer struct {
	Text         string `json:"text"`
	Chunks       int    `json:"chunks"`
	FirstToLast  int64  `json:"firstToLastMilliseconds"`
	first, final time.Time
}

// chat sends a prompt and reads the streamed answer, which it prints as it comes
// unless it is to be quiet.
func chat(c *cobra.Command, client *http.Client, url, model, prompt string, quiet bool) (*answer, error) {
	body, err := json.Marshal(map[string]any{
		"model": model, "stream": true,
		"messages": []map[string]string{{"role": "user", "content": prompt}},
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(c.Context(), http.MethodPost, strings.TrimSuffix(url, "/")+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the inference server answered %s", resp.Status)
	}
	a := &answer{}
	lines := bufio.NewScanner(io.LimitReader(resp.Body, maxAnswerBytes))
	lines.Buffer(nil, maxEventBytes)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			if !quiet {
				fmt.Fprintln(c.OutOrStdout())
			}
			a.FirstToLast = a.final.Sub(a.first).Milliseconds()
			return a, nil
		}
		var event struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil || len(event.Choices) == 0 {
			return nil, errors.New("the inference server sent something else than chat completion chunks")
		}
		text := event.Choices[0].Delta.Content
		if text == "" {
			continue
		}
		if a.final = time.Now(); a.Chunks == 0 {
			a.first = a.final
		}
		a.Chunks++
		a.Text += text
		if !quiet {
			fmt.Fprint(c.OutOrStdout(), printable(text))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return nil, errors.New("the answer ended before its end was said")
}

// oneLine is printable for what has one line of its own.
func oneLine(s string) string {
	return strings.NewReplacer("\n", "\uFFFD", "\t", "\uFFFD").Replace(printable(s))
}

// printable keeps what a server sends from moving the cursor of a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}
