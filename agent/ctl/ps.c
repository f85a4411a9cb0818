// SPDX-License-Identifier: Apache-2.0
// ps: the tasks, one line for each.
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/base/clock.h"
#include "agent/base/process.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/model/status.h"

// "2/3": containers that run.
static void containers_text(const cJSON *task, char *text, size_t size)
{
	const cJSON *containers = member_at(task, "status.containers"), *container;
	int running = 0;

	cJSON_ArrayForEach(container, containers) {
		running += strcmp(member_text(container, "lastStatus"), "RUNNING") == 0;
	}
	snprintf(text, size, "%d/%d", running,
		 cJSON_GetArraySize(member_at(task, "spec.containerDefinitions")));
}

// "web=0 log=137": how the containers ended.
static void exit_codes_text(const cJSON *task, struct buffer *text)
{
	const cJSON *container;

	cJSON_ArrayForEach(container, member_at(task, "status.containers")) {
		if (member_at(container, "exitCode"))
			buffer_addf(text, "%s%s=%s", text->length ? " " : "",
				    member_text(container, "name"),
				    member_text(container, "exitCode"));
	}
}

static struct boot_time boot_time_at(const cJSON *task, const char *path)
{
	const cJSON *number = member_at(task, path);
	bool known = cJSON_IsNumber(number) && number->valuedouble > 0;

	return (struct boot_time){known ? (uint64_t)number->valuedouble : 0};
}

// How long its containers ran, or run so far, by the clock of the boot that it belongs to.
static const char *age_text(const cJSON *task, char *buffer, size_t size)
{
	struct boot_time started = boot_time_at(task, "status.bootTimes.startedMs");
	struct boot_time ended = boot_time_at(task, "status.bootTimes.executionStoppedMs");
	char boot_id[BOOT_ID_SIZE] = "";
	struct error ignored = {0};

	if (!ended.ms && boot_id_read(boot_id, &ignored) == 0 &&
	    strcmp(boot_id, member_text(task, "status.bootId")) == 0)
		ended = clock_boot();
	if (!started.ms || !ended.ms)
		return "-";
	return duration_text(boot_time_since_ms(ended, started) / 1000, buffer, size);
}

static void add_task(struct table *table, const cJSON *task)
{
	scoped(buffer_release) struct buffer exits = {0};
	char containers[24], age[32];

	containers_text(task, containers, sizeof(containers));
	exit_codes_text(task, &exits);
	table_add(table, (const char *const[]){
				 member_text(task, "id"),
				 member_text(task, "status.lastStatus"),
				 member_text(task, "status.healthStatus"),
				 containers,
				 member_text(task, "status.network.privateIpv4Address"),
				 member_text(task, "status.startedAt"),
				 age_text(task, age, sizeof(age)),
				 exits.length ? exits.data : "-",
				 member_text(task, "status.stoppedReason"),
			 });
}

// --- Which tasks ---

// What --filter may ask for.
static const struct {
	const char *name, *path;
} filters[] = {
	{"status", "status.lastStatus"}, // first: its values are checked

	{"health", "status.healthStatus"}, {"family", "spec.family"},
	{"vpc", "status.network.vpcId"},   {"subnet", "status.network.subnetId"},
	{"code", "status.stopCode"},
};

// Of "vpc=shop,status=RUNNING": the next pair, whose value ends at *ret_end. The index of its
// filter, or -1: there is no such filter.
static int filter_next(const char *text, const char **ret_value, const char **ret_end)
{
	const char *equals = strchr(text, '=');

	*ret_end = text + strcspn(text, ",");
	if (!equals || equals > *ret_end)
		return -1;
	*ret_value = equals + 1;
	for (size_t i = 0; i < ARRAY_LENGTH(filters); i++)
		if (strlen(filters[i].name) == (size_t)(equals - text) &&
		    strncmp(filters[i].name, text, (size_t)(equals - text)) == 0)
			return (int)i;
	return -1;
}

// "RUNNING", in any case.
static bool is_state(const char *text, size_t length)
{
	for (int state = 0; state < TASK_STATE_COUNT; state++) {
		const char *name = task_state_name((enum task_state)state);

		if (strlen(name) == length && strncasecmp(name, text, length) == 0)
			return true;
	}
	return false;
}

