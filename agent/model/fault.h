// SPDX-License-Identifier: Apache-2.0
// The faults of one document: each a JSON pointer and what is wrong there.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/arena.h"

enum { FAULTS_MAX = 64 };

struct fault {
	const char *pointer; // RFC 6901; "" is the whole document
	const char *message;
};

struct fault_list {
	struct arena *arena; // owns the texts; set before first use
	struct fault faults[FAULTS_MAX];
	uint32_t count;
	bool more;        // there were more than FAULTS_MAX
	uint32_t missing; // of `faults`: the document names an object that is not there
};

// Whether there is one at that very place.
bool fault_list_has(const struct fault_list *list, const char *pointer);
// Copies both texts into the arena.
__attribute__((format(printf, 3, 4))) void fault_add(struct fault_list *list, const char *pointer,
						     const char *format, ...);
// The same for a reference to an object that is not there, and may come.
__attribute__((format(printf, 3, 4))) void
fault_add_missing(struct fault_list *list, const char *pointer, const char *format, ...);
// True when the document is right but for objects that are not there.
bool fault_list_is_missing_only(const struct fault_list *list);
