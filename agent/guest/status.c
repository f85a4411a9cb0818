// SPDX-License-Identifier: Apache-2.0
// The status and commands documents, and the queries of requests.
#include <errno.h>
#include <string.h>

#include "agent/guest/lines.h"
#include "agent/guest/protocol.h"

#include "agent/base/number.h"
#include "agent/base/scope.h"

static const char status_title[] = "penstock-status 1";
static const char commands_title[] = "penstock-commands 1";

static const char *const phases[] = {"CONNECTED", "RUNNING", "STOPPING", "ENDED"};
static const char *const states[] = {"PENDING", "RUNNING", "STOPPED"};
static const char *const healths[] = {"UNKNOWN", "HEALTHY", "UNHEALTHY"};
static const char *const verbs[] = {"stop"};
static const char *const streams[] = {"stdout", "stderr"};

#define WORD(type, member, name, list)                                                             \
	LINE_FIELD(type, member, name, LINE_WORD, ARRAY_LENGTH(list), list)

static const struct line_field task_fields[] = {
	WORD(struct guest_status, phase, "phase", phases),
	LINE_FIELD(struct guest_status, disk_size_bytes, "disk-size", LINE_U64, 0, NULL),
	LINE_FIELD(struct guest_status, disk_used_bytes, "disk-used", LINE_U64, 0, NULL),
	LINE_FIELD(struct guest_status, failure, "failure", LINE_TEXT, GUEST_FAILURE_MAX, NULL),
};
static const struct line_field container_fields[] = {
	WORD(struct guest_container_status, state, "state", states),
	WORD(struct guest_container_status, health, "health", healths),
	LINE_FIELD(struct guest_container_status, exit_code, "exit-code", LINE_I32, 255, NULL),
	LINE_FIELD(struct guest_container_status, started_ms, "started-ms", LINE_I64, 0, NULL),
	LINE_FIELD(struct guest_container_status, finished_ms, "finished-ms", LINE_I64, 0, NULL),
	LINE_FIELD(struct guest_container_status, memory_bytes, "memory-used", LINE_U64, 0, NULL),
	LINE_FIELD(struct guest_container_status, reason, "reason", LINE_TEXT, GUEST_REASON_MAX,
		   NULL),
};
static const struct line_field command_fields[] = {
	LINE_FIELD(struct guest_command, number, "number", LINE_U64, 0, NULL),
	WORD(struct guest_command, verb, "verb", verbs),
};
static const struct line_form task_form = {"task", task_fields, ARRAY_LENGTH(task_fields)};
static const struct line_form container_form = {"container", container_fields,
						ARRAY_LENGTH(container_fields)};
static const struct line_form command_form = {"command", command_fields,
					      ARRAY_LENGTH(command_fields)};

const char *guest_phase_name(enum guest_phase phase)
{
	return (unsigned)phase < ARRAY_LENGTH(phases) ? phases[phase] : "?";
}

const char *guest_container_state_name(enum guest_container_state state)
{
	return (unsigned)state < ARRAY_LENGTH(states) ? states[state] : "?";
}

const char *guest_health_name(enum guest_health health)
{
	return (unsigned)health < ARRAY_LENGTH(healths) ? healths[health] : "?";
}

int guest_status_encode(const struct guest_status *status, struct buffer *document,
			struct error *err)
{
	if (status->container_count > GUEST_CONTAINERS_MAX)
		return error_set(err, E2BIG, "status of more than %d containers",
				 GUEST_CONTAINERS_MAX);
	buffer_addf(document, "%s\n", status_title);
	line_write(document, &task_form, status);
	for (uint32_t i = 0; i < status->container_count; i++)
		line_write(document, &container_form, &status->containers[i]);
	buffer_adds(document, "end\n");
	return 0;
}

// What a guest says ends in logs and replies: printable ASCII, nothing else.
static void make_printable(char *text)
{
	for (; *text; text++)
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
}

static int read_container(const struct line_reader *reader,
			  struct guest_container_status *container, struct error *err)
{
	int result = line_reader_fields(reader, &container_form, container, err);

	if (result == 0 && container->exit_code < GUEST_EXIT_NONE)
		return line_reader_fault(reader, err, "exit code %d", container->exit_code);
	make_printable(container->reason);
	return result;
}

