// SPDX-License-Identifier: Apache-2.0

#include <stddef.h>

// detached is what the fork left to the child, and zero in any other process.
struct detached {
	int report;        // where the child says that it stays; 0 if nothing was forked
	char *arguments;   // the memory that the kernel shows as the command line (proc_pid_cmdline(5))
	size_t size;       // of it
};

extern struct detached detached;
