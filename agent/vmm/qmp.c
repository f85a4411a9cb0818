// SPDX-License-Identifier: Apache-2.0
#include "agent/vmm/qmp.h"

#include <stdio.h>
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
	if (qmp->state != QMP_STATE_READY)
		return;
	if (qmp->wants_powerdown)
		say(qmp, "system_powerdown");
	if (qmp->wants_quit)
		say(qmp, "quit");
	qmp->wants_powerdown = qmp->wants_quit = false;
}

void qmp_powerdown(struct qmp *qmp)
{
	qmp->wants_powerdown = true;
	say_what_is_wanted(qmp);
}

void qmp_quit(struct qmp *qmp)
{
	qmp->wants_quit = true;
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

// Names come from the VMM and go to logs: letters, digits and a few marks, cut to size.
static void copy_name(char place[QMP_NAME_MAX], const cJSON *value)
{
	const char *said = cJSON_GetStringValue(value);
	const char *text = said ? said : "";
	size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789_-.");

	snprintf(place, QMP_NAME_MAX, "%.*s", (int)length, text);
}

static bool queue_event(struct qmp *qmp, enum qmp_kind kind, const cJSON *name, const cJSON *reason)
{
	struct qmp_event *event;

	if (qmp->queue_count == QMP_QUEUE_MAX)
		return false;
	event = &qmp->queue[(qmp->queue_first + qmp->queue_count++) % QMP_QUEUE_MAX];
	event->kind = kind;
	copy_name(event->name, name);
	copy_name(event->reason, reason);
	return true;
}

// After a fault only that is left to take: nothing from before it counts.
static void break_off(struct qmp *qmp)
{
	qmp->state = QMP_STATE_BROKEN;
	qmp->queue_first = 0;
	qmp->queue_count = 0;
	queue_event(qmp, QMP_FAULT, NULL, NULL);
	buffer_release(&qmp->in);
}

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
	const cJSON *event = json_member(message, "event");
	const cJSON *fault = json_member(message, "error");

	if (event)
		return queue_event(qmp, QMP_EVENT, event,
				   json_member(json_member(message, "data"), "reason"));
	if (fault && qmp->state == QMP_STATE_NEGOTIATING)
		return false;
	if (fault)
		return queue_event(qmp, QMP_FAILED, json_member(fault, "class"), NULL);
	if (!json_member(message, "return"))
		return false;
	if (qmp->state == QMP_STATE_READY)
		return true;
	qmp->state = QMP_STATE_READY;
	say_what_is_wanted(qmp);
	return queue_event(qmp, QMP_READY, NULL, NULL);
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

void qmp_feed(struct qmp *qmp, const char *bytes, size_t count)
{
	while (count && qmp->state != QMP_STATE_BROKEN) {
		const char *newline = memchr(bytes, '\n', count);
		size_t length = newline ? (size_t)(newline - bytes) : count;

		if (qmp->in.length + length > QMP_LINE_MAX) {
			break_off(qmp);
			return;
		}
		buffer_add(&qmp->in, bytes, length);
		if (!newline)
			return;
		bytes += length + 1;
		count -= length + 1;
		if (!take_line(qmp, buffer_text(&qmp->in), qmp->in.length)) {
			break_off(qmp);
			return;
		}
		qmp->in.length = 0;
	}
}

bool qmp_next(struct qmp *qmp, struct qmp_event *ret_event)
{
	if (!qmp->queue_count)
		return false;
	*ret_event = qmp->queue[qmp->queue_first];
	qmp->queue_first = (qmp->queue_first + 1) % QMP_QUEUE_MAX;
	qmp->queue_count--;
	return true;
}
