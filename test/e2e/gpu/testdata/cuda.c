// SPDX-License-Identifier: Apache-2.0

// Opens libcuda as CUDA's runtime does, and says which file the loader took.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>

int main(void) {
	void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
	if (!cuda) {
		printf("dlopen: %s\n", dlerror());
		return 1;
	}
	int (*init)(unsigned) = (int (*)(unsigned))dlsym(cuda, "cuInit");
	struct link_map *map;
	if (!init || dlinfo(cuda, RTLD_DI_LINKMAP, &map)) {
		printf("libcuda: %s\n", dlerror());
		return 1;
	}
	printf("cuInit %d %s\n", init(0), map->l_name);
	return 0;
}
