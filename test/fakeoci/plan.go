// SPDX-License-Identifier: Apache-2.0

package fakeoci

// PlanAnnotation of a config.json names the plan's file.
const PlanAnnotation = "berth.test/plan"

// PlanFile is the plan's name in a bundle or under --root; LogFile that of the call log.
const (
	PlanFile = "fakeoci.json"
	LogFile  = "fakeoci.log"
)

// Plan says how the runtime misbehaves; doc.go has the meaning of the keys.
type Plan struct {
	Log   string          `json:"log,omitempty"`
	Verbs map[string]Verb `json:"verbs,omitempty"`
}

// Verb is the plan for one verb.
type Verb struct {
	Reached    string `json:"reached,omitempty"`
	Before     string `json:"before,omitempty"`
	Worked     string `json:"worked,omitempty"`
	After      string `json:"after,omitempty"`
	Hang       string `json:"hang,omitempty"`
	Fail       *Fail  `json:"fail,omitempty"`
	Stderr     int    `json:"stderr,omitempty"`
	PidFile    string `json:"pidFile,omitempty"`
	InitExit   *int   `json:"initExit,omitempty"`
	UntilDead  bool   `json:"untilDead,omitempty"`
	DoubleFork bool   `json:"doubleFork,omitempty"`
	Times      int    `json:"times,omitempty"`
}

// Fail makes a verb fail.
type Fail struct {
	Message   string `json:"message,omitempty"`
	ExitCode  int    `json:"exitCode,omitempty"`
	AfterWork bool   `json:"afterWork,omitempty"`
	RawLog    string `json:"rawLog,omitempty"`
	Silent    bool   `json:"silent,omitempty"`
}

// Call is one line of the call log.
type Call struct {
	Phase string   `json:"phase"` // "begin" or "end"
	Verb  string   `json:"verb"`  // as "exec"
	Key   string   `json:"key"`   // as "exec:ID" for an exec, else the verb
	ID    string   `json:"id"`    // of the container
	Pid   int      `json:"pid"`   // of the runtime
	Args  []string `json:"args"`  // all of them
	Dir   string   `json:"dir"`
	Env   []string `json:"env"`
	Stdin string   `json:"stdin,omitempty"` // what `update` was given; in the end line
	Made  int      `json:"made,omitempty"`  // pid of the process made; in the end line
	Exit  int      `json:"exit"`            // in the end line
}
