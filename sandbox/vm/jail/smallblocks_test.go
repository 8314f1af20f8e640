// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// advisor is the argument by which the test binary asks for huge pages.
const advisor = "ask-for-huge-pages"

// advise prints which requests for huge pages are refused.
func advise() {
	for _, size := range []int{hugePage / 2, hugePage, 2 * hugePage} {
		block, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(size, unix.Madvise(block, unix.MADV_HUGEPAGE), unix.Madvise(block, unix.MADV_DONTNEED))
	}
}

func TestSmallBlocks(t *testing.T) {
	if auditArch == 0 {
		t.Skip("the size of a huge page is not known on this architecture")
	}
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skip("the kernel has no huge pages to advise of")
	}
	out, err := exec.Command("/proc/self/exe", advisor).CombinedOutput()
	const want = "1048576 <nil> <nil>\n2097152 invalid argument <nil>\n4194304 <nil> <nil>\n"
	if err != nil || string(out) != want {
		t.Errorf("sizes, and the answers to MADV_HUGEPAGE and MADV_DONTNEED, are\n%swant\n%s(%v)", out, want, err)
	}
}
