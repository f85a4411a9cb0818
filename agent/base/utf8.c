// SPDX-License-Identifier: Apache-2.0
#include "agent/base/utf8.h"

#include "agent/base/scope.h"

size_t utf8_length(const char *text, size_t length)
{
	static const struct {
		unsigned char first, last, second_low, second_high;
		size_t length;
	} forms[] = {
		{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3},
		{0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};
	const unsigned char *c = (const unsigned char *)text;

	if (length > 0 && c[0] < 0x80)
		return 1;
	for (size_t i = 0; length > 0 && i < ARRAY_LENGTH(forms); i++) {
		if (c[0] < forms[i].first || c[0] > forms[i].last)
			continue;
		if (length < forms[i].length || c[1] < forms[i].second_low ||
		    c[1] > forms[i].second_high)
			return 0;
		for (size_t k = 2; k < forms[i].length; k++)
			if ((c[k] & 0xc0) != 0x80)
				return 0;
		return forms[i].length;
	}
	return 0;
}

size_t utf8_printable_length(const char *text, size_t length)
{
	const unsigned char *c = (const unsigned char *)text;
	size_t bytes = utf8_length(text, length);

	if ((bytes == 1 && (c[0] < 0x20 || c[0] == 0x7f)) ||
	    (bytes == 2 && c[0] == 0xc2 && c[1] < 0xa0))
		return 0;
	return bytes;
}

size_t utf8_unfinished(const char *text, size_t length)
{
	for (size_t tail = 1; tail <= 3 && tail <= length; tail++) {
		unsigned char c = (unsigned char)text[length - tail];
		size_t wanted = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

		if ((c & 0xc0) != 0x80) // the last one that is no continuation
			return c >= 0xc2 && c <= 0xf4 && wanted > tail ? tail : 0;
	}
	return 0;
}

size_t utf8_encode(uint32_t code, char ret_bytes[4])
{
	size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

	for (size_t i = length - 1; i > 0; i--) {
		ret_bytes[i] = (char)(0x80 | (code & 0x3f));
		code >>= 6;
	}
	ret_bytes[0] = (char)(lead[length] | code);
	return length;
}
