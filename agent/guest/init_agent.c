// SPDX-License-Identifier: Apache-2.0
// Three connections to the shim, each with one request at a time: control (session, manifest,
// then status snapshots), commands (a long poll), logs. What fails is repeated after a pause;
// status is a snapshot and log chunks are numbered, so repeating is harmless.
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "agent/guest/init.h"

#include "agent/base/clock.h"
#include "agent/base/scope.h"

static const int64_t second_us = 1000000;
static const int64_t retry_us = 200000;
static const int64_t exchange_us = 10000000;

static const size_t response_max[AGENT_CONNECTIONS] = {
	[AGENT_CONTROL] = GUEST_MANIFEST_MAX,
	[AGENT_COMMANDS] = GUEST_COMMANDS_BYTES_MAX,
	[AGENT_LOGS] = 1024,
};

// ---------------------------------------------------------------- before the loop

// One request, repeated until it gets a 200 or a refusal.
static int request_until(struct http_client *client, enum http_method method, const char *target,
			 const char *token, int64_t deadline_us, struct http_message *ret_response,
			 struct error *err)
{
	for (;;) {
		int64_t now_us = clock_monotonic_us();
		int64_t until_us = now_us + exchange_us;
		int result;

		http_client_begin(client, method, target, token, "", 0,
				  until_us < deadline_us ? until_us : deadline_us);
		result = http_client_exchange(client, ret_response, err);
		if (result == 0 && ret_response->status == 200)
			return 0;
		if (result == 0 && ret_response->status < 500)
			return error_set(err, EPERM, "%s: answered with %u", target,
					 ret_response->status);
		if (clock_monotonic_us() + retry_us >= deadline_us)
			return error_set(err, ETIMEDOUT, "%s: no answer from %s", target,
					 GUEST_HOST);
		poll(NULL, 0, (int)(retry_us / 1000));
	}
}

static int take_token(struct agent *agent, const struct http_message *response, struct error *err)
{
	size_t length = response->body_length;

	if (length && response->body[length - 1] == '\n')
		length--;
	if (length != GUEST_TOKEN_LENGTH)
		return error_set(err, EBADMSG, "a session token of %zu characters", length);
	memcpy(agent->token, response->body, length);
	agent->token[length] = '\0';
	return 0;
}

int init_agent_connect(struct agent *agent, int64_t deadline_us, char **ret_manifest,
		       size_t *ret_length, struct error *err)
{
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(GUEST_PORT)};
	struct http_client *control = &agent->clients[AGENT_CONTROL];
	struct http_message response;
	int result;

	*agent = (struct agent){0};
	inet_pton(AF_INET, GUEST_HOST, &peer.sin_addr);
	for (int i = 0; i < AGENT_CONNECTIONS; i++)
		http_client_open(&agent->clients[i], peer, response_max[i]);
	result = request_until(control, HTTP_POST, GUEST_PATH_SESSION, NULL, deadline_us, &response,
			       err);
	if (result == 0)
		result = take_token(agent, &response, err);
	if (result == 0)
		result = request_until(control, HTTP_GET, GUEST_PATH_MANIFEST, agent->token,
				       deadline_us, &response, err);
	if (result < 0)
		return result;
	*ret_manifest = malloc(response.body_length + 1);
	if (!*ret_manifest)
		abort();
	memcpy(*ret_manifest, response.body, response.body_length);
	*ret_length = response.body_length;
	return 0;
}

// ---------------------------------------------------------------- requests

static bool begin_status(struct agent *agent, struct task *task, int64_t now_us)
{
	scoped(buffer_release) struct buffer document = {0};
	struct error err;

	if (!task->status_changed || guest_status_encode(&task->status, &document, &err) < 0)
		return false;
	task->status_changed = false;
	http_client_begin(&agent->clients[AGENT_CONTROL], HTTP_POST, GUEST_PATH_STATUS,
			  agent->token, document.data, document.length, now_us + exchange_us);
	return true;
}

static bool begin_commands(struct agent *agent, struct task *task, int64_t now_us)
{
	char target[96];

	(void)task;
	snprintf(target, sizeof(target), GUEST_PATH_COMMANDS "?after=%" PRIu64,
		 agent->command_seen);
	http_client_begin(&agent->clients[AGENT_COMMANDS], HTTP_GET, target, agent->token, "", 0,
			  now_us + (GUEST_COMMANDS_WAIT_S + 10) * second_us);
	return true;
}

// The streams take turns: a loud one cannot hold back the others.
static struct log_stream *next_stream(struct agent *agent, struct task *task)
{
	uint32_t count = task->manifest.container_count * 2;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t turn = (agent->log_turn + i) % count;
		struct log_stream *stream = &task->containers[turn / 2].streams[turn % 2];

