// SPDX-License-Identifier: Apache-2.0
// run, wait, stop and prune: tasks, with waiting.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/input.h"
#include "agent/model/status.h"

enum { TIMEOUT_MAX_SECONDS = 3600 };

// Whether a task that is in state `now` can still get to `wanted`: the states are in the order in
// which a task goes through them.
static bool is_on_its_way(const char *now, const char *wanted)
{
	enum task_state current, target;

	return task_state_from_name(now, &current) == 0 &&
	       task_state_from_name(wanted, &target) == 0 && current <= target;
}

// The task reached `state`, or ended, or is still on its way: what the reply (2xx) to a waiting
// request says.
static int outcome(const struct ctl *ctl, const struct client_reply *reply, const char *state)
{
	scoped(document_release) cJSON *task = cJSON_Parse(buffer_text(&reply->body));
	const char *id = member_text(task, "id"), *now = member_text(task, "status.lastStatus");
	const char *reason = member_text(task, "status.stoppedReason");

	if (ctl->json)
		puts(buffer_text(&reply->body));
	else if (is_on_its_way(now, "RUNNING") && strcmp(reason, "-") != 0)
		printf("task/%s: %s, to be stopped\n", id, now);
	else
		printf("task/%s: %s%s%s\n", id, now, strcmp(reason, "-") ? ": " : "",
		       strcmp(reason, "-") ? reason : "");
	if (!state || reply->status != 202)
		return EXIT_DONE;
	return is_on_its_way(now, state) ? EXIT_NOT_REACHED : EXIT_REFUSED;
}

// The request, asking the agent to hold its reply until `state` or for so many seconds; NULL: not.
static int request_perform(const struct ctl *ctl, struct client_request *request, const char *path,
			   const char *state, uint32_t seconds, struct client_reply *ret_reply)
{
	scoped(buffer_release) struct buffer full_path = {0};

	buffer_adds(&full_path, path);
	if (state)
		buffer_addf(&full_path, "?wait=%s&timeout=%u", state, seconds);
	request->timeout_seconds = seconds + CLIENT_TIMEOUT_SECONDS;
	request->socket_path = ctl->socket_path;
	request->path = buffer_text(&full_path);
	if (client_perform(request, ret_reply) < 0 || ret_reply->status / 100 != 2)
		return reply_fail(ctl, NULL, ret_reply);
	return EXIT_DONE;
}

// --- Progress, for people who watch ---

static uint32_t seconds_until(int64_t deadline_us)
{
	int64_t left_us = deadline_us - clock_monotonic_us();

	return left_us > 0 ? (uint32_t)(left_us / 1000000) : 0;
}

static enum task_state state_of(const struct client_reply *reply)
{
	scoped(document_release) cJSON *task = cJSON_Parse(buffer_text(&reply->body));
	enum task_state state = TASK_STOPPED; // of a reply that is no task: there is no more to see

	task_state_from_name(member_text(task, "status.lastStatus"), &state);
	return state;
}

static void progress_show(const char *path, enum task_state state)
{
	fprintf(stderr, "%s: %s\n", strrchr(path, '/') + 1, task_state_name(state));
}

// Shows each state below `wanted` on standard error as the task gets there: one request for each,
// held by the agent until then.
static int progress_follow(const struct ctl *ctl, const char *path, enum task_state now,
			   enum task_state wanted, int64_t deadline_us)
{
	int result = EXIT_DONE;

	progress_show(path, now);
	while (result == EXIT_DONE && now + 1 < wanted && seconds_until(deadline_us) > 0) {
		struct client_request request = {.method = "GET"};
		scoped(client_reply_release) struct client_reply reply = {0};
		enum task_state reached;

		result = request_perform(ctl, &request, path, task_state_name(now + 1),
					 seconds_until(deadline_us), &reply);
		reached = result == EXIT_DONE ? state_of(&reply) : now;
		if (reached == now)
			break;
		now = reached;
		if (now < wanted)
			progress_show(path, now);
	}
	return result;
}

