// SPDX-License-Identifier: Apache-2.0
// fsck: what carries this install's mark, and who owns it.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/task/fsck.h"

static const char *verdict(const struct fsck_finding *finding)
{
	if (finding->unrecorded)
		return "NO RECORD";
	if (finding->missing)
		return "MISSING";
	if (!finding->orphan)
		return "owned";
	if (finding->repaired)
		return "removed";
	return finding->problem[0] ? finding->problem : "ORPHAN";
}

static void print_table(const struct fsck_report *report, const struct config *config)
{
	static const char *const headings[] = {"KIND", "NAME", "OWNER", "VERDICT"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};

	for (size_t i = 0; i < report->count; i++) {
		const struct fsck_finding *finding = &report->findings[i];

		table_add(&table, (const char *const[]){finding->kind, finding->name,
							finding->owner, verdict(finding)});
	}
	table_print(&table);
	printf("%zu found, %zu orphans left, %zu missing (install %s, %s)\n",
	       report->count - report->missing, report->orphans, report->missing, config->install,
	       config->state_directory);
	if (report->unrecorded > 0)
		printf("%zu of cells that may run and that the database has lost: penstockctl "
		       "adopt\n",
		       report->unrecorded);
}

static void print_json(const struct fsck_report *report)
{
	scoped(document_release) cJSON *document = cJSON_CreateObject();
	cJSON *findings = cJSON_AddArrayToObject(document, "findings");

	for (size_t i = 0; i < report->count; i++) {
		const struct fsck_finding *finding = &report->findings[i];
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "kind", finding->kind);
		cJSON_AddStringToObject(item, "name", finding->name);
		cJSON_AddStringToObject(item, "owner", finding->owner);
		cJSON_AddBoolToObject(item, "orphan", finding->orphan);
		cJSON_AddBoolToObject(item, "repaired", finding->repaired);
		cJSON_AddBoolToObject(item, "unrecorded", finding->unrecorded);
		cJSON_AddBoolToObject(item, "missing", finding->missing);
		if (finding->problem[0])
			cJSON_AddStringToObject(item, "problem", finding->problem);
		cJSON_AddItemToArray(findings, item);
	}
	cJSON_AddNumberToObject(document, "orphans", (double)report->orphans);
	cJSON_AddNumberToObject(document, "unrecorded", (double)report->unrecorded);
	cJSON_AddNumberToObject(document, "missing", (double)report->missing);
	document_print(document);
}

static int run_fsck(const struct ctl *ctl, int argc, char **argv)
{
	const char *file = getenv("PENSTOCK_CONFIG");
	bool repair = false;
	const struct option_value options[] = {
		{"--config", "-c", &file, NULL},
		{"--repair", NULL, NULL, &repair},
	};
	scoped(arena_release) struct arena arena = {0};
	struct fsck_report report;
	struct config config;
	struct error err = {0};
	int result;

	options_take(&verb_fsck, argc, argv, options, ARRAY_LENGTH(options));
	result = config_load(file, &config, &err);
	if (result < 0 && result != -ENOENT) {
		fprintf(stderr, "penstockctl: %s\n", err.message);
		return EXIT_USAGE;
	}
	if (fsck_run(&config, repair, &arena, &report, &err) < 0)
		return fail(ctl, EXIT_REFUSED, NULL, err.message, NULL);
	if (ctl->json)
		print_json(&report);
	else
		print_table(&report, &config);
	return report.orphans + report.unrecorded + report.missing > 0 ? EXIT_REFUSED : EXIT_DONE;
}

const struct verb verb_fsck = {
	.name = "fsck",
	.arguments = "[--config FILE] [--repair]",
	.summary = "what of this install is on the host, and whose is it?",
	// clang-format off
	.help = "Lists every interface, namespace, nft object, cgroup, mount, disk, directory and\n"
		"process that carries this install's mark, each with the task or object that owns it.\n"
		"What no record owns is an orphan; exit code 1 when one is left. Needs no agent; with\n"
		"one running, what is just being built may show up for a moment.\n"
		"\n"
		"NO RECORD is what belongs to a cell that may run and that the database has lost: it\n"
		"is never removed, nor is anything else while there is such a cell (penstockctl\n"
		"adopt).\n"
		"\n"
		"MISSING is what a record owns and is not there: an interface, a route or neighbour, an\n"
		"address, a member of a group, an attachment, a cgroup, a disk, a process. A running\n"
		"agent makes it again, or ends the task; exit code 1 while there is one. With -o json\n"
		"every finding says whether it is orphan, repaired, unrecorded or missing (none of\n"
		"these: owned), and orphans, unrecorded and missing are counted.\n"
		"\n"
		"Some things --repair has to leave, and says why: security groups and their members\n"
		"while an agent runs, which removes them itself; loop devices, which go with their\n"
		"last mount; and what may belong to a record that cannot be read.\n"
		"\n"
		"  -c, --config FILE    the agent's; default $PENSTOCK_CONFIG or " CONFIG_DEFAULT_FILE "\n"
		"  --repair             remove the orphans",
	// clang-format on
	.run = run_fsck,
};