		if (!stream->length)
			continue;
		agent->log_turn = turn + 1;
		agent->log_container = turn / 2;
		agent->log_stream = turn % 2 ? GUEST_STREAM_STDERR : GUEST_STREAM_STDOUT;
		return stream;
	}
	return NULL;
}

static bool begin_logs(struct agent *agent, struct task *task, int64_t now_us)
{
	struct log_stream *stream = next_stream(agent, task);
	char target[128];

	if (!stream)
		return false;
	snprintf(target, sizeof(target),
		 GUEST_PATH_LOGS "?container=%u&stream=%s&sequence=%" PRIu64, agent->log_container,
		 agent->log_stream == GUEST_STREAM_STDERR ? "stderr" : "stdout", stream->sequence);
	http_client_begin(&agent->clients[AGENT_LOGS], HTTP_POST, target, agent->token,
			  stream->data, init_log_chunk(stream), now_us + exchange_us);
	return true;
}

// ---------------------------------------------------------------- responses

static bool end_status(struct agent *agent, struct task *task, const struct http_message *response)
{
	(void)agent;
	if (!response || response->status != 204)
		task->status_changed = true;
	return response && response->status == 204;
}

static bool end_commands(struct agent *agent, struct task *task,
			 const struct http_message *response)
{
	struct guest_commands commands;
	struct error err;

	if (!response || (response->status != 200 && response->status != 204))
		return false;
	if (response->status == 204)
		return true;
	if (guest_commands_decode(response->body, response->body_length, &commands, &err) < 0)
		return false;
	for (uint32_t i = 0; i < commands.count; i++) {
		if (commands.commands[i].number <= agent->command_seen)
			continue;
		agent->command_seen = commands.commands[i].number;
		init_task_stop(task); // the only verb there is
	}
	return true;
}

static bool end_logs(struct agent *agent, struct task *task, const struct http_message *response)
{
	struct log_stream *stream =
		&task->containers[agent->log_container].streams[agent->log_stream];

	if (!response || response->status != 204) {
		agent->log_turn = agent->log_container * 2 + agent->log_stream;
		return false;
	}
	init_log_sent(stream);
	return true;
}

static const struct {
	bool (*begin)(struct agent *agent, struct task *task, int64_t now_us);
	bool (*end)(struct agent *agent, struct task *task, const struct http_message *response);
} conversations[AGENT_CONNECTIONS] = {
	[AGENT_CONTROL] = {begin_status, end_status},
	[AGENT_COMMANDS] = {begin_commands, end_commands},
	[AGENT_LOGS] = {begin_logs, end_logs},
};

// The first failure in a row is repeated at once: most often the connection has merely gone.
static void note_result(struct agent *agent, int which, bool success, int64_t now_us)
{
	agent->retry_us[which] = 0;
	if (success)
		agent->failures[which] = 0;
	else if (agent->failures[which]++)
		agent->retry_us[which] = now_us + retry_us;
}

// Advances one conversation; true when an exchange has ended, so that the next may begin.
static bool step(struct agent *agent, struct task *task, int which, int64_t now_us)
{
	struct http_client *client = &agent->clients[which];
	struct http_message response;
	struct error err;
	int result;

	if (!client->busy) {
		if (now_us < agent->retry_us[which])
			return false;
		agent->retry_us[which] = 0;
		if (!conversations[which].begin(agent, task, now_us))
			return false;
	}
	result = http_client_step(client, now_us, &response, &err);
	if (result == HTTP_CLIENT_PENDING)
		return false;
	note_result(agent, which,
		    conversations[which].end(agent, task, result < 0 ? NULL : &response), now_us);
	return true;
}

void init_agent_tick(struct agent *agent, struct task *task, int64_t now_us)
{
	for (int i = 0; i < AGENT_CONNECTIONS; i++)
		while (step(agent, task, i, now_us))
			continue;
}

bool init_agent_idle(const struct agent *agent, const struct task *task)
{
	if (task->status_changed || agent->clients[AGENT_CONTROL].busy ||
	    agent->clients[AGENT_LOGS].busy)
		return false;
	for (uint32_t i = 0; i < task->manifest.container_count; i++)
		if (task->containers[i].streams[0].length || task->containers[i].streams[1].length)
			return false;
	return true;
}

int64_t init_agent_next_us(const struct agent *agent)
{
	int64_t next_us = INT64_MAX;

	for (int i = 0; i < AGENT_CONNECTIONS; i++) {
		int64_t at_us =
			agent->clients[i].busy ? agent->clients[i].deadline_us : agent->retry_us[i];

		if (at_us && at_us < next_us)
			next_us = at_us;
	}
	return next_us;
}