static int request_and_wait(const struct ctl *ctl, struct client_request *request, const char *path,
			    const char *state, const char *timeout)
{
	scoped(client_reply_release) struct client_reply first = {0}, reply = {0};
	struct client_request waiting = {.method = "GET"};
	enum task_state wanted;
	uint32_t seconds = 0;
	int64_t deadline_us;
	int result;

	if (state)
		parse_u32(timeout, TIMEOUT_MAX_SECONDS, &seconds);
	if (!state || ctl->json || !isatty(STDERR_FILENO)) {
		result = request_perform(ctl, request, path, state, seconds, &reply);
		return result == EXIT_DONE ? outcome(ctl, &reply, state) : result;
	}
	deadline_us = clock_monotonic_us() + (int64_t)seconds * 1000000;
	task_state_from_name(state, &wanted);
	result = request_perform(ctl, request, path, NULL, 0, &first);
	if (result == EXIT_DONE)
		result = progress_follow(ctl, path, state_of(&first), wanted, deadline_us);
	if (result == EXIT_DONE)
		result = request_perform(ctl, &waiting, path, state, seconds_until(deadline_us),
					 &reply);
	return result == EXIT_DONE ? outcome(ctl, &reply, state) : result;
}

static bool timeout_is_valid(const char *text)
{
	uint32_t seconds;

	return parse_u32(text, TIMEOUT_MAX_SECONDS, &seconds) == 0;
}

// A bare specification, or an object with kind and spec.
static char *spec_text(const char *file)
{
	scoped(document_release) cJSON *document = input_read(file);
	const cJSON *spec = cJSON_GetObjectItemCaseSensitive(document, "spec");
	bool wrapped = cJSON_GetObjectItemCaseSensitive(document, "kind") && spec;

	return document ? cJSON_PrintUnformatted(wrapped ? spec : document) : NULL;
}

// A task's id stands for one run: the agent answers a second request with the run that is over.
static void stopped_explain(const struct ctl *ctl, const char *path)
{
	const struct client_request request = {
		.socket_path = ctl->socket_path, .method = "GET", .path = path};
	scoped(client_reply_release) struct client_reply reply = {0};

	if (!ctl->json && client_perform(&request, &reply) == 0 && reply.status == 200 &&
	    state_of(&reply) == TASK_STOPPED)
		fprintf(stderr,
			"penstockctl: a STOPPED task stays so; to run it again: penstockctl delete "
			"task/%s, then the same command\n",
			strrchr(path, '/') + 1);
}

static int run_run(const struct ctl *ctl, int argc, char **argv)
{
	const char *file = NULL, *state = "RUNNING", *timeout = "120";
	bool detach = false;
	enum task_state wanted;
	const struct option_value options[] = {
		{"--file", "-f", &file, NULL},
		{"--wait", NULL, &state, NULL},
		{"--timeout", NULL, &timeout, NULL},
		{"--detach", "-d", NULL, &detach},
	};
	struct client_request request = {.method = "PUT"};
	scoped(buffer_release) struct buffer path = {0};
	scoped_free char *spec = NULL;
	int result;

	options_take(&verb_run, argc, argv, options, ARRAY_LENGTH(options));
	if (!file)
		return usage_error(&verb_run, "which file? -f FILE, or -f - for standard input",
				   "");
	if (!timeout_is_valid(timeout))
		return usage_error(&verb_run, "--timeout takes 0 to 3600 seconds, not ", timeout);
	if (task_state_from_name(state, &wanted) < 0)
		return usage_error(&verb_run, "--wait takes PENDING ... STOPPED, not ", state);
	if (!task_path(&verb_run, argv[1], &path))
		return EXIT_USAGE;
	spec = spec_text(file);
	if (!spec)
		return EXIT_USAGE;
	request.body = spec;
	result =
		request_and_wait(ctl, &request, buffer_text(&path), detach ? NULL : state, timeout);
	if (result == EXIT_REFUSED && wanted != TASK_STOPPED)
		stopped_explain(ctl, buffer_text(&path));
	return result;
}

const struct verb verb_run = {
	.name = "run",
	.arguments = "TASK -f FILE|- [-d] [--wait STATE] [--timeout SECONDS]",
	.arguments_min = 1,
	.arguments_max = 1,
	.summary = "create a task and wait until it is RUNNING",
	// clang-format off
	.help = "FILE holds the task as one JSON document: an ECS task definition with its\n"
		"networkConfiguration and loadBalancers. Running the same again is no fault: the\n"
		"task that is there is shown. Exit codes: 1 when it STOPPED instead (the reason is\n"
		"printed), 5 when it is still on its way after the timeout.\n"
		"\n"
		"  -f, --file FILE      the specification; - is standard input\n"
		"  -d, --detach         return as soon as it is accepted\n"
		"  --wait STATE         wait for another state (PENDING ... STOPPED)\n"
		"  --timeout SECONDS    wait no longer, 0 to 3600; default 120\n"
		"\n"
		"Example:\n"
		"  penstockctl run web-1 -f - <<END\n"
		"  {\"cpu\":\"256\", \"memory\":\"512\",\n"
		"   \"containerDefinitions\":[{\"name\":\"web\", \"image\":\"busybox\",\n"
		"     \"command\":[\"httpd\",\"-f\",\"-p\",\"8080\"], \"stopTimeout\":2}],\n"
		"   \"networkConfiguration\":{\"awsvpcConfiguration\":\n"
		"     {\"subnets\":[\"a\"], \"securityGroups\":[\"web\"]}}}\n"
		"  END",
	// clang-format on
	.run = run_run,
};

