// SPDX-License-Identifier: Apache-2.0
// adopt: cells that the agent's database has no record of.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

static void add_cell(struct table *table, const cJSON *cell)
{
	scoped(buffer_release) struct buffer missing = {0};
	const cJSON *path;

	cJSON_ArrayForEach(path, member_at(cell, "missing")) {
		buffer_addf(&missing, "%s%s", missing.length ? " " : "", member_text(path, ""));
	}
	table_add(table,
		  (const char *const[]){member_text(cell, "taskId"), member_text(cell, "record"),
					missing.length ? buffer_text(&missing) : "-"});
}

static int list_cells(const struct ctl *ctl)
{
	static const char *const headings[] = {"TASK", "RECORD", "PUT FIRST"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	scoped(document_release) cJSON *host = NULL;
	const cJSON *cells, *cell;
	int result = document_get(ctl, "/v1/host", &host);

	if (result != EXIT_DONE)
		return result;
	cells = member_at(host, "unrecordedCells");
	if (ctl->json) {
		document_print(cells);
		return EXIT_DONE;
	}
	cJSON_ArrayForEach(cell, cells) {
		add_cell(&table, cell);
	}
	table_print(&table);
	return EXIT_DONE;
}

static int adopt_one(const struct ctl *ctl, const char *task, bool end)
{
	scoped(client_reply_release) struct client_reply reply = {0};
	scoped(buffer_release) struct buffer path = {0};
	struct client_request request = {.socket_path = ctl->socket_path, .method = "POST"};

	object_path(task, &path);
	buffer_addf(&path, "/adopt%s", end ? "?end=true" : "");
	request.path = buffer_text(&path);
	if (client_perform(&request, &reply) < 0 || reply.status / 100 != 2)
		return reply_fail(ctl, task, &reply);
	if (ctl->json && reply.status == 200) {
		scoped(document_release) cJSON *object = cJSON_Parse(buffer_text(&reply.body));

		line_print(object);
	} else if (!ctl->json) {
		printf("%s: %s\n", task,
		       reply.status == 204 ? "killed: its cell did not say what it was"
		       : end               ? "is being stopped"
					   : "taken back");
	}
	return EXIT_DONE;
}

static int run_adopt(const struct ctl *ctl, int argc, char **argv)
{
	bool end = false;
	const struct option_value options[] = {{"--end", NULL, NULL, &end}};
	int count = options_take(&verb_adopt, argc, argv, options, ARRAY_LENGTH(options));
	int worst = EXIT_DONE;

	if (count == 0)
		return end ? usage_error(&verb_adopt, "--end: which task?", "") : list_cells(ctl);
	for (int i = 1; i <= count; i++) { // nothing is done when one is no name
		scoped(buffer_release) struct buffer path = {0};

		if (!task_path(&verb_adopt, argv[i], &path))
			return EXIT_USAGE;
	}
	for (int i = 1; i <= count; i++) {
		int one = adopt_one(ctl, argv[i], end);

		worst = one > worst ? one : worst;
	}
	return worst;
}

const struct verb verb_adopt = {
	.name = "adopt",
	.arguments = "[--end] [TASK...]",
	.arguments_max = INT_MAX,
	.summary = "take back tasks that the database has lost",
	// clang-format off
	.help = "When the agent's database was lost, or is an old copy, tasks may run that it has no\n"
		"record of. The agent leaves them alone and takes no new task until each of them is\n"
		"taken back or ended. Without a TASK they are listed, with the objects that are lost\n"
		"as well and that each of them needs first: apply these as they were.\n"
		"\n"
		"A task is taken back from the copy of its record that lies beside its cell; it goes\n"
		"on without a pause, as after a restart of the agent.\n"
		"\n"
		"  --end    stop the tasks instead, in order and metered; a cell whose copy cannot be\n"
		"           read is killed\n"
		"\n"
		"While there is such a task no load balancer is taken either: apply these again at last.\n"
		"\n"
		"Example:\n"
		"  penstockctl apply -f network.json      the load balancers in it are refused\n"
		"  penstockctl adopt web-1 web-2\n"
		"  penstockctl apply -f network.json",
	// clang-format on
	.run = run_adopt,
};
