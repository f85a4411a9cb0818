// SPDX-License-Identifier: Apache-2.0
// An arena: many small allocations that live and die together, as the parts of
// one parsed document do. Allocation never fails: out of memory ends the process
// (the kernel would end it anyway, and every caller stays readable).
#pragma once

#include <stddef.h>

struct arena_block;

struct arena {
	struct arena_block *blocks; // newest first; zero-initialise before first use
};

// Zeroed memory, aligned for any type.
void *arena_alloc(struct arena *arena, size_t size);
#define arena_new(arena, type)          ((type *)arena_alloc(arena, sizeof(type)))
#define arena_array(arena, type, count) ((type *)arena_alloc(arena, sizeof(type) * (count)))

char *arena_strdup(struct arena *arena, const char *text); // NULL stays NULL
char *arena_strndup(struct arena *arena, const char *text, size_t length);
__attribute__((format(printf, 2, 3))) char *arena_printf(struct arena *arena, const char *format,
							 ...);

// Releases everything; the arena is empty and usable again.
void arena_release(struct arena *arena);
