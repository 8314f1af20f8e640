// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

var h100 = Facts{CUDA: "12.4", Driver: "550.54.15", Arch: "9.0", Brand: "nvidia"}

// cudaImage is what images of CUDA 12.4 say, shortened.
const cudaImage = "cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=unknown,driver>=470,driver<471 brand=nvidia,driver>=470,driver<471 " +
	"brand=tesla,driver>=525,driver<526 brand=nvidia,driver>=535,driver<536"

func TestRequirement(t *testing.T) {
	for _, c := range []struct {
		name, text string
		facts      Facts
		says       string // "" if it is met
	}{
		{"nothing", "  ", h100, ""},
		{"one", "cuda>=12.4", h100, ""},
		{"spaces", "  cuda>=12.4  ", h100, ""},
		{"brand", "brand=nvidia", h100, ""},
		{"brand in capitals", "brand=NVIDIA", h100, ""},
		{"another brand", "brand!=tesla", h100, ""},
		{"and", "cuda>=12,arch>=8.0,brand=nvidia,driver>=550", h100, ""},
		{"or", "cuda>=99 arch>=9.0", h100, ""},
		{"numbers, not text", "cuda>=9.2,driver>=99", h100, ""},
		{"numbers, not fractions", "driver<550.100", h100, ""},
		{"leading zero", "driver=470.82.01", Facts{Driver: "470.82.1"}, ""},
		{"what is missing is 0", "cuda=12.4.0,arch=9", h100, ""},
		{"equal, both", "cuda>=12.4,cuda<=12.4,cuda=12.4", h100, ""},
		{"less", "driver<551,driver>550,driver!=550", h100, ""},
		{"CUDA image", cudaImage, h100, ""},
		{"CUDA image, an old branch", cudaImage, Facts{CUDA: "12.2", Driver: "535.104.05", Brand: "nvidia"}, ""},
		{"an unknown fact that nothing asks", "cuda>=12", Facts{CUDA: "12.4"}, ""},
		{"an unknown fact of another alternative", "arch>=9 cuda>=12", Facts{CUDA: "12.4"}, ""},

		{"less than equal", "cuda=12.4.1", h100, `"cuda=12.4.1" asks for cuda=12.4.1, found cuda 12.4;`},
		{"not equal", "cuda!=12.4", h100, "asks for cuda!=12.4, found cuda 12.4;"},
		{"equal is not greater", "cuda>12.4", h100, "asks for cuda>12.4"},
		{"equal is not less", "cuda<12.4.0", h100, "asks for cuda<12.4.0"},
		{"greater is not less or equal", "cuda<=12.3", h100, "asks for cuda<=12.3"},
		{"and, the last", "cuda>=12,driver>=551", h100, `NVIDIA_REQUIRE_X is not met: "cuda>=12,driver>=551" asks for driver>=551, found driver 550.54.15; ` +
			"install a driver that does, or choose another GPU or image; NVIDIA_DISABLE_REQUIRE=true in the container's environment skips the check: failed precondition"},
		{"or, both", "cuda>=99 brand=tesla", h100, `"cuda>=99" asks for cuda>=99, found cuda 12.4; "brand=tesla" asks for brand=tesla, found brand nvidia; install`},
		{"CUDA image, too old", cudaImage, Facts{CUDA: "11.4", Driver: "470.82.01", Brand: "geforce"}, "found cuda 11.4; " +
			`"brand=tesla,driver>=470,driver<471" asks for brand=tesla, found brand geforce; "brand=unknown,driver>=470,driver<471" asks for brand=unknown, ` +
			"found brand geforce; nor are 3 more alternatives; install"},

		{"unknown", "arch>=9", Facts{CUDA: "12.4"}, `"arch>=9" asks for arch>=9, but the arch is not known (""); `},
		{"unknown brand", "brand!=tesla", Facts{}, "the brand is not known"},
		{"unknown is told first", "cuda>=99 cuda>=98 cuda>=97 brand=tesla", Facts{CUDA: "12.4"}, `not met: "brand=tesla" asks for`},
		{"not a version", "cuda>=12", Facts{CUDA: "N/A"}, `the cuda is not known ("N/A")`},
		{"unknown, but false anyway", "arch>=9,cuda>=99", Facts{CUDA: "12.4"}, "asks for cuda>=99, found cuda 12.4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := parseRequirement("NVIDIA_REQUIRE_X", c.text)
			if err != nil {
				t.Fatal(err)
			}
			err = r.Check(c.facts)
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v\nwant an error with %s", err, c.says)
			}
			if unknown := strings.Contains(c.says, "not known") || strings.Contains(c.name, "told first"); errors.Is(err, ErrNeedNVML) != unknown ||
				errors.Is(err, errdefs.ErrFailedPrecondition) == unknown {
				t.Errorf("the class of %v", err)
			}
			checkMessage(t, err)
		})
	}
}

