package log

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"

	"filippo.io/torchwood"

	"github.com/vitrine-dev/vitrine/log/statement"
)

const (
	// maxRequests bounds the adds that are read, or wait for a receipt, at once.
	// Each holds a leaf.
	maxRequests = 2048
	// maxUploads bounds the addenda that arrive at once, each up to 64 MiB on
	// disk before it is counted.
	maxUploads = 8
)

// handler is the log over HTTP.
type handler struct {
	log     *Log
	files   fs.FS
	adds    chan struct{}
	uploads chan struct{}
}

func newHandler(l *Log, root *os.Root) http.Handler {
	h := &handler{log: l, files: root.FS(), adds: make(chan struct{}, maxRequests), uploads: make(chan struct{}, maxUploads)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add", h.add)
	mux.HandleFunc("POST /addenda", h.putAddendum)
	mux.HandleFunc("GET /checkpoint", h.checkpoint)
	mux.HandleFunc("GET /tile/", h.tile)
	mux.HandleFunc("GET /addenda/{s0}/{s1}/{digest}", h.addendum)
	return mux
}

func (h *handler) add(w http.ResponseWriter, r *http.Request) {
	select {
	case h.adds <- struct{}{}:
		defer func() { <-h.adds }()
	default:
		h.refuse(w, errorf(Unavailable, "the log is busy; try again"))
		return
	}
	leaf, err := io.ReadAll(http.MaxBytesReader(w, r.Body, statement.MaxLeafBytes))
	if err != nil {
		h.refuse(w, bodyError(err, "a leaf", statement.MaxLeafBytes))
		return
	}
	t, err := h.log.Add(r.Context(), leaf)
	if err != nil {
		h.refuse(w, err)
		return
	}
	body, err := t.Marshal()
	if err != nil {
		h.refuse(w, err)
		return
	}
	reply(w, http.StatusOK, body)
}

func (h *handler) putAddendum(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	d, err := parseDigest(query.Get("sha256"))
	if err != nil || len(query) != 1 || len(query["sha256"]) != 1 {
		h.refuse(w, errorf(Malformed, "say which bytes follow: POST /addenda?sha256=<64 lower-case hex digits>"))
		return
	}
	select {
	case h.uploads <- struct{}{}:
		defer func() { <-h.uploads }()
	default:
		h.refuse(w, errorf(Unavailable, "the log is busy with other uploads; try again"))
		return
	}
	if r.ContentLength > MaxAddendumBytes {
		h.refuse(w, errorf(TooLarge, "an addendum has at most %d bytes", MaxAddendumBytes))
		return
	}
	if err := h.log.addenda.put(d, http.MaxBytesReader(w, r.Body, MaxAddendumBytes+1)); err != nil {
		h.refuse(w, err)
		return
	}
	body, err := json.Marshal(storedAddendum{Digest: d})
	if err != nil {
		h.refuse(w, err)
		return
	}
	reply(w, http.StatusOK, body)
}

// storedAddendum is the answer to an upload.
type storedAddendum struct {
	Digest statement.Digest `json:"digest"`
}

// checkpoint serves the checkpoint that the tiles below are bounded by.
func (h *handler) checkpoint(w http.ResponseWriter, r *http.Request) {
	c, _ := h.log.board.latest()
	if c == nil {
		http.Error(w, "the log's first checkpoint was not cosigned yet", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.Write(c.Note)
}

// immutable is what is said of files that never change (tlog-tiles,
// "Conventions": tiles and bundles may be cached).
const immutable = "public, max-age=604800, immutable"

// tile serves a tile or an entry bundle of the published tree. What lies beyond
// it is not served though it may be there: after a crash it may be written
// again with other entries, and caches would keep what was never published.
func (h *handler) tile(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	t, err := torchwood.ParseTilePath(name)
	if err != nil || torchwood.TilePath(t) != name {
		http.NotFound(w, r)
		return
	}
	c, _ := h.log.board.latest()
	if c == nil || !covers(c.Size, t.L, t.N, t.W) {
		http.NotFound(w, r)
		return
	}
	h.file(w, r, name)
}

// covers reports whether a tree of that size has the tile: w hashes, or entries
// where the level is -1, from the n'th tile of the level on.
func covers(size int64, level int, n int64, w int) bool {
	shift := torchwood.TileHeight * max(level, 0)
	if shift > 62 {
		return false
	}
	// In units of the level's hashes, so that nothing overflows.
	have := size >> shift
	return n <= have/torchwood.TileWidth && n*torchwood.TileWidth+int64(w) <= have
}

func (h *handler) addendum(w http.ResponseWriter, r *http.Request) {
	d, err := parseDigest(r.PathValue("digest"))
	if err != nil || "/"+addendumPath(d) != r.URL.Path {
		http.NotFound(w, r)
		return
	}
	h.file(w, r, addendumPath(d))
}

func (h *handler) file(w http.ResponseWriter, r *http.Request, name string) {
	if _, err := fs.Stat(h.files, name); err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", immutable)
	http.ServeFileFS(w, r, h.files, name)
}

// refusal is an *Error as it is sent.
type refusal struct {
	Code   Code   `json:"code"`
	Detail string `json:"detail"`
	Index  *int64 `json:"index,omitempty"`
}

// refuse sends an error: an *Error as it is, any other as the log's own failure,
// whose words are for the operator.
func (h *handler) refuse(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		h.log.c.Logger.Error("answering a request", "error", err)
		e = errorf(Unavailable, "the log failed; its operator can see why")
	}
	body := refusal{Code: e.Code, Detail: e.Detail}
	if e.Code == NoReceipt {
		body.Index = &e.Index
	}
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	if e.Code == Unavailable {
		w.Header().Set("Retry-After", "1")
	}
	reply(w, status[e.Code], text)
}

func reply(w http.ResponseWriter, status int, json []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(json)))
	w.WriteHeader(status)
	w.Write(json)
}

// bodyError is the *Error of a body that could not be read.
func bodyError(err error, what string, limit int64) *Error {
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return errorf(TooLarge, "%s has at most %d bytes", what, limit)
	}
	return errorf(Malformed, "the request's body could not be read")
}
