// SPDX-License-Identifier: Apache-2.0
// GET /v1/tasks/{id}/logs: a container's log, the rotated file first, then the current one.
//
// A follower waits for inotify on the open file. At its end it looks whether the file became
// shorter, and whether the name means another file by now, which is what rotation does.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/api/internal.h"
#include "agent/api/log_lines.h"
#include "agent/base/scope.h"

enum {
	SLICE_BYTES = 64 * 1024,
	BEGINNING_BYTES = 64,             // a time stamp and some text: no other file has the same
	NEW_FILE_RETRY_US = 50 * 1000,    // between a rotation and the next line
	FIRST_FILE_RETRY_US = 250 * 1000, // before the container has written anything
};

struct log_stream {
	struct stream stream; // first
	const char *container;
	bool follow;
	bool current;                    // fd is the current file, not the rotated one
	int fd;                          // -1: none is open
	char beginning[BEGINNING_BYTES]; // of that file
	size_t beginning_length;         // 0: nothing was read of it yet
	struct log_lines lines;
	int notify_fd;
	struct event *notify;
	struct event *retry; // after a rotation the new file may be a moment late
};

// --- Files ---

static bool same_file(int one, int other)
{
	struct stat a, b;

	return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

static void watch_file(struct log_stream *log)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", log->fd);
	if (log->notify_fd >= 0)
		inotify_add_watch(log->notify_fd, path, IN_MODIFY | IN_MOVE_SELF);
}

static ssize_t file_read_on(struct log_stream *log, char *bytes)
{
	if (log->beginning_length == 0) {
		ssize_t count = pread(log->fd, log->beginning, sizeof(log->beginning), 0);

		log->beginning_length = count > 0 ? (size_t)count : 0;
	}
	return read(log->fd, bytes, SLICE_BYTES);
}

static bool begins_as_before(const struct log_stream *log)
{
	char bytes[BEGINNING_BYTES];
	ssize_t count = pread(log->fd, bytes, log->beginning_length, 0);

	return count > 0 && (size_t)count == log->beginning_length &&
	       memcmp(bytes, log->beginning, log->beginning_length) == 0;
}

// True when somebody truncated the file (`truncate -s 0`, logrotate's copytruncate): it is shorter
// than what was read of it, and is read from its beginning again. One that begins as before is not:
// the shim cuts lines off that it could not write whole, and writes lines of the same length in
// their place, so there the reader's place stays right.
static bool file_was_truncated(struct log_stream *log)
{
	off_t place = log->fd >= 0 ? lseek(log->fd, 0, SEEK_CUR) : 0;
	struct stat status;

	if (log->fd < 0 || fstat(log->fd, &status) < 0 || place < 0 || status.st_size >= place ||
	    begins_as_before(log))
		return false;
	log->beginning_length = 0;
	log_lines_cut(&log->lines);
	return lseek(log->fd, 0, SEEK_SET) == 0;
}

// Opens the file that comes next: the current one behind the rotated one, or the current one that
// took the place of the open one. False when there is none now.
static bool file_advance(struct log_stream *log)
{
	struct exchange *exchange = log->stream.exchange;
	const struct api_backend *backend = exchange->api->backend;
	struct error err = {0};
	scoped_fd int fd = -1;
	int result = backend->task_log_open(backend->context, exchange->id, log->container, false,
					    &fd, &err);

	if (result < 0 && log->retry && (log->fd < 0 || log->current))
		event_add(log->retry,
			  &(struct timeval){.tv_usec = log->fd < 0 ? FIRST_FILE_RETRY_US
								   : NEW_FILE_RETRY_US});
	if (result < 0 || (log->fd >= 0 && log->current && same_file(fd, log->fd)))
		return false;
	close_fd(&log->fd);
	log->fd = take_fd(&fd);
	log->beginning_length = 0;
	log->current = true;
	watch_file(log);
	return true;
}

static bool task_has_stopped(struct exchange *exchange)
{
	scoped(arena_release) struct arena arena = {0};
	struct store_object object;
	struct task_status status;
	struct error err = {0};

	return store_object_get(exchange->api->store, model_kind_name(MODEL_TASK), exchange->id,
				&arena, &object, &err) < 0 ||
	       !object.status ||
	       task_status_parse(object.status, strlen(object.status), &arena, &status, &err) < 0 ||
	       status.last_status == TASK_STOPPED;
}

// --- The stream ---

static enum stream_state log_pull(struct stream *stream, struct evbuffer *out)
{
	struct log_stream *log = (struct log_stream *)stream;
	// Asked before reading: what a stopped task wrote is all there then.
	bool last = !log->follow || task_has_stopped(stream->exchange);
	scoped_free char *bytes = malloc(SLICE_BYTES);
	ssize_t count = log->fd >= 0 && bytes ? file_read_on(log, bytes) : 0;

