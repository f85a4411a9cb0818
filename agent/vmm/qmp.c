// SPDX-License-Identifier: Apache-2.0
#include "agent/vmm/qmp.h"

#include <string.h>

#include "agent/base/json.h"

static const struct json_limits limits = {.max_bytes = QMP_LINE_MAX, .max_depth = QMP_DEPTH_MAX};

void qmp_open(struct qmp *qmp)
{
	*qmp = (struct qmp){.state = QMP_STATE_GREETING};
}

void qmp_close(struct qmp *qmp)
{
	buffer_release(&qmp->in);
	buffer_release(&qmp->out);
	qmp->state = QMP_STATE_BROKEN;
}

// ---------------------------------------------------------------- out

static void say(struct qmp *qmp, const char *command)
{
	buffer_addf(&qmp->out, "{\"execute\":\"%s\"}\n", command);
}

static void say_what_is_wanted(struct qmp *qmp)
{
	if (qmp->state != QMP_STATE_READY || !qmp->wants_powerdown)
		return;
	say(qmp, "system_powerdown");
	qmp->wants_powerdown = false;
}

void qmp_powerdown(struct qmp *qmp)
{
	qmp->wants_powerdown = true;
	say_what_is_wanted(qmp);
}

size_t qmp_output(const struct qmp *qmp, const char **ret_text)
{
	*ret_text = buffer_text(&qmp->out);
	return qmp->out.length;
}

void qmp_sent(struct qmp *qmp, size_t count)
{
	if (!count)
		return;
	memmove(qmp->out.data, qmp->out.data + count, qmp->out.length - count);
	qmp->out.length -= count;
}

// ---------------------------------------------------------------- in

static bool take_greeting(struct qmp *qmp, const cJSON *message)
{
	if (!cJSON_IsObject(json_member(message, "QMP")))
		return false;
	say(qmp, "qmp_capabilities");
	qmp->state = QMP_STATE_NEGOTIATING;
	return true;
}

static bool take_message(struct qmp *qmp, const cJSON *message)
{
	if (json_member(message, "event"))
		return true;
	if (json_member(message, "error")) // a power button that is not there may be refused
		return qmp->state == QMP_STATE_READY;
	if (!json_member(message, "return"))
		return false;
	qmp->state = QMP_STATE_READY;
	say_what_is_wanted(qmp);
	return true;
}

static bool take_line(struct qmp *qmp, const char *line, size_t length)
{
	struct json_fault fault;
	cJSON *message;
	bool good = false;

	if (json_read(line, length, &limits, &message, &fault) < 0)
		return false;
	if (cJSON_IsObject(message))
		good = qmp->state == QMP_STATE_GREETING ? take_greeting(qmp, message)
							: take_message(qmp, message);
	cJSON_Delete(message);
	return good;
}

static bool break_off(struct qmp *qmp)
{
	qmp->state = QMP_STATE_BROKEN;
	buffer_release(&qmp->in);
	return false;
}

bool qmp_feed(struct qmp *qmp, const char *bytes, size_t count)
{
	while (count && qmp->state != QMP_STATE_BROKEN) {
		const char *newline = memchr(bytes, '\n', count);
		size_t length = newline ? (size_t)(newline - bytes) : count;

		if (qmp->in.length + length > QMP_LINE_MAX)
			return break_off(qmp);
		buffer_add(&qmp->in, bytes, length);
		if (!newline)
			return true;
		bytes += length + 1;
		count -= length + 1;
		if (!take_line(qmp, buffer_text(&qmp->in), qmp->in.length))
			return break_off(qmp);
		qmp->in.length = 0;
	}
	return qmp->state != QMP_STATE_BROKEN;
}
