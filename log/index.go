package log

import (
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vitrine-dev/vitrine/log/statement"
)

// index is what the log remembers of its entries: of every payload the first
// entry, and of every release the payload. A payload is reserved before it is
// added, so that of two requests one adds and the other waits for it.
type index struct {
	mu       sync.Mutex
	payloads map[said]*addition
	releases map[release]statement.ID
	next     int64 // all entries known to be in are below it
}

// said is a payload, and for a rebuild who said it: two rebuilders who got the
// same bits may say so in the same words, and a policy that demands two counts
// their keys. All other payloads are said once, whoever signs them.
type said struct {
	payload statement.ID
	signer  [32]byte // the hint; zero for all but rebuilds
}

func saidOf(s *statement.Signed) said {
	k := said{payload: s.ID}
	if _, ok := s.Rebuild(); ok {
		k.signer = s.Hint
	}
	return k
}

// release names what may be said once in the life of a log.
type release struct{ product, version string }

func releaseOf(s *statement.Statement) (release, bool) {
	r, ok := s.Release()
	if !ok {
		return release{}, false
	}
	return release{r.Product, r.Version}, true
}

// An addition is a payload on its way into the log, or in it. Once done is
// closed, index and err do not change.
type addition struct {
	done  chan struct{}
	leaf  tlog.Hash // of the bundle that was taken
	from  int64     // the index will not be below it
	index int64
	err   error
}

func newIndex() *index {
	return &index{payloads: make(map[said]*addition), releases: make(map[release]statement.ID)}
}

// known gives the addition of a payload that is in the log or on its way.
func (x *index) known(s *statement.Signed) (*addition, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a, ok := x.payloads[saidOf(s)]
	return a, ok
}

// reserve gives the addition of the statement's payload. It is the caller's to
// add, and then to settle, if mine is true. The error is an *Error.
func (x *index) reserve(s *statement.Signed) (a *addition, mine bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if a, ok := x.payloads[saidOf(s)]; ok {
		return a, false, nil
	}
	if r, ok := releaseOf(s.Statement); ok {
		if other, ok := x.releases[r]; ok {
			return nil, false, errorf(Conflict, "%s %s was released with another payload, %s; a changed release needs a new version", r.product, r.version, other)
		}
		x.releases[r] = s.ID
	}
	a = &addition{done: make(chan struct{}), leaf: tlog.RecordHash(s.Leaf), from: x.next}
	x.payloads[saidOf(s)] = a
	return a, true, nil
}

// settle says that the reserved statement is in the log at i.
func (x *index) settle(a *addition, i int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.next = max(x.next, i+1)
	a.index = i
	close(a.done)
}

// release gives a reservation up: the statement is not in the log.
func (x *index) release(s *statement.Signed, a *addition, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.payloads, saidOf(s))
	if r, ok := releaseOf(s.Statement); ok {
		delete(x.releases, r)
	}
	a.err = err
	close(a.done)
}

// restore takes in an entry that is in the log already. An entry that an older
// run should not have taken is named in the error, and changes nothing: the
// first entry of a payload or release is the one that counts.
func (x *index) restore(s *statement.Signed, i int64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.next = max(x.next, i+1)
	if first, ok := x.payloads[saidOf(s)]; ok {
		return fmt.Errorf("entry %d has the payload of entry %d", i, first.index)
	}
	a := &addition{done: make(chan struct{}), leaf: tlog.RecordHash(s.Leaf), index: i}
	close(a.done)
	x.payloads[saidOf(s)] = a
	if r, ok := releaseOf(s.Statement); ok {
		if other, ok := x.releases[r]; ok {
			return fmt.Errorf("entry %d releases %s %s, as payload %s did", i, r.product, r.version, other)
		}
		x.releases[r] = s.ID
	}
	return nil
}