static bool filter_is_valid(const char *text)
{
	const char *value, *end = text;

	for (; text; text = *end ? end + 1 : NULL) {
		int filter = filter_next(text, &value, &end);

		if (filter < 0 || (filter == 0 && !is_state(value, (size_t)(end - value))))
			return false;
	}
	return true;
}

static bool filter_passes(const char *text, const cJSON *task)
{
	const char *value, *end;

	for (; text; text = *end ? end + 1 : NULL) {
		int filter = filter_next(text, &value, &end);
		const char *found = member_text(task, filters[filter].path);
		size_t length = (size_t)(end - value);

		if (strlen(found) != length || strncasecmp(found, value, length) != 0)
			return false;
	}
	return true;
}

struct selection {
	bool all; // STOPPED tasks too
	const char *filter;
};

static bool is_selected(const struct selection *selection, const cJSON *task)
{
	bool stopped = strcmp(member_text(task, "status.lastStatus"), "STOPPED") == 0;

	return (selection->all || !stopped) && filter_passes(selection->filter, task);
}

// --- Showing ---

static void print_ids(const struct selection *selection, const cJSON *tasks)
{
	const cJSON *task;

	cJSON_ArrayForEach(task, member_at(tasks, "items")) {
		if (is_selected(selection, task))
			puts(member_text(task, "id"));
	}
}

static void print_tasks(const struct selection *selection, const cJSON *tasks)
{
	static const char *const headings[] = {"TASK",       "STATUS",  "HEALTH",
					       "CONTAINERS", "ADDRESS", "STARTED",
					       "AGE",        "EXIT",    "REASON"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	const cJSON *task;

	cJSON_ArrayForEach(task, member_at(tasks, "items")) {
		if (is_selected(selection, task))
			add_task(&table, task);
	}
	table_print(&table);
}

// As the agent lists them, without those that were not asked for.
static void print_json(const struct selection *selection, cJSON *tasks)
{
	cJSON *items = cJSON_GetObjectItemCaseSensitive(tasks, "items");
	cJSON *task = items ? items->child : NULL;

	while (task) {
		cJSON *next = task->next;

		if (!is_selected(selection, task))
			cJSON_Delete(cJSON_DetachItemViaPointer(items, task));
		task = next;
	}
	document_print(tasks);
}

static int run_ps(const struct ctl *ctl, int argc, char **argv)
{
	struct selection selection = {0};
	bool quiet = false;
	const struct option_value options[] = {
		{"--all", "-a", NULL, &selection.all},
		{"--quiet", "-q", NULL, &quiet},
		{"--filter", NULL, &selection.filter, NULL},
	};
	scoped(document_release) cJSON *tasks = NULL;
	int result;

	options_take(&verb_ps, argc, argv, options, ARRAY_LENGTH(options));
	if (!filter_is_valid(selection.filter))
		return usage_error(
			&verb_ps,
			"--filter takes NAME=VALUE[,...] with the names status (a state: "
			"RUNNING), health, family, vpc, subnet and code, not ",
			selection.filter);
	selection.all = selection.all || selection.filter || ctl->json;
	result = document_get(ctl, "/v1/tasks", &tasks);
	if (result != EXIT_DONE)
		return result;
	if (ctl->json)
		print_json(&selection, tasks);
	else if (quiet)
		print_ids(&selection, tasks);
	else
		print_tasks(&selection, tasks);
	return EXIT_DONE;
}

const struct verb verb_ps = {
	.name = "ps",
	.arguments = "[-a] [-q] [--filter NAME=VALUE[,...]]",
	.summary = "list the tasks",
	// clang-format off
	.help = "Tasks with their state, address, age, and how their containers ended. STOPPED ones\n"
		"are shown with -a, with a filter and in -o json, as long as the agent remembers them.\n"
		"\n"
		"  -a, --all            STOPPED tasks too\n"
		"  -q, --quiet          ids only\n"
		"  --filter NAME=VALUE  those whose status, health, family, vpc, subnet or code (of a\n"
		"                       stop) is this; several, separated by commas, must all be so\n"
		"\n"
		"Examples:\n"
		"  penstockctl ps -o json | jq -r '.items[].status.network.privateIpv4Address'\n"
		"  penstockctl stop $(penstockctl ps -q --filter vpc=shop,status=RUNNING)",
	// clang-format on
	.run = run_ps,
};
