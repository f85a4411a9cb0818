// SPDX-License-Identifier: Apache-2.0
// A QMP client without I/O: it is fed the bytes a VMM sent and gives back events and the
// bytes to send. The VMM is assumed hostile: a line is bounded, JSON is bounded in depth,
// and what is not expected is skipped or ends the session.
//
//     qmp_open(&qmp);
//     ... readable: count = read(fd, bytes, sizeof(bytes)); qmp_feed(&qmp, bytes, count);
//     while (qmp_next(&qmp, &event)) ...             // -> QMP_READY, QMP_EVENT, ...
//     qmp_powerdown(&qmp);                           // queued; sent once ready
//     ... writable: pending = qmp_output(&qmp, &text); sent = write(fd, text, pending);
//     qmp_sent(&qmp, sent);
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buffer.h"

enum {
	QMP_LINE_MAX = 16 * 1024,
	QMP_DEPTH_MAX = 8,
	QMP_QUEUE_MAX = 16, // events not yet taken; more is a fault
	QMP_NAME_MAX = 48,
};

enum qmp_kind {
	QMP_READY,  // greeting and capabilities are done
	QMP_EVENT,  // name: "SHUTDOWN", "RESET", "STOP", ...; reason: data.reason or ""
	QMP_FAILED, // a command was refused; name: its error class
	QMP_FAULT,  // the peer broke the protocol: close
};

struct qmp_event {
	enum qmp_kind kind;
	char name[QMP_NAME_MAX];
	char reason[QMP_NAME_MAX];
};

enum qmp_state { QMP_STATE_GREETING, QMP_STATE_NEGOTIATING, QMP_STATE_READY, QMP_STATE_BROKEN };

struct qmp {
	enum qmp_state state;
	struct buffer in; // at most one line
	struct buffer out;
	struct qmp_event queue[QMP_QUEUE_MAX];
	unsigned queue_first, queue_count;
	bool wants_powerdown, wants_quit; // asked for before the session was ready
};

void qmp_open(struct qmp *qmp);
void qmp_close(struct qmp *qmp);
void qmp_feed(struct qmp *qmp, const char *bytes, size_t count);
bool qmp_next(struct qmp *qmp, struct qmp_event *ret_event);

void qmp_powerdown(struct qmp *qmp); // ACPI power button
void qmp_quit(struct qmp *qmp);      // the VMM ends at once

size_t qmp_output(const struct qmp *qmp, const char **ret_text);
void qmp_sent(struct qmp *qmp, size_t count);
