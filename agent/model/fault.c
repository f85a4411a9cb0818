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

static void add(struct fault_list *list, const char *pointer, const char *format, va_list args)
{
	char message[MESSAGE_MAX];

	if (list->count == FAULTS_MAX) {
		list->more = true;
		return;
	}
	vsnprintf(message, sizeof(message), format, args);
	list->faults[list->count++] = (struct fault){
		.pointer = arena_strdup(list->arena, pointer),
		.message = arena_strdup(list->arena, message),
	};
}

void fault_add(struct fault_list *list, const char *pointer, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add(list, pointer, format, args);
	va_end(args);
}

void fault_add_missing(struct fault_list *list, const char *pointer, const char *format, ...)
{
	uint32_t before = list->count;
	va_list args;

	va_start(args, format);
	add(list, pointer, format, args);
	va_end(args);
	list->missing += list->count - before;
}

bool fault_list_is_missing_only(const struct fault_list *list)
{
	return list->count > 0 && list->missing == list->count && !list->more;
}
