// SPDX-License-Identifier: Apache-2.0
// A QMP client without I/O, for one command: the power button. The VMM is assumed hostile: a line
// is bounded, JSON is bounded in depth, and what is not expected ends the session. Events are taken
// and dropped: that a VMM ends is seen by its process, and why it says it ended is its word only.
//
//     qmp_open(&qmp);
//     ... readable: count = read(fd, bytes, sizeof(bytes));
//     if (!qmp_feed(&qmp, bytes, count)) close
//     qmp_powerdown(&qmp);                           // queued; sent once ready
//     ... writable: pending = qmp_output(&qmp, &text); sent = write(fd, text, pending);
//     qmp_sent(&qmp, sent);
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buffer.h"

enum {
	QMP_LINE_MAX = 16 * 1024,
	QMP_DEPTH_MAX = 8,
};

enum qmp_state { QMP_STATE_GREETING, QMP_STATE_NEGOTIATING, QMP_STATE_READY, QMP_STATE_BROKEN };

struct qmp {
	enum qmp_state state;
	struct buffer in; // at most one line
	struct buffer out;
	bool wants_powerdown; // asked for before the session was ready
};

void qmp_open(struct qmp *qmp);
void qmp_close(struct qmp *qmp);
// False: the peer broke the protocol, now or before.
bool qmp_feed(struct qmp *qmp, const char *bytes, size_t count);

void qmp_powerdown(struct qmp *qmp); // ACPI power button

size_t qmp_output(const struct qmp *qmp, const char **ret_text);
void qmp_sent(struct qmp *qmp, size_t count);
