// SPDX-License-Identifier: Apache-2.0
// The bounded JSON reader: the only door through which JSON text becomes cJSON values.
//
// cJSON alone takes duplicate keys, loses integers above 2^53 and nests 1,000 deep.
// json_read() refuses, with the place: text that is not RFC 8259 JSON or not UTF-8,
// "\u0000" in a string, anything after the value, nesting deeper than `max_depth`,
// duplicate keys in one object, and numbers a double does not hold exactly.
//
//     cJSON *value;
//     struct json_fault fault;
//     if (json_read(text, length, &json_limits_api, &value, &fault) < 0)
//         // fault.pointer "/containerDefinitions/0/name", fault.message "duplicate key \"name\""
//     ...
//     cJSON_Delete(value);
#pragma once

#include <cjson/cJSON.h>
#include <stddef.h>

struct json_limits {
	size_t max_bytes;
	unsigned max_depth; // nested arrays and objects
};

extern const struct json_limits json_limits_api; // 1 MiB, 32 deep

enum { JSON_POINTER_MAX = 512, JSON_MESSAGE_MAX = 256 };

struct json_fault {
	char pointer[JSON_POINTER_MAX]; // RFC 6901; "" is the whole document
	char message[JSON_MESSAGE_MAX]; // what is wrong, with line and column for syntax errors
};

// 0 and *ret_value (the caller calls cJSON_Delete), or -EINVAL, or -EFBIG when
// larger than max_bytes, with *ret_fault set.
int json_read(const char *text, size_t length, const struct json_limits *limits, cJSON **ret_value,
	      struct json_fault *ret_fault);

// The same without a value: only says whether the text is good.
int json_check(const char *text, size_t length, const struct json_limits *limits,
	       struct json_fault *ret_fault);

// Member of an object by exact name (case matters), or NULL.
const cJSON *json_member(const cJSON *object, const char *name);
