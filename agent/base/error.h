// SPDX-License-Identifier: Apache-2.0
// Errors: a negative errno to return, and the message that explains it.
//
// A function that can fail takes `struct error *err` last and returns 0 (or a
// count) on success and a negative errno otherwise. The place that fails says
// what failed; each caller that knows more puts its context in front:
//
//     if (ioctl(fd, TUNSETIFF, &request) < 0)
//         return error_errno(err, "create tap %s", name);       // "create tap ps01: Device or
//         resource busy"
//     ...
//     if (eni_create(...) < 0)
//         return error_wrap(err, "eni %s", eni_id);             // "eni eni-42: create tap ps01:
//         ..."
//
// A function logs or returns an error, never both. `err` is never NULL.
#pragma once

#include <stdarg.h>
#include <stddef.h>

enum { ERROR_MESSAGE_MAX = 1024 };

struct error {
	int code;                        // positive errno, 0 = no error
	char message[ERROR_MESSAGE_MAX]; // one line, no trailing full stop
};

// Sets code and message; returns -code. `code` is a positive errno.
__attribute__((format(printf, 3, 4))) int error_set(struct error *err, int code, const char *format,
						    ...);

// Sets code from errno and the message to "<format>: <strerror>"; returns -errno.
__attribute__((format(printf, 2, 3))) int error_errno(struct error *err, const char *format, ...);

// Like error_errno, for calls that return a negative errno themselves (`code` may have either
// sign).
__attribute__((format(printf, 3, 4))) int error_code(struct error *err, int code,
						     const char *format, ...);

// Puts "<format>: " in front of the message; returns the negative code as it was.
__attribute__((format(printf, 2, 3))) int error_wrap(struct error *err, const char *format, ...);

// Forgets the error, for a caller that goes on without the failed thing.
void error_clear(struct error *err);