func TestRequirementRefuses(t *testing.T) {
	for _, text := range []string{
		"cuda", "=12", ">=", "cuda>=", "cuda=>12", "cuda==12", "cuda>>12", "cuda!12", "cuda>=12,", ",", "cuda>=12,,arch=9", "cuda >= 12",
		"CUDA>=12", "gpu>=1", "cuda>=-1", "cuda>=+1", "cuda>=12.", "cuda>=.1", "cuda>=1.2.3.4.5", "cuda>=4294967296", "cuda>=12a", "cuda>=1_0", "cuda>=0x1",
		"brand", "brand=", "brand>=tesla", "brand=tes/la", "brand=té", "brand=a\nb", "brand=" + strings.Repeat("a", 33), "cuda>=12\narch>=9", "cuda>=12\tarch>=9",
		strings.Repeat(" ", maxRequire+1),
	} {
		r, err := parseRequirement("X", text)
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%.80q is %+v, %v", text, r, err)
			continue
		}
		checkMessage(t, err)
	}
}

// TestRequirements has each variable count once, in an order of its own.
func TestRequirements(t *testing.T) {
	r, err := ParseRequest(spec(env("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_REQUIRE_B=cuda>=1", "NVIDIA_REQUIRE_A=arch>=9", "NVIDIA_REQUIRE_B=cuda>=99", "NVIDIA_REQUIRE_C=")), plain)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, q := range r.Require {
		got = append(got, q.Variable+" "+q.anyOf[0].text)
	}
	if strings.Join(got, "; ") != "NVIDIA_REQUIRE_A arch>=9; NVIDIA_REQUIRE_B cuda>=99" {
		t.Errorf("got %q", got)
	}
}

func FuzzRequirement(f *testing.F) {
	f.Add(cudaImage, "12.4", "550.54.15", "nvidia")
	f.Add("cuda!=11,brand!=tesla arch<7.5", "", "x", "")
	f.Fuzz(func(t *testing.T, text, cuda, driver, brand string) {
		r, err := parseRequirement("NVIDIA_REQUIRE_X", text)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Error(err)
			}
			checkMessage(t, err)
			return
		}
		facts := Facts{CUDA: cuda, Driver: driver, Brand: brand}
		err = r.Check(facts)
		// One more alternative that holds makes it hold; one that does not, or
		// the same again, changes nothing.
		holds, _ := parseRequirement("X", text+" cuda>=0")
		if facts.CUDA = "1"; holds.Check(facts) != nil {
			t.Errorf("%q with cuda>=0 is not met", text)
		}
		facts.CUDA = cuda
		twice, twiceErr := parseRequirement("X", text+" "+text)
		if len(text) < maxRequire/2 && (twiceErr != nil || (twice.Check(facts) == nil) != (err == nil)) {
			t.Errorf("%q twice is not the same: %v", text, twiceErr)
		}
		if err != nil && errors.Is(err, ErrNeedNVML) == errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("the class of %v", err)
		}
	})
}
