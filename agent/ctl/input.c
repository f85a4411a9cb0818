// SPDX-License-Identifier: Apache-2.0
// The files that apply and run take.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/json.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/input.h"

enum { INPUT_BYTES_MAX = 64 * 1024 * 1024, INPUT_DEPTH_MAX = 36 };

const char *input_name(const char *file)
{
	return strcmp(file, "-") == 0 ? "standard input" : file;
}

// May be a pipe that somebody still writes to: `-`, <(…), /dev/stdin.
static bool text_read(const char *file, struct buffer *ret_text)
{
	scoped_fd int fd = strcmp(file, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
						  : open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char bytes[16 * 1024];
	ssize_t count = -1;

	while (fd >= 0 && (count = read(fd, bytes, sizeof(bytes))) > 0 &&
	       ret_text->length <= INPUT_BYTES_MAX)
		buffer_add(ret_text, bytes, (size_t)count);
	if (count >= 0)
		return true;
	fprintf(stderr, "penstockctl: %s: %s\n", input_name(file), strerror(errno));
	return false;
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
