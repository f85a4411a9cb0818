// SPDX-License-Identifier: Apache-2.0
// The files that apply and run take.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/file.h"
#include "agent/base/json.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/input.h"

enum { INPUT_BYTES_MAX = 64 * 1024 * 1024, INPUT_DEPTH_MAX = 36 };

static int stdin_read(struct buffer *text)
{
	char bytes[16 * 1024];
	ssize_t count;

	while ((count = read(STDIN_FILENO, bytes, sizeof(bytes))) > 0 &&
	       text->length <= INPUT_BYTES_MAX)
		buffer_add(text, bytes, (size_t)count);
	return count < 0 ? -errno : 0;
}

static bool text_read(const char *file, struct buffer *ret_text)
{
	struct error err = {0};
	char *text;
	size_t length;

	if (strcmp(file, "-") == 0) {
		if (stdin_read(ret_text) == 0)
			return true;
		perror("penstockctl: standard input");
		return false;
	}
	if (file_read(AT_FDCWD, file, INPUT_BYTES_MAX, &text, &length, &err) < 0) {
		fprintf(stderr, "penstockctl: %s\n", err.message);
		return false;
	}
	buffer_add(ret_text, text, length);
	free(text);
	return true;
}

const char *input_name(const char *file)
{
	return strcmp(file, "-") == 0 ? "standard input" : file;
}

cJSON *input_read(const char *file)
{
	static const struct json_limits limits = {INPUT_BYTES_MAX, INPUT_DEPTH_MAX};
	scoped(buffer_release) struct buffer text = {0};
	struct json_fault fault;
	cJSON *document;

	if (!text_read(file, &text))
		return NULL;
	if (json_read(buffer_text(&text), text.length, &limits, &document, &fault) == 0)
		return document;
	fprintf(stderr, "penstockctl: %s: %s%s%s\n", input_name(file), fault.pointer,
		fault.pointer[0] ? ": " : "", fault.message);
	return NULL;
}
