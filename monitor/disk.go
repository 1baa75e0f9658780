package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vitrine-dev/vitrine/log/durable"
)

// What a monitor keeps in its folder.
const (
	stateFile     = "state.json"
	alertsFile    = "alerts.jsonl"
	evidenceDir   = "evidence"   // what proves an alert to others
	statementsDir = "statements" // what is said in the log, from before it is sent
	rebuildPrefix = "rebuild-"   // of folders in which a release is rebuilt
)

// disk is how a monitor writes what it must not forget. What either of its
// methods has written survives a power cut once it returned nil.
type disk interface {
	// write replaces a file as a whole. After an error it is the old or the new.
	write(name string, data []byte) error
	// append adds to the end of a file. After an error any part of the data may
	// be there; lastAlert knows.
	append(name string, data []byte) error
}

// folder is a monitor's folder.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

func (f folder) write(name string, data []byte) error {
	return durable.WriteFile(f.path(name), data, 0o644)
}

func (f folder) append(name string, data []byte) (err error) {
	file, err := os.OpenFile(f.path(name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err = file.Write(data); err == nil {
		err = file.Sync()
	}
	if err == nil && end == 0 {
		// The name may be new.
		err = durable.SyncDir(string(f))
	}
	return err
}

// prepare makes the folder and what is in it, and removes what a crash left
// half done. The caller holds the lock.
func (f folder) prepare() error {
	for _, dir := range []string{string(f), f.path(evidenceDir), f.path(statementsDir)} {
		if err := durable.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := durable.Sweep(dir); err != nil {
			return err
		}
	}
	left, err := filepath.Glob(f.path(rebuildPrefix + "*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		removeAll(dir)
	}
	return nil
}

// removeAll is os.RemoveAll for folders that were made read-only, as a Go module
// cache is. Nothing depends on its success.
func removeAll(dir string) {
	if os.RemoveAll(dir) == nil {
		return
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}

// maxAlertLine bounds a line of the alerts file: a detail of [maxDetailBytes],
// of which JSON may escape each, and the names of evidence.
const maxAlertLine = 16 << 10

// lastAlert gives the number of the last alert in the alerts file, 0 if there is
// none, and cuts off half a line that a crash or a full disk has left.
func (f folder) lastAlert() (int64, error) {
	file, err := os.OpenFile(f.path(alertsFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the alerts: %w", err)
	}
	defer file.Close()
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("reading the alerts: %w", err)
	}
	from := max(0, end-2*maxAlertLine)
	tail := make([]byte, end-from)
	if _, err := file.ReadAt(tail, from); err != nil {
		return 0, fmt.Errorf("reading the alerts: %w", err)
	}
	whole := tail[:bytes.LastIndexByte(tail, '\n')+1]
	if len(whole) < len(tail) {
		if len(whole) == 0 && from > 0 {
			return 0, fmt.Errorf("reading the alerts: %s does not end in lines; move it away", file.Name())
		}
		if err := errors.Join(file.Truncate(from+int64(len(whole))), file.Sync()); err != nil {
			return 0, fmt.Errorf("cutting half an alert off %s: %w", file.Name(), err)
		}
	}
	lines := bytes.Split(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))
	last := lines[len(lines)-1]
	if len(last) == 0 {
		return 0, nil
	}
	var a Alert
	if err := json.Unmarshal(last, &a); err != nil || a.Number < 1 {
		return 0, fmt.Errorf("reading the alerts: the last line of %s is not an alert; move the file away", file.Name())
	}
	return a.Number, nil
}

// encodeAlerts writes alerts as lines.
func encodeAlerts(alerts []Alert) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, a := range alerts {
		if err := enc.Encode(a); err != nil {
			return nil, fmt.Errorf("writing an alert: %w", err)
		}
	}
	return b.Bytes(), nil
}
