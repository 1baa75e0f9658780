package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	model = "hello-1"

	maxBodyBytes = 1 << 20
	maxMessages  = 256
	maxTokens    = 4096

	// chunkPause lies between two chunks of a stream. A reply has at least
	// minChunks of them, so that a stream lasts long enough to be told from an
	// answer that arrives at once.
	chunkPause = 50 * time.Millisecond
	minChunks  = 9
)

// chatRequest is as much of OpenAI's CreateChatCompletionRequest as matters
// here. Clients send many more members, which change nothing about this model.
type chatRequest struct {
	Model         string    `json:"model"`
	Messages      []message `json:"messages"`
	Stream        bool      `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	MaxTokens           *int `json:"max_tokens"`
	MaxCompletionTokens *int `json:"max_completion_tokens"`
	N                   *int `json:"n"`
}

type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is a string, or a list of parts of which only text is understood.
type content string

func (c *content) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*c = content(s)
		return nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return errors.New("content is neither a string nor a list of parts")
	}
	var all strings.Builder
	for _, p := range parts {
		if p.Type != "text" {
			return fmt.Errorf("content part of type %q: this model reads text only", p.Type)
		}
		all.WriteString(p.Text)
	}
	*c = content(all.String())
	return nil
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

type choice struct {
	Index        int     `json:"index"`
	Message      *reply  `json:"message,omitempty"`
	Delta        *reply  `json:"delta,omitempty"`
	FinishReason *string `json:"finish_reason"`
}

type reply struct {
	Role    string `json:"role,omitempty"`
	Content string `json:"content"`
}

type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
}

type handler struct {
	*http.ServeMux
	now func() time.Time
}

func newHandler(now func() time.Time) http.Handler {
	h := &handler{http.NewServeMux(), now}
	h.HandleFunc("GET /v1/models", h.models)
	h.HandleFunc("GET /v1/models/{model}", h.model)
	h.HandleFunc("POST /v1/chat/completions", h.chat)
	h.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "not_found", fmt.Sprintf("there is no %s %s here", r.Method, r.URL.Path))
	})
	return h
}

var description = map[string]any{"id": model, "object": "model", "created": 1764028800, "owned_by": "vitrine"}

func (h *handler) models(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"object": "list", "data": []any{description}})
}

func (h *handler) model(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("model") != model {
		refuse(w, http.StatusNotFound, "model_not_found", "the only model here is "+model)
		return
	}
	answer(w, http.StatusOK, description)
}

func (h *handler) chat(w http.ResponseWriter, r *http.Request) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "invalid_request_error", "send application/json")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, "invalid_request_error", fmt.Sprintf("the request has more than %d bytes", maxBodyBytes))
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, "invalid_request_error", "the request did not arrive whole")
		return
	}
	q, status, err := parseChat(body)
	if err != nil {
		refuse(w, status, "invalid_request_error", err.Error())
		return
	}
	words, finish := think(q)
	sum := sha256.Sum256(body)
	c := completion{ID: "chatcmpl-" + hex.EncodeToString(sum[:12]), Created: h.now().Unix(), Model: model}
	u := &usage{CompletionTokens: len(words)}
	for _, m := range q.Messages {
		u.PromptTokens += len(strings.Fields(string(m.Content)))
	}
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	if q.Stream {
		stream(w, r, c, words, finish, u, q.StreamOptions != nil && q.StreamOptions.IncludeUsage)
		return
	}
	c.Object, c.Usage = "chat.completion", u
	c.Choices = []choice{{Message: &reply{"assistant", strings.Join(words, "")}, FinishReason: &finish}}
	answer(w, http.StatusOK, c)
}

// parseChat reads a request and gives the HTTP status of its refusal.
func parseChat(body []byte) (*chatRequest, int, error) {
	if !utf8.Valid(body) {
		return nil, http.StatusBadRequest, errors.New("the request is not UTF-8")
	}
	q := &chatRequest{}
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(q); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("the request is not the JSON of a chat completion: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, http.StatusBadRequest, errors.New("the request has something behind its JSON object")
	}
	if q.Model != model {
		return nil, http.StatusNotFound, fmt.Errorf("model %q does not exist: the only one here is %s", q.Model, model)
	}
	if len(q.Messages) == 0 || len(q.Messages) > maxMessages {
		return nil, http.StatusBadRequest, fmt.Errorf("%d messages: expected 1 to %d", len(q.Messages), maxMessages)
	}
	for i, m := range q.Messages {
		switch m.Role {
		case "system", "developer", "user", "assistant":
		default:
			return nil, http.StatusBadRequest, fmt.Errorf("messages[%d]: role %q is not system, developer, user or assistant", i, m.Role)
		}
	}
	if q.N != nil && *q.N != 1 {
		return nil, http.StatusBadRequest, errors.New("n: this model gives one answer")
	}
	for _, n := range []*int{q.MaxTokens, q.MaxCompletionTokens} {
		if n != nil && (*n < 1 || *n > maxTokens) {
			return nil, http.StatusBadRequest, fmt.Errorf("max_tokens: expected 1 to %d", maxTokens)
		}
	}
	return q, 0, nil
}

// think is the model: the same request gives the same words.
func think(q *chatRequest) (words []string, finish string) {
	said := ""
	for _, m := range q.Messages {
		if m.Role == "user" {
			said = string(m.Content)
		}
	}
	text := "Hello from inside the glass case. You said: " + strings.Join(strings.Fields(said), " ")
	words = strings.SplitAfter(text, " ")
	limit := maxTokens
	for _, n := range []*int{q.MaxTokens, q.MaxCompletionTokens} {
		if n != nil {
			limit = min(limit, *n)
		}
	}
	if len(words) > limit {
		return words[:limit], "length"
	}
	return words, "stop"
}

// stream sends the reply as server-sent events, in at least minChunks chunks.
func stream(w http.ResponseWriter, r *http.Request, c completion, words []string, finish string, u *usage, withUsage bool) {
	c.Object = "chat.completion.chunk"
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flusher := http.NewResponseController(w)
	send := func(choices ...choice) bool {
		c.Choices = append([]choice{}, choices...)
		b, err := json.Marshal(c)
		if err != nil {
			return false
		}
		_, err = fmt.Fprintf(w, "data: %s\n\n", b)
		return err == nil && flusher.Flush() == nil
	}
	// A long reply goes out in pieces of several words: its length must not
	// decide how long the connection stays open.
	each := max(1, len(words)/64)
	pieces := 0
	for i := 0; i < len(words); i += each {
		if !send(choice{Delta: &reply{role(i), strings.Join(words[i:min(i+each, len(words))], "")}}) || !pause(r) {
			return
		}
		pieces++
	}
	for ; pieces < minChunks; pieces++ { // max_tokens cut the reply short
		if !send(choice{Delta: &reply{}}) || !pause(r) {
			return
		}
	}
	if !send(choice{Delta: &reply{}, FinishReason: &finish}) {
		return
	}
	if withUsage {
		c.Usage = u
		if !send() {
			return
		}
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
	_ = flusher.Flush()
}

func role(i int) string {
	if i == 0 {
		return "assistant"
	}
	return ""
}

// pause waits between two chunks; false when the client has gone.
func pause(r *http.Request) bool {
	select {
	case <-time.After(chunkPause):
		return true
	case <-r.Context().Done():
		return false
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":{"message":"the answer cannot be encoded"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// refuse answers in the form of OpenAI's errors, which its clients show.
func refuse(w http.ResponseWriter, status int, code, text string) {
	answer(w, status, map[string]any{"error": map[string]any{"message": text, "type": "invalid_request_error", "param": nil, "code": code}})
}
