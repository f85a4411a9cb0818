// SPDX-License-Identifier: Apache-2.0
// The metering file. What makes a record be written once: the keys of the newest
// KEYS_MAX records, read from the file when it is opened, kept as 128-bit hashes.
#include "metrics/metering.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "metrics/metering_internal.h"

// More than there can be tasks on a host: all of them may stop in the turn before a crash.
enum { KEYS_MAX = 8192 };

struct key {
	uint64_t first, second;
};

struct metering {
	char *path;
	int fd;
	struct key *keys; // a ring; a slot of zeros is empty
	size_t key_next;
	size_t unsynced;   // of the newest keys
	struct error lost; // the sync at a rotation failed: told by the next metering_sync()
};

static struct key key_hash(const char *text)
{
	return (struct key){hash_pair("1", text), hash_pair(text, "2")};
}

static bool key_known(const struct metering *metering, struct key key)
{
	for (size_t i = 0; i < KEYS_MAX; i++)
		if (metering->keys[i].first == key.first && metering->keys[i].second == key.second)
			return true;
	return false;
}

static void key_add(struct metering *metering, struct key key)
{
	metering->keys[metering->key_next] = key;
	metering->key_next = (metering->key_next + 1) % KEYS_MAX;
}

// A failed sync is told once, and what it did not write is dropped: these records are not there.
static void keys_forget_unsynced(struct metering *metering)
{
	for (; metering->unsynced > 0; metering->unsynced--) {
		metering->key_next = (metering->key_next + KEYS_MAX - 1) % KEYS_MAX;
		metering->keys[metering->key_next] = (struct key){0};
	}
}

// The key of a line is what stands before "stoppedAt" (metering_format_key).
static void line_add(struct metering *metering, const char *line, size_t length)
{
	static const char after_key[] = "\"stoppedAt\":";
	const char *end = memmem(line, length, after_key, strlen(after_key));
	scoped_free char *key = end ? strndup(line, (size_t)(end - line)) : NULL;

	if (key)
		key_add(metering, key_hash(key));
}

static void lines_add(struct metering *metering, const char *text, size_t length)
{
	const char *end;

	while ((end = memchr(text, '\n', length))) {
		line_add(metering, text, (size_t)(end - text));
		length -= (size_t)(end + 1 - text);
		text = end + 1;
	}
}

// Reads the last METERING_TAIL_MAX bytes; a first line that is cut yields no key.
static int read_tail(int fd, char **ret_text, size_t *ret_length, off_t *ret_start,
		     struct error *err)
{
	off_t size = lseek(fd, 0, SEEK_END);
	off_t start = size > METERING_TAIL_MAX ? size - METERING_TAIL_MAX : 0;
	size_t wanted = size > 0 ? (size_t)(size - start) : 0, length = 0;
	scoped_free char *text = size < 0 ? NULL : malloc(wanted + 1);

	if (!text)
		return error_errno(err, "find the end");
	while (length < wanted) {
		ssize_t count = pread(fd, text + length, wanted - length, start + (off_t)length);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return error_errno(err, "read");
		if (count == 0)
			break;
		length += (size_t)count;
	}
	*ret_text = take_ptr(&text);
	*ret_length = length;
	*ret_start = start;
	return 0;
}

static int load(struct metering *metering, int fd, bool repair, struct error *err)
{
	scoped_free char *text = NULL;
	size_t length = 0, whole;
	const char *newline;
	off_t start = 0;

	if (read_tail(fd, &text, &length, &start, err) < 0 || !text)
		return -err->code;
	newline = memrchr(text, '\n', length);
	whole = newline ? (size_t)(newline + 1 - text) : 0;
	if (repair && whole < length && (newline || start == 0) &&
	    ftruncate(fd, start + (off_t)whole) < 0)
		return error_errno(err, "cut off the torn last line");
	lines_add(metering, text, whole);
	return 0;
}

