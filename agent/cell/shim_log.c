// SPDX-License-Identifier: Apache-2.0
#include "agent/cell/shim_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"

enum {
	LINE_BUFFER_SIZE = 8192,
	LINE_PREFIX_MAX = 64,
	TEXT_MAX = LINE_BUFFER_SIZE - LINE_PREFIX_MAX - 1,
};

void log_file_open(struct log_file *log, int directory_fd, const char *name, uint64_t max_bytes)
{
	*log = (struct log_file){.directory_fd = directory_fd, .fd = -1, .max_bytes = max_bytes};
	snprintf(log->name, sizeof(log->name), "%s", name);
}

void log_file_close(struct log_file *log)
{
	close_fd(&log->fd);
}

static int open_current(struct log_file *log, const char *file, struct error *err)
{
	struct stat status;
	scoped_fd int fd =
		openat(log->directory_fd, file,
		       O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0640);

	if (fd < 0 || fstat(fd, &status) < 0)
		return error_errno(err, "open %s", file);
	log->size_bytes = (uint64_t)status.st_size;
	log->fd = take_fd(&fd);
	return 0;
}

static int rotate(struct log_file *log, const char *file, struct error *err)
{
	char old[NAME_MAX + 1];

	cell_log_file(log->name, true, old);
	// Somebody took the file away: a new one begins all the same.
	if (renameat(log->directory_fd, file, log->directory_fd, old) < 0 && errno != ENOENT)
		return error_errno(err, "rotate %s", file);
	close_fd(&log->fd);
	return open_current(log, file, err);
}

static int write_whole(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t count = write(fd, bytes, length);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return -errno;
		bytes += count;
		length -= (size_t)count;
	}
	return 0;
}

// Makes the file ready to take that much.
static int make_room(struct log_file *log, size_t length, struct error *err)
{
	char file[NAME_MAX + 1];

	cell_log_file(log->name, false, file);
	if (log->fd < 0 && open_current(log, file, err) < 0)
		return -err->code;
	if (log->size_bytes > 0 && log->size_bytes + length > log->max_bytes)
		return rotate(log, file, err);
	return 0;
}

static int append(struct log_file *log, const void *bytes, size_t length, struct error *err)
{
	int result = write_whole(log->fd, bytes, length);

	if (result < 0)
		return error_code(err, result, "write the log of %s", log->name);
	log->size_bytes += length;
	return 0;
}

// What failed is written again as a whole: nothing of it may stay.
static int cut_back(struct log_file *log, uint64_t size_bytes, const struct error *err)
{
	if (ftruncate(log->fd, (off_t)size_bytes) == 0)
		log->size_bytes = size_bytes;
	return -err->code;
}

int log_file_write(struct log_file *log, const void *bytes, size_t length, struct error *err)
{
	if (make_room(log, length, err) < 0)
		return -err->code;
	return append(log, bytes, length, err) < 0 ? cut_back(log, log->size_bytes, err) : 0;
}

struct line_buffer {
	struct log_file *log;
	size_t used;
	char text[LINE_BUFFER_SIZE];
};

static int flush_lines(struct line_buffer *lines, struct error *err)
{
	size_t used = lines->used;

	lines->used = 0;
	return append(lines->log, lines->text, used, err);
}

// Adds "prefix text\n"; what does not fit the buffer goes on as further P lines.
static int add_line(struct line_buffer *lines, const char *time_and_stream, bool is_whole,
		    const char *text, size_t length, struct error *err)
{
	do {
		size_t part = length < TEXT_MAX ? length : (size_t)TEXT_MAX;

		if (lines->used + LINE_PREFIX_MAX + part + 1 > sizeof(lines->text) &&
		    flush_lines(lines, err) < 0)
			return -err->code;
		lines->used +=
			(size_t)snprintf(lines->text + lines->used, LINE_PREFIX_MAX, "%s %c ",
					 time_and_stream, is_whole && part == length ? 'F' : 'P');
		memcpy(lines->text + lines->used, text, part);
		lines->used += part;
		lines->text[lines->used++] = '\n';
		text += part;
		length -= part;
	} while (length > 0);
	return 0;
}

static int write_lines(struct line_buffer *lines, const char *prefix, const char *bytes,
		       size_t length, struct error *err)
{
	while (length > 0) {
		const char *newline = memchr(bytes, '\n', length);
		size_t span = newline ? (size_t)(newline - bytes) : length;

		if (add_line(lines, prefix, newline != NULL, bytes, span, err) < 0)
			return -err->code;
		span += newline != NULL;
		bytes += span;
		length -= span;
	}
	return flush_lines(lines, err);
}

// At most, with all prefixes.
static size_t size_as_lines(const char *bytes, size_t length)
{
	size_t lines = 1 + length / TEXT_MAX;

	for (size_t i = 0; i < length; i++)
		lines += bytes[i] == '\n';
	return length + lines * LINE_PREFIX_MAX;
}

int log_file_write_lines(struct log_file *log, int64_t wall_ms, const char *stream,
			 const char *bytes, size_t length, struct error *err)
{
	struct line_buffer lines = {.log = log};
	char time[CLOCK_RFC3339_SIZE], prefix[LINE_PREFIX_MAX - 8];
	uint64_t begin_bytes;

	if (make_room(log, size_as_lines(bytes, length), err) < 0)
		return -err->code;
	begin_bytes = log->size_bytes;
	clock_format_rfc3339(wall_ms, time);
	snprintf(prefix, sizeof(prefix), "%s %.16s", time, stream);
	if (write_lines(&lines, prefix, bytes, length, err) < 0)
		return cut_back(log, begin_bytes, err);
	return 0;
}
