// SPDX-License-Identifier: Apache-2.0
#include "agent/model/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_MAX = 512 };

bool fault_list_has(const struct fault_list *list, const char *pointer)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (strcmp(list->faults[i].pointer, pointer) == 0)
			return true;
	return false;
}

void fault_add(struct fault_list *list, const char *pointer, const char *format, ...)
{
	char message[MESSAGE_MAX];
	va_list args;

	if (list->count == FAULTS_MAX) {
		list->more = true;
		return;
	}
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	list->faults[list->count++] = (struct fault){
		.pointer = arena_strdup(list->arena, pointer),
		.message = arena_strdup(list->arena, message),
	};
}