static int load_rotated(struct metering *metering, struct error *err)
{
	scoped_free char *path = NULL;
	scoped_fd int fd = -1;

	if (asprintf(&path, "%s.1", metering->path) < 0)
		return error_set(err, ENOMEM, "out of memory");
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : error_errno(err, "open %s", path);
	return load(metering, fd, false, err);
}

static int open_file(struct metering *metering, struct error *err)
{
	struct stat status;
	int fd = open(metering->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);

	if (fd < 0)
		return error_errno(err, "open");
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
		close(fd);
		return error_set(err, EINVAL, "not a regular file");
	}
	close_fd(&metering->fd);
	metering->fd = fd;
	return 0;
}

void metering_close(struct metering *metering)
{
	if (!metering)
		return;
	close_fd(&metering->fd);
	free(metering->path);
	free(metering->keys);
	free(metering);
}

static void metering_release(struct metering **metering)
{
	metering_close(*metering);
}

int metering_open(const char *path, struct metering **ret_metering, struct error *err)
{
	scoped(metering_release) struct metering *metering = calloc(1, sizeof(*metering));

	if (!metering)
		return error_set(err, ENOMEM, "metering: out of memory");
	metering->fd = -1;
	metering->path = strdup(path);
	metering->keys = calloc(KEYS_MAX, sizeof(*metering->keys));
	if (!metering->path || !metering->keys)
		// cppcheck-suppress memleak // released with its scope
		return error_set(err, ENOMEM, "metering: out of memory");
	if (load_rotated(metering, err) < 0 || open_file(metering, err) < 0 ||
	    load(metering, metering->fd, true, err) < 0)
		return error_wrap(err, "metering file %s", path);
	*ret_metering = take_ptr(&metering);
	return 0;
}

static int sync_file(struct metering *metering, struct error *err)
{
	if (fdatasync(metering->fd) < 0) {
		error_errno(err, "metering file %s: sync", metering->path);
		keys_forget_unsynced(metering);
		return -err->code;
	}
	metering->unsynced = 0;
	return 0;
}

static int follow_rotation(struct metering *metering, struct error *err)
{
	struct stat open_status, path_status;

	if (fstat(metering->fd, &open_status) < 0)
		return error_errno(err, "stat");
	if (stat(metering->path, &path_status) == 0 && open_status.st_ino == path_status.st_ino &&
	    open_status.st_dev == path_status.st_dev)
		return 0;
	// What stands in the old one is others': they have to hear of its failure.
	if (metering->unsynced > 0 && sync_file(metering, err) < 0) {
		metering->lost = *err;
		return -err->code;
	}
	return open_file(metering, err);
}

static int write_line(int fd, const char *line, size_t length, struct error *err)
{
	off_t size = lseek(fd, 0, SEEK_END);
	ssize_t count = write(fd, line, length);

	if (count == (ssize_t)length)
		return 0;
	if (count < 0)
		error_errno(err, "write");
	else
		error_set(err, ENOSPC, "write: disk full");
	// Half a line would be glued to the next one.
	if (count > 0 && ftruncate(fd, size) < 0)
		return error_errno(err, "take back half a line");
	return -err->code;
}

int metering_append(struct metering *metering, const struct metering_record *record,
		    struct error *err)
{
	scoped(buffer_release) struct buffer line = {0};
	scoped(buffer_release) struct buffer key_text = {0};
	struct key key;

	metering_format_key(record, &key_text);
	key = key_hash(buffer_text(&key_text));
	if (key_known(metering, key))
		return 0;
	metering_format(record, &line);
	if (follow_rotation(metering, err) < 0 ||
	    write_line(metering->fd, line.data, line.length, err) < 0)
		return error_wrap(err, "metering file %s", metering->path);
	key_add(metering, key);
	if (metering->unsynced < KEYS_MAX)
		metering->unsynced++;
	return 0;
}

int metering_sync(struct metering *metering, struct error *err)
{
	if (!metering->lost.code)
		return sync_file(metering, err);
	*err = metering->lost;
	error_clear(&metering->lost);
	return -err->code;
}
