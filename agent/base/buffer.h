// SPDX-License-Identifier: Apache-2.0
// A growable text buffer, always NUL-terminated once something was added.
// Out of memory ends the process, as in arena.h.
//
//     scoped(buffer_release) struct buffer text = {0};
//     buffer_addf(&text, "figure %s %.3f ms\n", name, value);
#pragma once

#include <stddef.h>

struct buffer {
	char *data; // NULL while empty
	size_t length, capacity;
};

void buffer_add(struct buffer *buffer, const void *bytes, size_t count);
void buffer_adds(struct buffer *buffer, const char *text);
__attribute__((format(printf, 2, 3))) void buffer_addf(struct buffer *buffer, const char *format,
						       ...);
// The text so far, "" when nothing was added.
const char *buffer_text(const struct buffer *buffer);
// Hands the memory to the caller (free()); the buffer is empty afterwards. Never NULL.
char *buffer_take(struct buffer *buffer);
void buffer_release(struct buffer *buffer);
