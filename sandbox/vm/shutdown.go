// SPDX-License-Identifier: Apache-2.0

package vm

import "encoding/json"

// shutdownReason is the reason in the monitor's event SHUTDOWN.
func shutdownReason(data json.RawMessage) string {
	var d struct {
		Reason string `json:"reason"`
	}
	if json.Unmarshal(data, &d) != nil || len(d.Reason) > 64 {
		return "unknown"
	}
	return d.Reason
}

// guestEnded turns the monitor's reason (ShutdownCause, qapi/run-state.json)
// into ours.
func guestEnded(said string) (Reason, string) {
	switch said {
	case "guest-shutdown":
		return PoweredOff, ""
	case "guest-reset", "guest-panic":
		return Reset, ""
	}
	return VMMEnded, printable([]byte(said), 64)
}