static int stop_one(const struct ctl *ctl, const char *task, const char *body, bool quiet)
{
	struct client_request request = {
		.socket_path = ctl->socket_path, .method = "POST", .body = body};
	scoped(client_reply_release) struct client_reply reply = {0};
	scoped(buffer_release) struct buffer path = {0};

	object_path(task, &path);
	buffer_adds(&path, "/stop");
	request.path = buffer_text(&path);
	if (client_perform(&request, &reply) < 0 || reply.status / 100 != 2)
		return reply_fail(ctl, NULL, &reply);
	return quiet ? EXIT_DONE : outcome(ctl, &reply, NULL);
}

static int task_wait(const struct ctl *ctl, const char *task, const char *state,
		     const char *timeout)
{
	struct client_request request = {.method = "GET"};
	scoped(buffer_release) struct buffer path = {0};

	object_path(task, &path);
	return request_and_wait(ctl, &request, buffer_text(&path), state, timeout);
}

// Waits for one after the other. The gravest exit code is the result; without an agent there is
// nobody to ask for the rest.
static int tasks_wait(const struct ctl *ctl, char **tasks, int count, const char *state,
		      const char *timeout)
{
	int worst = EXIT_DONE;

	for (int i = 0; i < count && worst != EXIT_UNREACHABLE; i++) {
		int one = task_wait(ctl, tasks[i], state, timeout);

		worst = one > worst || one == EXIT_UNREACHABLE ? one : worst;
	}
	return worst;
}

// All of them are told before the first is waited for: one that takes long, or is not there, keeps
// no other from stopping. The gravest exit code is the result; with no agent there is no more to
// ask.
static int stop_all(const struct ctl *ctl, char **tasks, int count, const char *body,
		    const char *timeout)
{
	int worst = EXIT_DONE, told = 0;

	for (int i = 0; i < count; i++) {
		int one = stop_one(ctl, tasks[i], body, timeout != NULL);

		if (one == EXIT_UNREACHABLE)
			return one;
		if (one == EXIT_DONE)
			tasks[told++] = tasks[i];
		worst = one > worst ? one : worst;
	}
	if (timeout) {
		int waited = tasks_wait(ctl, tasks, told, "STOPPED", timeout);

		worst = waited > worst || waited == EXIT_UNREACHABLE ? waited : worst;
	}
	return worst;
}

// Nothing is stopped when a name is wrong.
static bool tasks_are_valid(const struct verb *verb, char **names, int count)
{
	bool valid = true;

	for (int i = 0; i < count && valid; i++) {
		scoped(buffer_release) struct buffer path = {0};

		valid = task_path(verb, names[i], &path);
	}
	return valid;
}

static int run_stop(const struct ctl *ctl, int argc, char **argv)
{
	const char *reason = NULL, *drain = NULL, *timeout = "180";
	bool wait = false;
	const struct option_value options[] = {
		{"--reason", NULL, &reason, NULL},
		{"--drain", NULL, &drain, NULL},
		{"--wait", NULL, NULL, &wait},
		{"--timeout", NULL, &timeout, NULL},
	};
	int count = options_take(&verb_stop, argc, argv, options, ARRAY_LENGTH(options));
	scoped(document_release) cJSON *body = cJSON_CreateObject();
	scoped_free char *text = NULL;
	uint32_t seconds;

	if (!tasks_are_valid(&verb_stop, argv + 1, count))
		return EXIT_USAGE;
	if (drain && parse_u32(drain, 3600, &seconds) < 0)
		return usage_error(&verb_stop, "--drain takes 0 to 3600 seconds, not ", drain);
	if (!timeout_is_valid(timeout))
		return usage_error(&verb_stop, "--timeout takes 0 to 3600 seconds, not ", timeout);
	if (reason)
		cJSON_AddStringToObject(body, "reason", reason);
	if (drain)
		cJSON_AddNumberToObject(body, "drainSeconds", seconds);
	text = cJSON_PrintUnformatted(body);
	return stop_all(ctl, argv + 1, count, text, wait ? timeout : NULL);
}