static int read_status_line(const struct line_reader *reader, struct guest_status *status,
			    bool *has_task, struct error *err)
{
	if (line_reader_is(reader, "task") && !*has_task) {
		*has_task = true;
		return line_reader_fields(reader, &task_form, status, err);
	}
	if (!line_reader_is(reader, "container") || status->container_count == GUEST_CONTAINERS_MAX)
		return line_reader_fault(reader, err, "neither the task nor one of %d containers",
					 GUEST_CONTAINERS_MAX);
	return read_container(reader, &status->containers[status->container_count++], err);
}

int guest_status_decode(const char *document, size_t length, struct guest_status *ret_status,
			struct error *err)
{
	struct guest_status status = {0};
	struct line_reader reader;
	bool has_task = false;
	int result;

	if (length > GUEST_STATUS_MAX)
		return error_set(err, EBADMSG, "larger than %d bytes", GUEST_STATUS_MAX);
	result = line_reader_open(&reader, document, length, status_title, NULL, err);
	if (result < 0)
		return result;
	while ((result = line_reader_next(&reader, err)) > 0) {
		result = read_status_line(&reader, &status, &has_task, err);
		if (result < 0)
			return result;
	}
	if (result == 0 && !has_task)
		return error_set(err, EBADMSG, "no task line");
	make_printable(status.failure);
	if (result == 0)
		*ret_status = status;
	return result;
}

int guest_commands_encode(const struct guest_commands *commands, struct buffer *document,
			  struct error *err)
{
	if (commands->count > GUEST_COMMANDS_MAX)
		return error_set(err, E2BIG, "more than %d commands", GUEST_COMMANDS_MAX);
	buffer_addf(document, "%s\n", commands_title);
	for (uint32_t i = 0; i < commands->count; i++)
		line_write(document, &command_form, &commands->commands[i]);
	buffer_adds(document, "end\n");
	return 0;
}

int guest_commands_decode(const char *document, size_t length, struct guest_commands *ret_commands,
			  struct error *err)
{
	struct guest_commands commands = {0};
	struct line_reader reader;
	int result;

	if (length > GUEST_COMMANDS_BYTES_MAX)
		return error_set(err, EBADMSG, "larger than %d bytes", GUEST_COMMANDS_BYTES_MAX);
	result = line_reader_open(&reader, document, length, commands_title, NULL, err);
	if (result < 0)
		return result;
	while ((result = line_reader_next(&reader, err)) > 0) {
		if (!line_reader_is(&reader, "command") || commands.count == GUEST_COMMANDS_MAX)
			return line_reader_fault(&reader, err, "not one of %d commands",
						 GUEST_COMMANDS_MAX);
		result = line_reader_fields(&reader, &command_form,
					    &commands.commands[commands.count++], err);
		if (result < 0)
			return result;
	}
	if (result == 0)
		*ret_commands = commands;
	return result;
}

// Takes "name=value" off the front of *query, value up to '&' or the end, at most 24 bytes.
static bool take_parameter(const char **query, const char *name, char ret_value[25])
{
	size_t name_length = strlen(name);
	const char *value = *query + name_length + 1;
	size_t length;

	if (strncmp(*query, name, name_length) != 0 || (*query)[name_length] != '=')
		return false;
	length = strcspn(value, "&");
	if (length > 24)
		return false;
	memcpy(ret_value, value, length);
	ret_value[length] = '\0';
	*query = value + length + (value[length] == '&');
	return true;
}

int guest_log_query_decode(const char *query, struct guest_log_query *ret_query)
{
	char container[25], stream[25], sequence[25];
	struct guest_log_query found;

	if (!take_parameter(&query, "container", container) ||
	    !take_parameter(&query, "stream", stream) ||
	    !take_parameter(&query, "sequence", sequence) || *query)
		return -EINVAL;
	if (parse_u32(container, GUEST_CONTAINERS_MAX - 1, &found.container) < 0 ||
	    parse_u64(sequence, UINT64_MAX, &found.sequence) < 0)
		return -EINVAL;
	for (unsigned i = 0; i < ARRAY_LENGTH(streams); i++) {
		if (strcmp(stream, streams[i]) == 0) {
			found.stream = (enum guest_stream)i;
			*ret_query = found;
			return 0;
		}
	}
	return -EINVAL;
}

int guest_commands_query_decode(const char *query, uint64_t *ret_after)
{
	char after[25];

	if (!*query) {
		*ret_after = 0;
		return 0;
	}
	if (!take_parameter(&query, "after", after) || *query)
		return -EINVAL;
	return parse_u64(after, UINT64_MAX, ret_after) < 0 ? -EINVAL : 0;
}
