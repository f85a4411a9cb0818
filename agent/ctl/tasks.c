// SPDX-License-Identifier: Apache-2.0
// describe and timeline: what tasks are and where their time went.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

// --- describe ---

// "0": the task has that no more, as a shim's pid.
static void print_line(const char *name, const char *value)
{
	if (strcmp(value, "-") != 0 && strcmp(value, "0") != 0)
		printf("%-14s %s\n", name, value);
}

static void print_containers(const cJSON *task)
{
	static const char *const headings[] = {"CONTAINER", "IMAGE",   "STATUS",   "HEALTH",
					       "EXIT",      "STARTED", "FINISHED", "REASON"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	const cJSON *container;

	cJSON_ArrayForEach(container, member_at(task, "status.containers")) {
		table_add(&table, (const char *const[]){
					  member_text(container, "name"),
					  member_text(container, "image"),
					  member_text(container, "lastStatus"),
					  member_text(container, "healthStatus"),
					  member_text(container, "exitCode"),
					  member_text(container, "startedAt"),
					  member_text(container, "finishedAt"),
					  member_text(container, "reason"),
				  });
	}
	if (table.rows > 0) {
		putchar('\n');
		table_print(&table);
	}
}

// "web:/data web:/cache": where containers mount the volume.
static void mounts_text(const cJSON *task, const char *volume, struct buffer *text)
{
	const cJSON *container, *mount;

	cJSON_ArrayForEach(container, member_at(task, "spec.containerDefinitions")) {
		cJSON_ArrayForEach(mount, member_at(container, "mountPoints")) {
			if (strcmp(member_text(mount, "sourceVolume"), volume) == 0)
				buffer_addf(text, "%s%s:%s", text->length ? " " : "",
					    member_text(container, "name"),
					    member_text(mount, "containerPath"));
		}
	}
}

static void print_volumes(const cJSON *task)
{
	static const char *const headings[] = {"VOLUME", "FILE SYSTEM", "DIRECTORY", "MOUNTED AT"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	const cJSON *volume;

	cJSON_ArrayForEach(volume, member_at(task, "spec.volumes")) {
		scoped(buffer_release) struct buffer mounts = {0};
		const cJSON *efs = member_at(volume, "efsVolumeConfiguration");

		mounts_text(task, member_text(volume, "name"), &mounts);
		table_add(&table, (const char *const[]){
					  member_text(volume, "name"),
					  efs ? member_text(efs, "fileSystemId") : "ephemeral disk",
					  member_text(efs, "rootDirectory"),
					  buffer_text(&mounts),
				  });
	}
	if (table.rows > 0) {
		putchar('\n');
		table_print(&table);
	}
}

static int print_targets_of(const struct ctl *ctl, const cJSON *task)
{
	const cJSON *balancer;
	int result = EXIT_DONE;

	cJSON_ArrayForEach(balancer, member_at(task, "spec.loadBalancers")) {
		if (result == EXIT_DONE) {
			putchar('\n');
			result = targets_print(ctl, member_text(balancer, "targetGroup"),
					       member_text(task, "id"));
		}
	}
	return result;
}

static int print_task(const struct ctl *ctl, const cJSON *task)
{
	static const struct {
		const char *name, *path;
	} lines[] = {
		{"task", "id"},
		{"status", "status.lastStatus"},
		{"desired", "status.desiredStatus"},
		{"health", "status.healthStatus"},
		{"stop code", "status.stopCode"},
		{"reason", "status.stoppedReason"},
		{"cpu", "spec.cpu"},
		{"memory", "spec.memory"},
		{"created", "status.createdAt"},
		{"started", "status.startedAt"},
		{"stopping", "status.stoppingAt"},
		{"stopped", "status.stoppedAt"},
		{"vpc", "status.network.vpcId"},
		{"subnet", "status.network.subnetId"},
		{"eni", "status.network.eniId"},
		{"address", "status.network.privateIpv4Address"},
		{"mac", "status.network.macAddress"},
		{"interface", "status.network.interfaceName"},
		{"driver", "status.driver"},
		{"uid", "status.uid"},
		{"cgroup", "status.cgroup"},
		{"directory", "status.cellDirectory"},
		{"shim pid", "status.shim.pid"},
		{"undo fails", "status.undoError"},
		{"revision", "revision"},
	};
	int result;

	for (size_t i = 0; i < ARRAY_LENGTH(lines); i++)
		print_line(lines[i].name, member_text(task, lines[i].path));
	print_containers(task);
	print_volumes(task);
	if (strcmp(member_text(task, "status.lastStatus"), "STOPPED") == 0)
		return EXIT_DONE; // it has no targets and no counters any more
	result = print_targets_of(ctl, task);
	if (result == EXIT_DONE) {
		putchar('\n');
		result = task_drops_print(ctl, member_text(task, "id"));
	}
	return result;
}

// One document as it is, of more that were asked for those that are there as a list; `apply` takes
// both.
static void documents_print(const cJSON *list, int asked)
{
	scoped(document_release) cJSON *items = NULL;

	if (!list->child)
		return;
	if (asked == 1) {
		document_print(list->child);
		return;
	}
	items = cJSON_CreateObject();
	cJSON_AddItemReferenceToObject(items, "items", (cJSON *)list);
	document_print(items);
}

static int run_describe(const struct ctl *ctl, int argc, char **argv)
{
	int count = options_take(&verb_describe, argc, argv, NULL, 0), result = EXIT_DONE;
	scoped(document_release) cJSON *documents = cJSON_CreateArray();
	bool first = true;

	for (int i = 1; i <= count; i++) { // nothing is shown when one is no name
		scoped(buffer_release) struct buffer path = {0};

		if (!object_path(argv[i], &path))
			return EXIT_USAGE;
	}
	for (int i = 1; i <= count && (result == EXIT_DONE || result == EXIT_NOT_FOUND); i++) {
		scoped(buffer_release) struct buffer path = {0};
		const char *kind = object_path(argv[i], &path);
		cJSON *object;
		int one;

		one = document_get(ctl, buffer_text(&path), &object);
		if (one != EXIT_DONE) {
			result = one;
		} else if (ctl->json || strcmp(kind, "task") != 0) {
			cJSON_AddItemToArray(documents, object);
		} else {
			if (!first)
				putchar('\n');
			first = false;
			result = print_task(ctl, object);
			cJSON_Delete(object);
		}
	}
	documents_print(documents, count);
	return result;
}

const struct verb verb_describe = {
	.name = "describe",
	.arguments = "[KIND/]ID...",
	.arguments_min = 1,
	.arguments_max = INT_MAX,
	.summary = "show objects with all that is known of them",
	// clang-format off
	.help = "Without a kind it is a task. Other kinds, and tasks with -o json, are shown as the\n"
		"JSON document that `apply` takes; several as one document, {\"items\": [...]}.\n"
		"\n"
		"Examples:\n"
		"  penstockctl describe web-1\n"
		"  penstockctl describe sg/web > sg.json; edit it; penstockctl apply -f sg.json",
	// clang-format on
	.run = run_describe,
};

// --- timeline ---

enum { BAR_WIDTH = 40 };

struct step {
	const char *name;
	double begin_ms, duration_ms, own_ms;
};

static double number_at(const cJSON *object, const char *path)
{
	const cJSON *number = member_at(object, path);

	return cJSON_IsNumber(number) ? number->valuedouble : 0;
}

// A share of the bar, in whole characters between the two bounds.
static int bar_cells(double part_ms, double total_ms, int least, int most)
{
	double cells = total_ms > 0 ? part_ms / total_ms * BAR_WIDTH : 0;

	return cells < least ? least : cells > most ? most : (int)cells;
}

static void print_step(const struct step *step, double total_ms)
{
	int before = bar_cells(step->begin_ms, total_ms, 0, BAR_WIDTH - 1);
	int length = bar_cells(step->duration_ms, total_ms, 1, BAR_WIDTH - before);

	printf("%-10s %10.2f ms %10.2f ms %10.2f ms  |%*s%.*s%*s|\n", step->name, step->begin_ms,
	       step->duration_ms, step->own_ms, before, "", length,
	       "########################################", BAR_WIDTH - before - length, "");
}

static void print_timeline(const cJSON *task)
{
	const cJSON *progress = member_at(task, "status.progress"), *entry;
	double total_ms = 0, own_ms = 0;

	cJSON_ArrayForEach(entry, progress) {
		double end_ms =
			(number_at(entry, "startedUs") + number_at(entry, "durationUs")) / 1000;

		if (end_ms > total_ms)
			total_ms = end_ms;
		own_ms += number_at(entry, "ownUs") / 1000;
	}
	printf("%-10s %13s %13s %13s\n", "STEP", "BEGIN", "TOOK", "AGENT");
	cJSON_ArrayForEach(entry, progress) {
		const struct step step = {entry->string, number_at(entry, "startedUs") / 1000,
					  number_at(entry, "durationUs") / 1000,
					  number_at(entry, "ownUs") / 1000};

		if (step.duration_ms > 0 || cJSON_IsTrue(member_at(entry, "applied")))
			print_step(&step, total_ms);
	}
	printf("%-10s %13s %10.2f ms %10.2f ms  (%s)\n", "total", "", total_ms, own_ms,
	       member_text(task, "status.lastStatus"));
}

static int run_timeline(const struct ctl *ctl, int argc, char **argv)
{
	scoped(document_release) cJSON *task = NULL;
	scoped(buffer_release) struct buffer path = {0};
	int result;

	options_take(&verb_timeline, argc, argv, NULL, 0);
	if (!task_path(&verb_timeline, argv[1], &path))
		return EXIT_USAGE;
	result = document_get(ctl, buffer_text(&path), &task);
	if (result != EXIT_DONE)
		return result;
	if (ctl->json)
		document_print(member_at(task, "status.progress"));
	else
		print_timeline(task);
	return EXIT_DONE;
}

const struct verb verb_timeline = {
	.name = "timeline",
	.arguments = "TASK",
	.arguments_min = 1,
	.arguments_max = 1,
	.summary = "where a task's start-up time went, step by step",
	// clang-format off
	.help = "Each step of the way up: when it began, counted from the task's creation, and how\n"
		"long it took, and how much of that the agent itself worked: the rest it waited\n"
		"(for a boot, a disk, the commit). Steps of one task may overlap.\n"
		"\n"
		"Example: penstockctl timeline web-1",
	// clang-format on
	.run = run_timeline,
};
