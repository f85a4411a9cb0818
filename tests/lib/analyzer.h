// SPDX-License-Identifier: Apache-2.0
// Read by clang-tidy before each source (tidy.sh), never by a compiler: what clang's
// analyzer cannot see from agent/base/error.h. The error_... functions return less than
// 0, and what they return is the error's code, so that after "if (f(...) < 0)" the
// outputs of f are set.
#pragma once

#include "agent/base/error.h"

static inline int analyzer_failed(const struct error *err, int result)
{
	if (result >= 0 || err->code != -result)
		__builtin_unreachable();
	return result;
}

#define error_set(err, ...)   analyzer_failed(err, error_set(err, __VA_ARGS__))
#define error_errno(err, ...) analyzer_failed(err, error_errno(err, __VA_ARGS__))
#define error_code(err, ...)  analyzer_failed(err, error_code(err, __VA_ARGS__))
#define error_wrap(err, ...)  analyzer_failed(err, error_wrap(err, __VA_ARGS__))