const struct verb verb_stop = {
	.name = "stop",
	.arguments = "TASK... [--wait] [--reason TEXT] [--drain SECONDS] [--timeout SECONDS]",
	.arguments_min = 1,
	.arguments_max = INT_MAX,
	.summary = "stop tasks: drain, SIGTERM, SIGKILL, remove",
	.help = "A task leaves its target groups first and is drained, then its containers get\n"
		"SIGTERM and, after their stopTimeout, SIGKILL. Stopping a stopped task is fine.\n"
		"\n"
		"  --wait               until it is STOPPED\n"
		"  --timeout SECONDS    with --wait: for each no longer than this; default 180\n"
		"  --reason TEXT        kept as its stoppedReason\n"
		"  --drain SECONDS      drain up to this long; default: as the target groups\n"
		"\n"
		"Example: penstockctl stop web-1 web-2 --wait --reason \"new version\"",
	.run = run_stop,
};

// --- wait ---

static int run_wait(const struct ctl *ctl, int argc, char **argv)
{
	const char *state = "STOPPED", *timeout = "3600";
	enum task_state wanted;
	const struct option_value options[] = {
		{"--for", NULL, &state, NULL},
		{"--timeout", NULL, &timeout, NULL},
	};
	int count = options_take(&verb_wait, argc, argv, options, ARRAY_LENGTH(options));

	if (!tasks_are_valid(&verb_wait, argv + 1, count))
		return EXIT_USAGE;
	if (task_state_from_name(state, &wanted) < 0)
		return usage_error(&verb_wait, "--for takes PENDING ... STOPPED, not ", state);
	if (!timeout_is_valid(timeout))
		return usage_error(&verb_wait, "--timeout takes 0 to 3600 seconds, not ", timeout);
	return tasks_wait(ctl, argv + 1, count, state, timeout);
}

const struct verb verb_wait = {
	.name = "wait",
	.arguments = "TASK... [--for STATE] [--timeout SECONDS]",
	.arguments_min = 1,
	.arguments_max = INT_MAX,
	.summary = "wait until tasks are STOPPED, or in another state",
	// clang-format off
	.help = "Shows each task as it is when it got there. Exit codes: 1 when one cannot get there any\n"
		"more (it STOPPED instead), 5 when one is still on its way after the timeout.\n"
		"\n"
		"  --for STATE          PENDING ... STOPPED; default STOPPED\n"
		"  --timeout SECONDS    wait for each no longer than this, 0 to 3600; default 3600\n"
		"\n"
		"Example: penstockctl run -d job -f job.json && penstockctl wait job && penstockctl logs job",
	// clang-format on
	.run = run_wait,
};

// --- prune ---

// One that somebody else forgets at the same time is forgotten too.
static int prune_one(const struct ctl *ctl, const char *id)
{
	scoped(buffer_release) struct buffer path = {0};
	scoped(client_reply_release) struct client_reply reply = {0};
	struct client_request request = {.socket_path = ctl->socket_path, .method = "DELETE"};

	buffer_addf(&path, "/v1/tasks/%s", id);
	request.path = buffer_text(&path);
	if (client_perform(&request, &reply) < 0 ||
	    (reply.status / 100 != 2 && reply.status != 404))
		return reply_fail(ctl, NULL, &reply);
	if (!ctl->json)
		printf("task/%s: forgotten\n", id);
	return EXIT_DONE;
}

static int run_prune(const struct ctl *ctl, int argc, char **argv)
{
	scoped(document_release) cJSON *tasks = NULL;
	const cJSON *task;
	int result;

	options_take(&verb_prune, argc, argv, NULL, 0);
	result = document_get(ctl, "/v1/tasks", &tasks);
	cJSON_ArrayForEach(task, member_at(tasks, "items")) {
		if (result == EXIT_DONE &&
		    strcmp(member_text(task, "status.lastStatus"), "STOPPED") == 0)
			result = prune_one(ctl, member_text(task, "id"));
	}
	return result;
}

const struct verb verb_prune = {
	.name = "prune",
	.arguments = "",
	.summary = "forget all STOPPED tasks, with their logs",
	.help = "The agent forgets a STOPPED task by itself after stopped_retention_seconds; this "
		"does it\n"
		"at once. A task's id can be used again then. Metering records stay.\n"
		"\n"
		"Example: penstockctl prune",
	.run = run_prune,
};
