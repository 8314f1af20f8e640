// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"errors"
	"slices"

	"berth/gpu/ledger"
	"berth/gpu/mig"
	wire "berth/gpu/nvml"
)

// counted is acquire, whose refusals are counted for `berth gpu metrics`. That they cannot be is no
// reason to say anything else.
func counted(t *transaction) (any, error) {
	asks := t.Asks
	answer, err := acquire(t)
	if err != nil {
		var names []string
		for _, a := range asks {
			if name := t.known(a); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		for _, name := range names {
			_ = ledger.Refuse(t.Run, name, reason(err))
		}
	}
	return answer, err
}

// known is the profile of an ask if a GPU has it: the text is the container's, and may be any.
func (t *transaction) known(a wire.MIGAsk) string {
	if a.Profile == "" {
		return "by memory"
	}
	for _, g := range t.gpus {
		if slices.ContainsFunc(g.Profiles, func(p mig.Profile) bool { return p.Name == a.Profile }) {
			return a.Profile
		}
	}
	return "other"
}

func reason(err error) string {
	var failed *wire.Error
	if !errors.As(err, &failed) {
		return "host"
	}
	switch failed.Code {
	case "ERROR_INSUFFICIENT_RESOURCES":
		return "room"
	case wire.CodeHeld:
		return "held"
	case wire.CodeMIGOff:
		return "mode"
	case wire.CodeLocked:
		return "busy"
	case wire.CodeBadRequest:
		return "request"
	}
	return "driver"
}
