// Package logtest stands up real logs and witnesses, in this process or in
// others that can be killed, for the tests of the packages around it.
package logtest
