// SPDX-License-Identifier: Apache-2.0

#include <stdarg.h>
#include <stdio.h>

// What glibc's headers make of fprintf in a library that is compiled with
// _FORTIFY_SOURCE (Linux Standard Base, __fprintf_chk): flag asks for checks of
// %n, which musl does without.
int __fprintf_chk(FILE *f, int flag, const char *format, ...)
{
	va_list args;
	int n;

	(void)flag;
	va_start(args, format);
	n = vfprintf(f, format, args);
	va_end(args);
	return n;
}
