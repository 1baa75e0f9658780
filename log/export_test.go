package log

import "github.com/transparency-dev/tessera"

// WrapAdd puts a wrapper around Tessera's Add, for storage that fails.
func (l *Log) WrapAdd(wrap func(tessera.AddFn) tessera.AddFn) { l.appender.add = wrap(l.appender.add) }
