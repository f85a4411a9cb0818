// SPDX-License-Identifier: Apache-2.0
// Strings and numbers of the JSON reader.
#include "agent/base/json_scan.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/utf8.h"

enum {
	NUMBER_MAX = 60,         // characters; cJSON silently cuts longer ones
	SIGNIFICANT_DIGITS = 15, // a double keeps that many of any decimal
};

// ---------------------------------------------------------------- strings

// Reads "XXXX"; -1 when it is not four hexadecimal digits.
static int32_t scan_hex4(struct json_scanner *scanner)
{
	int32_t value = 0;

	for (int i = 0; i < 4; i++) {
		int c = json_peek(scanner);
		int digit;

		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			digit = (c | 0x20) - 'a' + 10;
		else
			return -1;
		value = value << 4 | digit;
		scanner->position++;
	}
	return value;
}

// After "\u".
static int scan_unicode_escape(struct json_scanner *scanner, struct buffer *decoded)
{
	int32_t code = scan_hex4(scanner), low;
	char bytes[4];

	if (code < 0)
		return json_fail(scanner, "\\u needs four hexadecimal digits");
	if (code == 0)
		return json_fail(scanner, "\\u0000 is not allowed in a string");
	if (code >= 0xd800 && code <= 0xdfff) {
		if (code >= 0xdc00 || json_peek(scanner) != '\\')
			return json_fail(scanner, "half a surrogate pair");
		scanner->position++;
		if (json_peek(scanner) != 'u')
			return json_fail(scanner, "half a surrogate pair");
		scanner->position++;
		low = scan_hex4(scanner);
		if (low < 0xdc00 || low > 0xdfff)
			return json_fail(scanner, "half a surrogate pair");
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	}
	if (decoded)
		buffer_add(decoded, bytes, utf8_encode((uint32_t)code, bytes));
	return 0;
}

// After the backslash.
static int scan_escape(struct json_scanner *scanner, struct buffer *decoded)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	int c = json_peek(scanner);
	const char *found = c > 0 ? strchr(names, c) : NULL;

	if (c != 'u' && !found)
		return json_fail(scanner, "unknown escape in a string");
	scanner->position++;
	if (!found)
		return scan_unicode_escape(scanner, decoded);
	if (decoded)
		buffer_add(decoded, &values[found - names], 1);
	return 0;
}

// One character of a string that is no escape and no closing quote.
static int scan_character(struct json_scanner *scanner, struct buffer *decoded)
{
	int c = json_peek(scanner);
	size_t length = 1;

	if (c < 0)
		return json_fail(scanner, "the text ends inside a string");
	if (c < 0x20)
		return json_fail(scanner, "a control character must be escaped in a string");
	if (c >= 0x80)
		length = utf8_length((const char *)scanner->text + scanner->position,
				     scanner->length - scanner->position);
	if (length == 0)
		return json_fail(scanner, "bytes that are not UTF-8");
	if (decoded)
		buffer_add(decoded, scanner->text + scanner->position, length);
	scanner->position += length;
	return 0;
}

// At the opening quote. `decoded` may be NULL.
int json_scan_string(struct json_scanner *scanner, struct buffer *decoded)
{
	int result = 0;

	scanner->position++;
	while (result == 0 && json_peek(scanner) != '"') {
		if (json_peek(scanner) == '\\') {
			scanner->position++;
			result = scan_escape(scanner, decoded);
		} else {
			result = scan_character(scanner, decoded);
		}
	}
	if (result == 0)
		scanner->position++;
	return result;
}

// ---------------------------------------------------------------- numbers

static size_t skip_digits(struct json_scanner *scanner)
{
	size_t start = scanner->position;

	while (json_peek(scanner) >= '0' && json_peek(scanner) <= '9')
		scanner->position++;
	return scanner->position - start;
}

// Digits of the mantissa between its first and last non-zero one.
static size_t significant_digits(const char *number)
{
	size_t count = 0, zeros = 0;

	for (const char *c = number; *c && *c != 'e' && *c != 'E'; c++) {
		if (*c < '0' || *c > '9')
			continue;
		if (*c != '0') {
			count += zeros + 1;
			zeros = 0;
		} else if (count > 0) {
			zeros++;
		}
	}
	return count;
}

// Integers must be exact. Fractions hardly ever are: they must come back as they were written.
static bool number_is_kept(const char *number, bool integer)
{
	double value = strtod(number, NULL);
	char again[NUMBER_MAX + 8];

	if (!isfinite(value))
		return false;
	if (integer) {
		snprintf(again, sizeof(again), "%.0f", value);
		return strcmp(again, number) == 0;
	}
	return significant_digits(number) == 0 ||
	       (significant_digits(number) <= SIGNIFICANT_DIGITS && isnormal(value));
}

static int check_number(struct json_scanner *scanner, size_t start, bool integer)
{
	size_t length = scanner->position - start;
	char number[NUMBER_MAX + 1];

	if (length > NUMBER_MAX)
		return json_fail(scanner, "a number of more than %d characters", NUMBER_MAX);
	if (integer && length <= SIGNIFICANT_DIGITS)
		return 0;
	memcpy(number, scanner->text + start, length);
	number[length] = '\0';
	if (!number_is_kept(number, integer))
		return json_fail(scanner, "%s loses precision: a number must fit a double", number);
	return 0;
}

int json_scan_number(struct json_scanner *scanner)
{
	size_t start = scanner->position;
	bool integer = true;

	if (json_peek(scanner) == '-')
		scanner->position++;
	if (json_peek(scanner) == '0')
		scanner->position++;
	else if (skip_digits(scanner) == 0)
		return json_fail(scanner, "a number needs digits");
	if (json_peek(scanner) == '.') {
		integer = false;
		scanner->position++;
		if (skip_digits(scanner) == 0)
			return json_fail(scanner, "a number needs digits after its point");
	}
	if (json_peek(scanner) == 'e' || json_peek(scanner) == 'E') {
		integer = false;
		scanner->position++;
		if (json_peek(scanner) == '+' || json_peek(scanner) == '-')
			scanner->position++;
		if (skip_digits(scanner) == 0)
			return json_fail(scanner, "a number needs digits in its exponent");
	}
	return check_number(scanner, start, integer);
}
