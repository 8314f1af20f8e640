// SPDX-License-Identifier: Apache-2.0

// The entry of a program that is linked with musl's libc.so alone, without the
// start files of its development package (crt/crt1.c of musl is the model).
int main(int, char **);
int __libc_start_main(int (*)(int, char **), int, char **, void (*)(void), void (*)(void), void (*)(void));
static void nothing(void) {}

__attribute__((used)) static void begin(long *stack) {
	__libc_start_main((int (*)(int, char **))main, (int)stack[0], (char **)(stack + 1), nothing, nothing, 0);
}
__asm__(".globl _start\n_start:\n\txor %rbp, %rbp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
