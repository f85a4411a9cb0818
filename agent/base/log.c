// SPDX-License-Identifier: Apache-2.0
#include "agent/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/clock.h"

enum { LINE_MAX_BYTES = 2048 };

static struct {
	const char *process;
	enum log_level lowest;
	int journal_fd;
	unsigned lost; // lines that the journal did not take
} log_state = {"penstock", LOG_LEVEL_INFO, -1, 0};

static const struct {
	const char *name;
	int journal_priority; // as in syslog(3)
} levels[] = {
	[LOG_LEVEL_DEBUG] = {"debug", 7},
	[LOG_LEVEL_INFO] = {"info", 6},
	[LOG_LEVEL_WARNING] = {"warning", 4},
	[LOG_LEVEL_ERROR] = {"error", 3},
};

static int journal_open(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX,
				      .sun_path = "/run/systemd/journal/socket"};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

void log_open(const char *process, enum log_level lowest, int journal)
{
	log_state.process = process;
	log_state.lowest = lowest;
	if (journal && log_state.journal_fd < 0)
		log_state.journal_fd = journal_open();
}

// The journal's own protocol: one FIELD=value per line; our values hold no newline.
static bool write_journal(enum log_level level, const struct log_context *context,
			  const char *message)
{
	char fields[LINE_MAX_BYTES + 512];
	int length =
		snprintf(fields, sizeof(fields),
			 "PRIORITY=%d\nSYSLOG_IDENTIFIER=%s\n%s%s%s%s%s%sMESSAGE=%s\n",
			 levels[level].journal_priority, log_state.process,
			 context->task ? "PENSTOCK_TASK=" : "", context->task ? context->task : "",
			 context->task ? "\n" : "", context->eni ? "PENSTOCK_ENI=" : "",
			 context->eni ? context->eni : "", context->eni ? "\n" : "", message);

	if (length < 0 || (size_t)length >= sizeof(fields))
		return false;
	if (send(log_state.journal_fd, fields, (size_t)length, MSG_NOSIGNAL) == length)
		return true;
	if (errno != EAGAIN)
		return false;
	log_state.lost++; // whoever writes to standard error may wait for the same slow reader
	return true;
}

static void tell_of_lost(void)
{
	static const struct log_context nobody;
	unsigned lost = log_state.lost;
	char message[64];

	if (lost == 0)
		return;
	log_state.lost = 0;
	snprintf(message, sizeof(message), "%u lines were lost: the journal was slow", lost);
	write_journal(LOG_LEVEL_WARNING, &nobody, message);
	if (log_state.lost)
		log_state.lost = lost; // it still is
}

static void write_stderr(enum log_level level, const struct log_context *context,
			 const char *message)
{
	char line[LINE_MAX_BYTES + 512];
	char now[CLOCK_RFC3339_SIZE];
	int length = snprintf(line, sizeof(line), "%s %s %s%s%s%s%s: %s\n",
			      clock_format_rfc3339(clock_wall_ms(), now), levels[level].name,
			      log_state.process, context->task ? " task=" : "",
			      context->task ? context->task : "", context->eni ? " eni=" : "",
			      context->eni ? context->eni : "", message);

	if (length >= (int)sizeof(line))
		length = (int)sizeof(line) - 1;
	if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0)
		return; // nobody is left to be told
}

void log_write(enum log_level level, const struct log_context *context, const char *format, ...)
{
	static const struct log_context nobody;
	char message[LINE_MAX_BYTES];
	va_list args;

	if (level < log_state.lowest)
		return;
	if (!context)
		context = &nobody;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	for (char *c = message; *c; c++) // a peer's text must not forge a line
		if ((unsigned char)*c < ' ')
			*c = ' ';
	tell_of_lost();
	if (log_state.journal_fd >= 0 && write_journal(level, context, message))
		return;
	write_stderr(level, context, message);
}
