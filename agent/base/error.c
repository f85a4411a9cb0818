// SPDX-License-Identifier: Apache-2.0
#include "agent/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int error_set(struct error *err, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	err->code = code;
	return -code;
}

static int set_with_reason(struct error *err, int code, const char *format, va_list args)
{
	int length = vsnprintf(err->message, sizeof(err->message), format, args);

	if (length >= 0 && (size_t)length < sizeof(err->message))
		snprintf(err->message + length, sizeof(err->message) - (size_t)length, ": %s",
			 strerror(code));
	err->code = code;
	return -code;
}

int error_errno(struct error *err, const char *format, ...)
{
	int code = errno;
	va_list args;

	va_start(args, format);
	set_with_reason(err, code, format, args);
	va_end(args);
	return -code;
}

int error_code(struct error *err, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_with_reason(err, abs(code), format, args);
	va_end(args);
	return -abs(code);
}

int error_wrap(struct error *err, const char *format, ...)
{
	char inner[ERROR_MESSAGE_MAX];
	va_list args;
	size_t length;

	memcpy(inner, err->message, sizeof(inner));
	va_start(args, format);
	vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	length = strlen(err->message); // what does not fit is cut at the end
	(void)!snprintf(err->message + length, sizeof(err->message) - length, ": %s", inner);
	return -err->code;
}

void error_clear(struct error *err)
{
	err->code = 0;
	err->message[0] = '\0';
}
