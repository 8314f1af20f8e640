// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"fmt"
	"strings"
)

// gpuNames brings the names of GPUs into the forms that the driver and NVML
// have, so that they are compared as text. option is for the error.
func gpuNames(option string, names []string) ([]string, error) {
	out := []string{}
	for _, name := range names {
		n, ok := gpuName(name)
		if !ok {
			return nil, fmt.Errorf("%s: %.64q names no GPU for good: write its UUID (GPU-, and 8-4-4-4-12 hexadecimal digits), or its PCI address "+
				"with the domain, such as 0000:3b:00.0; an index changes with the GPUs that there are, and `berth gpu ls` shows both", option, name)
		}
		out = append(out, n)
	}
	return out, nil
}

func gpuName(name string) (string, bool) {
	name = strings.ToLower(name)
	if uuid, ok := strings.CutPrefix(name, "gpu-"); ok {
		return "GPU-" + uuid, isUUID(uuid)
	}
	return BusID(name)
}

// isUUID says whether s is 8-4-4-4-12 hexadecimal digits in lower case.
func isUUID(s string) bool {
	parts := strings.Split(s, "-")
	if len(parts) != 5 {
		return false
	}
	for i, n := range []int{8, 4, 4, 4, 12} {
		if len(parts[i]) != n || strings.Trim(parts[i], "0123456789abcdef") != "" {
			return false
		}
	}
	return true
}

// BusID brings a PCI address into the form of the driver's directory in /proc:
// "0000:3b:00.0". It takes NVML's and nvidia-smi's too ("00000000:3B:00.0"), and
// one without its function, as in the kernel's log. It accepts nothing else: an
// address without its domain may be that of several GPUs.
func BusID(s string) (string, bool) {
	address, function, _ := strings.Cut(strings.ToLower(s), ".")
	if function == "" {
		function = "0"
	}
	part := strings.Split(address, ":")
	if len(part) != 3 || len(part[1]) != 2 || len(part[2]) != 2 || len(function) != 1 || function > "7" {
		return "", false
	}
	domain := len(part[0])
	for len(part[0]) > 4 && part[0][0] == '0' { // NVML's form has 8 digits
		part[0] = part[0][1:]
	}
	if domain < 4 || domain > 8 || strings.Trim(part[0]+part[1]+part[2]+function, "0123456789abcdef") != "" {
		return "", false
	}
	return part[0] + ":" + part[1] + ":" + part[2] + "." + function, true
}