	if (count > 0) {
		log_lines_add(&log->lines, bytes, (size_t)count, out);
		return STREAM_MORE;
	}
	if (count == 0 && (file_was_truncated(log) || file_advance(log)))
		return STREAM_MORE;
	if (count == 0 && !last)
		return STREAM_IDLE;
	log_lines_end(&log->lines, out);
	return count < 0 || !bytes ? STREAM_BROKEN : STREAM_DONE;
}

static bool log_overflow(struct stream *stream, struct evbuffer *out)
{
	(void)stream;
	(void)out;
	return false; // the file is the buffer; the reader's deadline still counts
}

static void log_release(struct stream *stream)
{
	struct log_stream *log = (struct log_stream *)stream;

	if (log->notify)
		event_free(log->notify);
	if (log->retry)
		event_free(log->retry);
	close_fd(&log->notify_fd);
	close_fd(&log->fd);
	log_lines_release(&log->lines);
	free(log);
}

static const struct stream_ops log_ops = {log_pull, log_overflow, log_release};

static void on_notify(evutil_socket_t fd, short what, void *context)
{
	struct log_stream *log = context;
	char events[4096] __attribute__((aligned(8)));

	if (what & EV_READ)
		while (read(fd, events, sizeof(events)) > 0)
			;
	if (log->stream.started)
		stream_pump(log->stream.exchange);
}

static void follow_begin(struct log_stream *log)
{
	struct event_base *base = log->stream.exchange->api->base;

	log->notify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (log->notify_fd < 0)
		return; // then every commit is a chance to look
	log->notify = event_new(base, log->notify_fd, EV_READ | EV_PERSIST, on_notify, log);
	log->retry = evtimer_new(base, on_notify, log);
	if (log->notify)
		event_add(log->notify, NULL);
}

// --- The request ---

static const char *container_choose(struct exchange *exchange, const struct task_spec *task)
{
	const char *wanted = exchange_query(exchange, "container");
	scoped(buffer_release) struct buffer names = {0};

	for (uint32_t i = 0; i < task->container_count; i++) {
		if (task->container_count == 1 && !wanted)
			return task->containers[i].name;
		if (wanted && strcmp(wanted, task->containers[i].name) == 0)
			return task->containers[i].name;
		buffer_addf(&names, "%s%s", i ? ", " : "", task->containers[i].name);
	}
	if (wanted)
		reply_error(exchange, REPLY_NOT_FOUND, NULL,
			    "task/%s has no container \"%.80s\", only %s", exchange->id, wanted,
			    buffer_text(&names));
	else
		reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
			    "query parameter container must be one of %s", buffer_text(&names));
	return NULL;
}

static bool format_read(struct exchange *exchange, bool *ret_ndjson)
{
	const char *format = exchange_query(exchange, "format");

	*ret_ndjson = format && strcmp(format, "ndjson") == 0;
	if (!format || *ret_ndjson || strcmp(format, "text") == 0)
		return true;
	reply_error(exchange, REPLY_INVALID_REQUEST, NULL,
		    "query parameter format must be text or ndjson");
	return false;
}

// The older file first; without one the current one; without any there is nothing yet.
static bool log_open_first(struct log_stream *log)
{
	struct exchange *exchange = log->stream.exchange;
	const struct api_backend *backend = exchange->api->backend;
	struct error err = {0};
	int result = backend->task_log_open(backend->context, exchange->id, log->container, true,
					    &log->fd, &err);

	if (result < 0)
		log->fd = -1;
	if (result < 0 && result != -ENOENT) {
		reply_errno(exchange, result, NULL, &err);
		return false;
	}
	if (log->follow)
		follow_begin(log);
	if (log->fd < 0)
		file_advance(log);
	return true;
}

static const struct task_spec *spec_load(struct exchange *exchange)
{
	struct fault_list *faults = arena_new(&exchange->arena, struct fault_list);
	struct store_object stored;
	struct model_object task;

	faults->arena = &exchange->arena;
	if (!object_load(exchange, &stored))
		return NULL;
	if (model_parse(MODEL_TASK, stored.id, stored.spec, strlen(stored.spec), &exchange->arena,
			&task, faults) == 0)
		return task.task;
	reply_errno(exchange, -EBADMSG, faults, &(struct error){0});
	return NULL;
}

void handle_task_logs(struct exchange *exchange)
{
	const struct task_spec *task = spec_load(exchange);
	struct log_stream *log = calloc(1, sizeof(*log));

	if (!log)
		abort();
	log->stream.exchange = exchange;
	log->fd = log->notify_fd = -1;
	log->container = task ? container_choose(exchange, task) : NULL;
	if (!log->container || !exchange_query_flag(exchange, "follow", &log->follow) ||
	    !format_read(exchange, &log->lines.ndjson) || !log_open_first(log)) {
		log_release(&log->stream);
		return;
	}
	stream_prepare(exchange, &log->stream, &log_ops,
		       log->lines.ndjson ? "application/x-ndjson" : "text/plain; charset=utf-8");
}
