package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func newServer(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(newHandler(func() time.Time { return time.Unix(1764028800, 0) }))
	t.Cleanup(s.Close)
	return s
}

func post(t *testing.T, url, contentType, body string) (*http.Response, string) {
	t.Helper()
	res, err := http.Post(url+"/v1/chat/completions", contentType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

const question = `{"model":"hello-1","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"good "},{"type":"text","text":"morning"}]}],"temperature":0}`

func TestModels(t *testing.T) {
	s := newServer(t)
	for path, want := range map[string]string{
		"/v1/models":         `{"data":[{"created":1764028800,"id":"hello-1","object":"model","owned_by":"vitrine"}],"object":"list"}`,
		"/v1/models/hello-1": `{"created":1764028800,"id":"hello-1","object":"model","owned_by":"vitrine"}`,
	} {
		res, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || strings.TrimSpace(string(b)) != want {
			t.Errorf("%s gives %s %s, %v", path, res.Status, b, err)
		}
	}
}

func TestChat(t *testing.T) {
	s := newServer(t)
	res, body := post(t, s.URL, "application/json; charset=utf-8", question)
	var c completion
	if err := json.Unmarshal([]byte(body), &c); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("got %s, %s, %v", res.Status, body, err)
	}
	if got, want := c.Choices[0].Message.Content, "Hello from inside the glass case. You said: good morning"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if c.Object != "chat.completion" || *c.Choices[0].FinishReason != "stop" || *c.Usage != (usage{4, 10, 14}) {
		t.Errorf("got %s", body)
	}
	if _, again := post(t, s.URL, "application/json", question); again != body {
		t.Errorf("the same question gets another answer: %s", again)
	}
}

// TestStream wants the answer spread over time, since a client's test of
// streaming compares the arrival of the first chunk with that of the last.
func TestStream(t *testing.T) {
	s := newServer(t)
	for name, c := range map[string]struct {
		add    string
		want   string
		finish string
	}{
		"whole": {`,"stream":true,"stream_options":{"include_usage":true}`, "Hello from inside the glass case. You said: good morning", "stop"},
		"cut":   {`,"stream":true,"max_tokens":2`, "Hello from ", "length"},
	} {
		t.Run(name, func(t *testing.T) {
			body := strings.TrimSuffix(question, "}") + c.add + "}"
			res, err := http.Post(s.URL+"/v1/chat/completions", "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
				t.Errorf("the content type is %q", got)
			}
			var first, last time.Time
			var text strings.Builder
			finish, used, done := "", false, false
			lines := bufio.NewScanner(res.Body)
			for lines.Scan() {
				data, ok := strings.CutPrefix(lines.Text(), "data: ")
				if !ok {
					continue
				}
				if last = time.Now(); first.IsZero() {
					first = last
				}
				if data == "[DONE]" {
					done = true
					break
				}
				var chunk completion
				if err := json.Unmarshal([]byte(data), &chunk); err != nil || chunk.Object != "chat.completion.chunk" {
					t.Fatalf("chunk %s: %v", data, err)
				}
				for _, choice := range chunk.Choices {
					text.WriteString(choice.Delta.Content)
					if choice.FinishReason != nil {
						finish = *choice.FinishReason
					}
				}
				used = used || chunk.Usage != nil
			}
			if text.String() != c.want || finish != c.finish || !done || used != strings.Contains(c.add, "usage") {
				t.Errorf("got %q, finish %q, done %v, usage %v", text.String(), finish, done, used)
			}
			if took := last.Sub(first); took < 300*time.Millisecond {
				t.Errorf("the stream took %v, less than 300 ms", took)
			}
		})
	}
}

func TestChatRefuses(t *testing.T) {
	s := newServer(t)
	const user = `"messages":[{"role":"user","content":"x"}]`
	for name, c := range map[string]struct {
		contentType, body string
		status            int
		want              string
	}{
		"no JSON":          {"application/json", "hello", 400, "not the JSON"},
		"two objects":      {"application/json", `{"model":"hello-1",` + user + `}{}`, 400, "behind"},
		"a form":           {"text/plain", question, 415, "application/json"},
		"no type":          {"", question, 415, "application/json"},
		"not UTF-8":        {"application/json", "{\"model\":\"\xff\"}", 400, "UTF-8"},
		"no model":         {"application/json", `{` + user + `}`, 404, "does not exist"},
		"another model":    {"application/json", `{"model":"gpt",` + user + `}`, 404, "hello-1"},
		"no message":       {"application/json", `{"model":"hello-1","messages":[]}`, 400, "expected 1"},
		"many messages":    {"application/json", `{"model":"hello-1","messages":[` + strings.Repeat(`{"role":"user","content":"x"},`, maxMessages) + `{"role":"user","content":"x"}]}`, 400, "expected 1"},
		"an unknown role":  {"application/json", `{"model":"hello-1","messages":[{"role":"root","content":"x"}]}`, 400, "role"},
		"an image":         {"application/json", `{"model":"hello-1","messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, "text only"},
		"a number to read": {"application/json", `{"model":"hello-1","messages":[{"role":"user","content":7}]}`, 400, "content"},
		"two answers":      {"application/json", `{"model":"hello-1","n":2,` + user + `}`, 400, "one answer"},
		"no tokens":        {"application/json", `{"model":"hello-1","max_tokens":0,` + user + `}`, 400, "max_tokens"},
		"too large":        {"application/json", `{"model":"` + strings.Repeat("x", maxBodyBytes) + `"}`, 413, "more than"},
		"deep nesting":     {"application/json", strings.Repeat("[", 100000), 400, "JSON"},
	} {
		res, body := post(t, s.URL, c.contentType, c.body)
		var e struct {
			Error struct{ Message, Code string }
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil || res.StatusCode != c.status || !strings.Contains(e.Error.Message, c.want) {
			t.Errorf("%s: got %s, %.200s, want %d and %q", name, res.Status, body, c.status, c.want)
		}
	}
	res, err := http.Get(s.URL + "/v1/completions")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown route gives %s", res.Status)
	}
}

func TestServeOnlyOnLoopback(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	for _, address := range []string{":8000", "0.0.0.0:8000", "10.0.2.15:8000", "localhost:8000", "8000", ""} {
		if err := serve(t.Context(), address, logger); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%q gives %v", address, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := serve(ctx, "127.0.0.1:0", logger); err != nil {
		t.Errorf("serving and stopping gives %v", err)
	}
}
