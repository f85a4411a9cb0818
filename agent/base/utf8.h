// SPDX-License-Identifier: Apache-2.0
// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Bytes of the character at `text` (1 to 4), or 0 when the `length` bytes do not begin with one.
size_t utf8_length(const char *text, size_t length);

// The same, but 0 as well for what a terminal takes as a command: the control characters of ASCII
// and C1 (U+0080 to U+009F; U+009B begins an escape sequence).
size_t utf8_printable_length(const char *text, size_t length);

// How many bytes at the end of the text (0 to 3) begin a character of which the rest is missing.
size_t utf8_unfinished(const char *text, size_t length);

// Encodes a code point; returns the number of bytes.
size_t utf8_encode(uint32_t code, char ret_bytes[4]);
