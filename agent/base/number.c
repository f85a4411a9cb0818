// SPDX-License-Identifier: Apache-2.0
#include "agent/base/number.h"

#include <errno.h>
#include <string.h>

int parse_u64(const char *text, uint64_t max, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0'))
		return -EINVAL;
	for (const char *c = text; *c; c++) {
		if (*c < '0' || *c > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*c - '0'), &value))
			return -ERANGE;
	}
	if (value > max)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

int parse_u32(const char *text, uint32_t max, uint32_t *ret_value)
{
	uint64_t value;
	int result = parse_u64(text, max, &value);

	if (result == 0)
		*ret_value = (uint32_t)value;
	return result;
}

bool id_is_valid(const char *text)
{
	size_t length = strlen(text);

	if (length < 1 || length > 63 || text[0] == '-')
		return false;
	return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

static uint64_t fnv1a(uint64_t hash, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3ULL;
	return hash;
}

uint64_t hash_pair(const char *first, const char *second)
{
	uint64_t hash = fnv1a(0xcbf29ce484222325ULL, first, strlen(first) + 1);

	return fnv1a(hash, second, strlen(second));
}
