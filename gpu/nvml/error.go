// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"bytes"
	"encoding/json"

	"github.com/containerd/errdefs"
)

// Error is an NVML call that went wrong.
type Error struct {
	Code    string `json:"code"`             // "ERROR_GPU_IS_LOST", as nvml.h has it without NVML_
	Symbol  string `json:"symbol,omitempty"` // the call, "nvmlDeviceGetUUID"; empty while loading
	Message string `json:"message"`          // the driver's words
}

// Codes of berth-gpu's own, beside NVML's.
const (
	CodeBadRequest = "BAD_REQUEST" // stdin was not understood
	CodeMIGOff     = "MIG_OFF"     // no GPU is in MIG mode, and none may be put there
	CodeHeld       = "HELD"        // the GPUs are somebody else's
	CodeLocked     = "LOCKED"      // another transaction had the GPU until the deadline
)

// Failure is what berth-gpu writes to stderr.
type Failure struct {
	Error *Error `json:"error"`
}

func (e *Error) Error() string {
	if e.Symbol == "" {
		return e.Message + " (" + e.Code + ")"
	}
	return e.Symbol + ": " + e.Message + " (" + e.Code + ")"
}

// Unwrap gives the class.
func (e *Error) Unwrap() error {
	switch e.Code {
	case "ERROR_NOT_FOUND", "ERROR_LIBRARY_NOT_FOUND", "ERROR_GPU_NOT_FOUND":
		return errdefs.ErrNotFound
	case "ERROR_NOT_SUPPORTED", "ERROR_FUNCTION_NOT_FOUND":
		return errdefs.ErrNotImplemented
	case "ERROR_NO_PERMISSION":
		return errdefs.ErrPermissionDenied
	case "ERROR_INVALID_ARGUMENT", CodeBadRequest:
		return errdefs.ErrInvalidArgument
	case "ERROR_INSUFFICIENT_RESOURCES":
		return errdefs.ErrResourceExhausted
	case "ERROR_IN_USE", "ERROR_RESET_REQUIRED", "ERROR_LIB_RM_VERSION_MISMATCH", CodeMIGOff, CodeHeld:
		return errdefs.ErrFailedPrecondition
	case "ERROR_DRIVER_NOT_LOADED", "ERROR_GPU_IS_LOST", "ERROR_TIMEOUT", CodeLocked:
		return errdefs.ErrUnavailable
	}
	return errdefs.ErrUnknown
}

// DecodeError finds the Failure in what berth-gpu wrote to stderr. It is nil if there is none:
// the helper died, and all that is known is its exit status.
func DecodeError(stderr []byte) *Error {
	for line := range bytes.Lines(stderr[:min(len(stderr), maxBytes)]) {
		var f Failure
		if json.Unmarshal(line, &f) == nil && f.Error != nil && f.Error.Code != "" {
			return f.Error
		}
	}
	return nil
}
