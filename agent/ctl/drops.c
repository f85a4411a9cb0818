// SPDX-License-Identifier: Apache-2.0
// drops: the packets that the rules of a VPC did not let pass, of one task or of a whole VPC.
#include <stdio.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/exposition.h"

enum { LABEL_SIZE = 64 };

static void drops_add(struct table *table, const struct sample *sample)
{
	char direction[LABEL_SIZE], reason[LABEL_SIZE], packets[32];

	sample_label(sample, "direction", direction, sizeof(direction));
	sample_label(sample, "reason", reason, sizeof(reason));
	snprintf(packets, sizeof(packets), "%.0f", sample->value);
	table_add(table, (const char *const[]){direction, reason, packets});
}

static void drops_add_json(cJSON *items, const struct sample *sample)
{
	char direction[LABEL_SIZE], reason[LABEL_SIZE];
	cJSON *item = cJSON_CreateObject();

	sample_label(sample, "direction", direction, sizeof(direction));
	sample_label(sample, "reason", reason, sizeof(reason));
	cJSON_AddStringToObject(item, "direction", direction);
	cJSON_AddStringToObject(item, "reason", reason);
	cJSON_AddNumberToObject(item, "packets", sample->value);
	cJSON_AddItemToArray(items, item);
}

static void drops_print_json(const struct client_reply *reply, const char *metric,
			     const char *label, const char *id)
{
	scoped(document_release) cJSON *document = cJSON_CreateObject();
	cJSON *items = cJSON_AddArrayToObject(document, "items");
	struct sample sample = {0};

	while (sample_next(reply, metric, &sample))
		if (sample_has_label(&sample, label, id))
			drops_add_json(items, &sample);
	document_print(document);
}

static void drops_print_table(const struct client_reply *reply, const char *metric,
			      const char *label, const char *id)
{
	static const char *const headings[] = {"DIRECTION", "REASON", "PACKETS"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	struct sample sample = {0};

	while (sample_next(reply, metric, &sample))
		if (sample_has_label(&sample, label, id) && sample.value > 0)
			drops_add(&table, &sample);
	table_print(&table);
}

int task_drops_print(const struct ctl *ctl, const char *task)
{
	scoped(client_reply_release) struct client_reply reply = {0};
	int result = exposition_get(ctl, &reply);

	if (result == EXIT_DONE)
		drops_print_table(&reply, "penstock_task_dropped_packets_total", "task_id", task);
	return result;
}

static int run_drops(const struct ctl *ctl, int argc, char **argv)
{
	scoped(document_release) cJSON *object = NULL;
	scoped(buffer_release) struct buffer path = {0};
	scoped(client_reply_release) struct client_reply reply = {0};
	const char *kind, *id, *metric, *label;
	bool of_vpc;
	int result;

	options_take(&verb_drops, argc, argv, NULL, 0);
	kind = object_path(argv[1], &path);
	if (!kind)
		return EXIT_USAGE;
	of_vpc = strcmp(kind, "vpc") == 0;
	if (!of_vpc && strcmp(kind, "task") != 0)
		return usage_error(&verb_drops, "give a task or vpc/ID, not ", argv[1]);
	result = document_get(ctl, buffer_text(&path), &object); // it may not be there
	if (result == EXIT_DONE)
		result = exposition_get(ctl, &reply);
	if (result != EXIT_DONE)
		return result;
	id = member_text(object, "id");
	metric = of_vpc ? "penstock_sg_dropped_packets_total"
			: "penstock_task_dropped_packets_total";
	label = of_vpc ? "vpc" : "task_id";
	if (ctl->json)
		drops_print_json(&reply, metric, label, id);
	else
		drops_print_table(&reply, metric, label, id);
	return EXIT_DONE;
}

// clang-format off
const struct verb verb_drops = {
	.name = "drops",
	.arguments = "TASK|vpc/ID",
	.arguments_min = 1,
	.arguments_max = 1,
	.summary = "packets that were dropped, by direction and reason",
	.help = "The counters of a task, or of a whole VPC: what no security group let pass, what had a\n"
		"forged source, and the like. They only grow; those at 0 are shown with -o json only.\n"
		"\n"
		"Examples:\n"
		"  penstockctl drops web-1\n"
		"  penstockctl drops vpc/shop",
	.run = run_drops,
};
// clang-format on
