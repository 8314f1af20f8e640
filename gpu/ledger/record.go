// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/gpu/nvml"
)

// State is how far a slice is on its way.
type State string

// The states; see the package's comment.
const (
	Intent    State = "Intent"
	GICreated State = "GICreated"
	CIIntent  State = "CIIntent"
	Ready     State = "Ready"
	Releasing State = "Releasing"
	Zombie    State = "Zombie"
	Idle      State = "Idle"
)

// next are the transitions; from each state a record may also be removed.
var next = map[State][]State{
	"":        {Intent},
	Intent:    {GICreated, Releasing},
	GICreated: {CIIntent, Releasing},
	CIIntent:  {Ready, Releasing},
	Ready:     {Releasing},
	Releasing: {Releasing, Zombie, Idle},
	Idle:      {GICreated, Releasing},
	Zombie:    {Releasing, Zombie},
}

// Record is one slice.
type Record struct {
	ID      string      `json:"id"` // 32 hex digits
	State   State       `json:"state"`
	BootID  string      `json:"boot_id"`
	Driver  nvml.Driver `json:"driver"`
	GPU     string      `json:"gpu"` // UUID
	BusID   string      `json:"bus_id"`
	Profile int         `json:"profile"` // NVML's id
	Name    string      `json:"name"`    // of the profile
	Place   nvml.Place  `json:"place"`
	// Before are the GPU instances that were there at Intent.
	Before []Known    `json:"before"`
	GI     *int       `json:"gi,omitempty"`  // from GICreated on
	CI     *int       `json:"ci,omitempty"`  // from Ready on
	MIG    string     `json:"mig,omitempty"` // the MIG device's UUID, from when it is known
	Owner  nvml.Owner `json:"owner"`
	Began  time.Time  `json:"began"`
	Wrote  time.Time  `json:"wrote"`           // the state
	Until  time.Time  `json:"until,omitzero"`  // how long it is kept Idle
	Error  string     `json:"error,omitempty"` // of the last try to destroy it
}

// maxError bounds Record.Error, in bytes: a record is less than a page.
const maxError = 512

// Known is a GPU instance that was not made for the record.
type Known struct {
	GI    int        `json:"gi"`
	Place nvml.Place `json:"place"`
}

// NewID is a name for a record: nothing of the owner's is in it, and no two are the same.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

func isID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// Same says that both are of one loading of the driver.
func (r *Record) Same(now Now) bool {
	return r.BootID == now.BootID && r.Driver == now.Driver
}

func (r *Record) check() error {
	_, known := next[r.State]
	switch {
	case !isID(r.ID):
		return fmt.Errorf("id %q", r.ID)
	case !known || r.State == "":
		return fmt.Errorf("state %q", r.State)
	case !nvml.IsBusID(r.BusID) || r.Place.Size <= 0 || r.Place.Start < 0:
		return fmt.Errorf("place %+v of GPU %q", r.Place, r.BusID)
	case r.GI == nil && (r.State == GICreated || r.State == CIIntent || r.State == Ready || r.State == Idle), r.State == Ready && (r.CI == nil || r.MIG == ""):
		return fmt.Errorf("%s without its instance", r.State)
	}
	return r.Owner.Check()
}

// envelope is what is in the file: the sum is that of the record's bytes.
type envelope struct {
	SHA256 string          `json:"sha256"`
	Record json.RawMessage `json:"record"`
}

func encode(r *Record) ([]byte, error) {
	record, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(record)
	return json.Marshal(envelope{SHA256: hex.EncodeToString(sum[:]), Record: record})
}

var errTorn = errors.New("the checksum is wrong")

func decode(data []byte) (*Record, error) {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(e.Record); hex.EncodeToString(sum[:]) != e.SHA256 {
		return nil, errTorn
	}
	r := new(Record)
	if err := json.Unmarshal(e.Record, r); err != nil {
		return nil, err
	}
	return r, r.check()
}
