// SPDX-License-Identifier: Apache-2.0

// A library and a program that say on the host that they were run there.
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void ran(void) { close(open(CANARY, O_CREAT | O_WRONLY, 0600)); }
#ifdef PROGRAM
int main(void) { return 0; }
#endif
