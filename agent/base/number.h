// SPDX-License-Identifier: Apache-2.0
// Strict numbers and names: the whole text must match, nothing is skipped.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Decimal digits only, no sign, no leading zeros (except "0"), at most `max`.
// -EINVAL when it is no such number, -ERANGE when it is too large.
int parse_u64(const char *text, uint64_t max, uint64_t *ret_value);
int parse_u32(const char *text, uint32_t max, uint32_t *ret_value);

// The form of every object id: ^[a-z0-9][a-z0-9-]{0,62}$
bool id_is_valid(const char *text);

// FNV-1a, 64 bit, over the bytes of both strings with a NUL between: a stable,
// non-secret name for a pair of ids.
uint64_t hash_pair(const char *first, const char *second);
