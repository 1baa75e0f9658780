package monitor

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Code names a kind of alert. The list is closed: [Codes].
type Code string

// The kinds of alerts.
const (
	Fork               Code = "monitor/fork"
	StatementLost      Code = "monitor/statement-lost"
	NotReproduced      Code = "monitor/not-reproduced"
	Disagreement       Code = "monitor/rebuilders-disagree"
	ConflictingRelease Code = "monitor/conflicting-release"
	UnknownPublisher   Code = "monitor/unknown-publisher"
	UnknownSigner      Code = "monitor/unknown-signer"
	UnloggedRelease    Code = "monitor/unlogged-release"
	WithdrawnRelease   Code = "monitor/withdrawn-release"
	EpochDecreased     Code = "monitor/epoch-decreased"
	ChannelRollback    Code = "monitor/channel-rollback"
	BadSignature       Code = "monitor/bad-signature"
	Malformed          Code = "monitor/malformed-entry"
	StaleLog           Code = "monitor/stale-log"
	CannotFollow       Code = "monitor/cannot-follow"
	CannotRebuild      Code = "monitor/cannot-rebuild"
	CannotPublish      Code = "monitor/cannot-publish"
	LimitReached       Code = "monitor/limit-reached"
)

// CodeInfo says what a code means, in sentences for people.
type CodeInfo struct {
	Code Code `json:"code"`
	// Cause is what was seen and what it means.
	Cause string `json:"cause"`
	// Mend is what to do about it.
	Mend string `json:"mend"`

	// limited alerts are those that somebody who can write to the log can cause
	// at will; only so many of one code are written in a day.
	limited bool
}

// Codes returns the closed list of alerts, the gravest first.
func Codes() []CodeInfo { return slices.Clone(codes) }

var codes = []CodeInfo{
	{Fork,
		"The log signed two trees that do not agree: it shows different people different logs. Both signed checkpoints are in the folder evidence; together they prove it to anybody.",
		"Stop relying on the log. Send both checkpoints to its operator, its witnesses and everybody who uses it. The monitor follows this log no further.",
		false},
	{StatementLost,
		"The log answered that it had taken the monitor's rebuild statement, and its tree does not have it there.",
		"Ask the operator whether storage was lost or put back from a backup; either breaks the log's promise. The monitor sends the same bytes again.",
		false},
	{NotReproduced,
		"The release's source gives other bits, or other registers, than those released. The difference is in the folder evidence.",
		"Do not run the release, and tell its publisher. Rebuild it on another machine (vitrine rebuild): either the build is not reproducible, or what was released is not what its source says.",
		false},
	{Disagreement,
		"Another rebuilder of the policy says reproduced where this monitor got other bits, or the other way round.",
		"Rebuild the release on a third machine. One of the two machines is wrong, lies or was broken into, or the build is not reproducible.",
		true},
	{ConflictingRelease,
		"One version of the product was released twice, with different contents.",
		"Ask the publisher which of the two is meant. A version is said once; a log of ours refuses the second, so look at the log too.",
		true},
	{UnknownPublisher,
		"A release of the product is signed by a key that is no publisher of the policy.",
		"If the publisher has a new key, add it to the policy. If not, somebody releases in its name, and the log admits that.",
		true},
	{UnknownSigner,
		"A channel statement or a withdrawal is signed by a key that may not make one by the policy.",
		"If the key is meant to, add it to the policy. If not, tell the log's operator whom the log admits.",
		true},
	{UnloggedRelease,
		"The channel lists as current a release that no publisher has put into the log.",
		"Ask whoever signs the channel. Clients refuse that release.",
		true},
	{WithdrawnRelease,
		"The channel lists as current what was withdrawn, or a new release contains it.",
		"Ask whoever signs the channel or the release. Clients refuse what is withdrawn until it is reinstated.",
		true},
	{EpochDecreased,
		"A release has a lower security epoch than an earlier one.",
		"Ask the publisher. Clients that have seen the higher epoch refuse this release, which is what the epoch is for.",
		true},
	{ChannelRollback,
		"A channel statement has a sequence number that does not grow.",
		"Ask whoever signs the channel: either two machines sign at once, or somebody brings an older list back.",
		true},
	{BadSignature,
		"An entry is not signed by the key that it names.",
		"Tell the log's operator: a log checks signatures before it takes an entry.",
		true},
	{Malformed,
		"The log holds an entry that is not a statement in the form that it may take.",
		"Tell the log's operator: a log checks the form before it takes an entry.",
		true},
	{StaleLog,
		"No checkpoint that the policy's quorum cosigned recently enough can be had. Clients will refuse the log's receipts, or do so already.",
		"Look whether the log answers and whether its witnesses do. If only this monitor cannot reach it, look at the network.",
		false},
	{CannotFollow,
		"The log publishes cosigned checkpoints, but does not show that they extend the last one, or does not serve their entries.",
		"Ask the operator. A log that hides its tiles may be hiding a fork: compare checkpoints with others who follow it.",
		false},
	{CannotRebuild,
		"This machine could not try to rebuild a release: disk, memory or network fail it.",
		"Read the detail and mend the machine. Nothing is said about the release until then.",
		false},
	{CannotPublish,
		"The log does not take the monitor's rebuild statement.",
		"If the key is not admitted, give it to the log's operator. If the log refuses what it should take, tell those who use it: the statement is in the folder statements.",
		false},
	{LimitReached,
		"There is more than the monitor remembers or writes down; the detail says of what. It counts the rest.",
		"Look at what there is so much of. Somebody may be trying to drown an alert that matters.",
		false},
}

// Info returns the entry of a code in the closed list.
func (c Code) Info() (CodeInfo, bool) {
	i := slices.IndexFunc(codes, func(e CodeInfo) bool { return e.Code == c })
	if i < 0 {
		return CodeInfo{}, false
	}
	return codes[i], true
}

// An Alert is something that a person should look at. It is a line of the file
// alerts.jsonl.
type Alert struct {
	// Number counts a monitor's alerts from 1.
	Number int64     `json:"number"`
	Time   time.Time `json:"time"`
	Code   Code      `json:"code"`
	Index  *int64    `json:"index,omitempty"` // of the entry, where there is one
	Detail string    `json:"detail"`
	// Evidence names files in the monitor's folder that prove it to others.
	Evidence []string `json:"evidence,omitempty"`
}

// maxDetailBytes bounds what of a stranger's words an alert repeats.
const maxDetailBytes = 1024

// plain makes of a text that may quote strangers one that is safe to print: one
// line, nothing that moves a cursor or turns the writing round.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) <= maxDetailBytes {
		return s
	}
	cut := maxDetailBytes - len("…")
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
