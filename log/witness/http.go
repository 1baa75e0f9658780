package witness

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

func (w *Witness) serveAddCheckpoint(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, int64(maxBodyBytes)))
	if err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			http.Error(rw, fmt.Sprintf("the request is longer than %d bytes", maxBodyBytes), http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(rw, "the request could not be read", http.StatusBadRequest)
		return
	}
	line, err := w.addCheckpoint(body)
	var refused *refusal
	switch {
	case err == nil:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		rw.Write(line)
	case errors.As(err, &refused) && refused.known >= 0:
		w.logger.Debug("add-checkpoint refused", "status", refused.status, "why", refused.detail)
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(refused.status)
		fmt.Fprintf(rw, "%d\n", refused.known)
	case errors.As(err, &refused):
		w.logger.Info("add-checkpoint refused", "status", refused.status, "why", refused.detail)
		http.Error(rw, refused.detail, refused.status)
	default:
		w.logger.Error("add-checkpoint failed", "error", err)
		http.Error(rw, "the witness could not remember the checkpoint", http.StatusInternalServerError)
	}
}
