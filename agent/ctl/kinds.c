// SPDX-License-Identifier: Apache-2.0
// vpc, subnet, tg, fs: the objects of one kind as a table, and one of them with what belongs to it.
// One row of `listings` for each kind.
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/exposition.h"

enum { CELLS_MAX = 6 };

// Where cells come from beside the object itself.
struct source {
	const struct ctl *ctl;
	struct client_reply exposition; // when the listing asks for it
};

struct listing {
	const struct verb *verb;
	const char *path; // of the collection
	const char *headings[CELLS_MAX];
	bool needs_exposition;
	// Writes a row's cells behind the id, in the order of the headings. The exit code.
	int (*cells)(const struct source *source, const cJSON *object, struct buffer *cells);
	// Shows what belongs to the object, below its row; NULL: nothing does.
	int (*details)(const struct ctl *ctl, const cJSON *object);
};

// --- vpc ---

static int vpc_cells(const struct source *source, const cJSON *vpc, struct buffer *cells)
{
	const cJSON *attachment;

	(void)source;
	buffer_adds(&cells[0], member_text(vpc, "spec.cidrBlock"));
	list_text(member_at(vpc, "spec.dnsServers"), "", &cells[1]);
	cJSON_ArrayForEach(attachment, member_at(vpc, "spec.attachments")) {
		buffer_addf(&cells[2], "%s%s (%s)", cells[2].length ? ", " : "",
			    member_text(attachment, "interface"),
			    member_text(attachment, "address"));
	}
	buffer_adds(&cells[3], member_text(vpc, "status.error"));
	return EXIT_DONE;
}

// --- subnet ---

// What the agent counts of the subnet's addresses, by state.
static int subnet_cells(const struct source *source, const cJSON *subnet, struct buffer *cells)
{
	static const char *const states[] = {"used", "cooling", "free"};
	struct sample sample = {0};

	buffer_adds(&cells[0], member_text(subnet, "spec.vpcId"));
	buffer_adds(&cells[1], member_text(subnet, "spec.cidrBlock"));
	while (sample_next(&source->exposition, "penstock_ipam_addresses", &sample)) {
		if (!sample_has_label(&sample, "subnet", member_text(subnet, "id")))
			continue;
		for (size_t i = 0; i < ARRAY_LENGTH(states); i++)
			if (sample_has_label(&sample, "state", states[i]))
				buffer_addf(&cells[2 + i], "%.0f", sample.value);
	}
	return EXIT_DONE;
}

// What may have an address of a subnet.
static const struct {
	const char *path, *subnet, *address, *id, *task, *word;
} holders[] = {
	{"/v1/enis", "subnetId", "privateIpv4Address", "eniId", "taskId", "eni"},
	{"/v1/load-balancers", "spec.subnetId", "status.privateIpv4Address", "id", "-",
	 "load balancer"},
};

static int subnet_details(const struct ctl *ctl, const cJSON *subnet)
{
	static const char *const headings[] = {"ADDRESS", "OF", "ID", "TASK"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	int result = EXIT_DONE;

	for (size_t i = 0; i < ARRAY_LENGTH(holders) && result == EXIT_DONE; i++) {
		scoped(document_release) cJSON *document = NULL;
		const cJSON *item;

		result = document_get(ctl, holders[i].path, &document);
		cJSON_ArrayForEach(item, member_at(document, "items")) {
			if (strcmp(member_text(item, holders[i].subnet),
				   member_text(subnet, "id")) == 0)
				table_add(&table, (const char *const[]){
							  member_text(item, holders[i].address),
							  holders[i].word,
							  member_text(item, holders[i].id),
							  member_text(item, holders[i].task),
						  });
		}
	}
	putchar('\n');
	table_print(&table);
	return result;
}

// --- tg ---

// "2/3": targets that are healthy.
static int target_group_cells(const struct source *source, const cJSON *group, struct buffer *cells)
{
	scoped(document_release) cJSON *targets = NULL;
	scoped(buffer_release) struct buffer path = {0};
	const cJSON *target;
	int result, healthy = 0;

	buffer_addf(&path, "/v1/target-groups/%s/targets", member_text(group, "id"));
	result = document_get(source->ctl, buffer_text(&path), &targets);
	if (result != EXIT_DONE)
		return result;
	cJSON_ArrayForEach(target, member_at(targets, "items")) {
		healthy += strcmp(member_text(target, "targetHealth.state"), "healthy") == 0;
	}
	buffer_adds(&cells[0], member_text(group, "spec.vpcId"));
	buffer_adds(&cells[1], member_text(group, "spec.protocol"));
	buffer_adds(&cells[2], member_text(group, "spec.port"));
	buffer_addf(&cells[3], "%d/%d", healthy, cJSON_GetArraySize(member_at(targets, "items")));
	buffer_adds(&cells[4], member_text(group, "status.error"));
	return EXIT_DONE;
}

static int target_group_details(const struct ctl *ctl, const cJSON *group)
{
	putchar('\n');
	return targets_print(ctl, member_text(group, "id"), NULL);
}

// --- fs ---

static int file_system_cells(const struct source *source, const cJSON *file_system,
			     struct buffer *cells)
{
	const cJSON *target;

	(void)source;
	cJSON_ArrayForEach(target, member_at(file_system, "spec.mountTargets")) {
		buffer_addf(&cells[0], "%s%s:%s", cells[0].length ? ", " : "",
			    member_text(target, "ip"), member_text(target, "port"));
	}
	buffer_adds(&cells[1], member_text(file_system, "spec.exportPath"));
	return EXIT_DONE;
}

// --- The table, and what is done with a row of it ---

// clang-format off
static const struct listing listings[] = {
	{&verb_vpc, "/v1/vpcs", {"VPC", "CIDR BLOCK", "DNS", "ATTACHMENTS", "ERROR"},
	 false, vpc_cells, NULL},
	{&verb_subnet, "/v1/subnets", {"SUBNET", "VPC", "CIDR BLOCK", "USED", "COOLING", "FREE"},
	 true, subnet_cells, subnet_details},
	{&verb_tg, "/v1/target-groups", {"TARGET GROUP", "VPC", "PROTOCOL", "PORT", "HEALTHY", "ERROR"},
	 false, target_group_cells, target_group_details},
	{&verb_fs, "/v1/file-systems", {"FILE SYSTEM", "MOUNT TARGETS", "EXPORT PATH"},
	 false, file_system_cells, NULL},
};
// clang-format on

static size_t column_count(const struct listing *listing)
{
	size_t count = 0;

	while (count < CELLS_MAX && listing->headings[count])
		count++;
	return count;
}

static int listing_add(const struct source *source, const struct listing *listing,
		       const cJSON *object, struct table *table)
{
	struct buffer buffers[CELLS_MAX] = {{0}};
	const char *cells[CELLS_MAX] = {member_text(object, "id")};
	int result = listing->cells(source, object, buffers);

	for (size_t i = 1; i < table->columns; i++)
		cells[i] = buffers[i - 1].length ? buffers[i - 1].data : "-";
	if (result == EXIT_DONE)
		table_add(table, cells);
	for (size_t i = 0; i < CELLS_MAX; i++)
		buffer_release(&buffers[i]);
	return result;
}

// `document` is one object, or a list of them.
static int listing_print(const struct ctl *ctl, const struct listing *listing,
			 const cJSON *document)
{
	struct table table = {.headings = listing->headings, .columns = column_count(listing)};
	struct source source = {.ctl = ctl};
	const cJSON *items = member_at(document, "items"), *object;
	int result = EXIT_DONE;

	if (listing->needs_exposition)
		result = exposition_get(ctl, &source.exposition);
	if (result == EXIT_DONE && !items)
		result = listing_add(&source, listing, document, &table);
	cJSON_ArrayForEach(object, items) {
		if (result == EXIT_DONE)
			result = listing_add(&source, listing, object, &table);
	}
	client_reply_release(&source.exposition);
	table_print(&table);
	if (result == EXIT_DONE && !items && listing->details)
		result = listing->details(ctl, document);
	return result;
}

static int listing_show(const struct ctl *ctl, const struct listing *listing, const char *id)
{
	scoped(document_release) cJSON *document = NULL;
	scoped(buffer_release) struct buffer path = {0};
	int result;

	buffer_addf(&path, "%s%s%s", listing->path, id ? "/" : "", id ? id : "");
	result = document_get(ctl, buffer_text(&path), &document);
	if (result != EXIT_DONE)
		return result;
	if (!ctl->json)
		return listing_print(ctl, listing, document);
	document_print(document);
	return EXIT_DONE;
}

static int run_listing(const struct ctl *ctl, int argc, char **argv)
{
	const struct listing *listing = listings;
	int count;

	while (strcmp(listing->verb->name, argv[0]) != 0)
		listing++;
	count = options_take(listing->verb, argc, argv, NULL, 0);
	if (count == 1 && !id_is_valid(argv[1]))
		return usage_error(listing->verb, "no object can be named ", argv[1]);
	return listing_show(ctl, listing, count == 1 ? argv[1] : NULL);
}

// clang-format off
const struct verb verb_vpc = {
	.name = "vpc",
	.arguments = "[VPC]",
	.arguments_max = 1,
	.summary = "VPCs: their blocks, attachments, and what is wrong with them",
	.help = "All VPCs, or one. ERROR says why a VPC is not effective on the host (yet).\n"
		"\n"
		"Example: penstockctl vpc shop",
	.run = run_listing,
};

const struct verb verb_subnet = {
	.name = "subnet",
	.arguments = "[SUBNET]",
	.arguments_max = 1,
	.summary = "subnets and their addresses",
	.help = "All subnets with their addresses by state, or one with those that are in use. An\n"
		"address that was given back is COOLING until nobody can mistake its next owner\n"
		"for the last one (cooldown_seconds).\n"
		"\n"
		"Example: whose is 10.0.1.5?   penstockctl subnet a | grep -w 10.0.1.5",
	.run = run_listing,
};

const struct verb verb_tg = {
	.name = "tg",
	.arguments = "[TARGET-GROUP]",
	.arguments_max = 1,
	.summary = "target groups; with an id also their targets",
	.help = "All target groups with how many of their targets are healthy, or one with the\n"
		"health of each target.\n"
		"\n"
		"Example: penstockctl tg web",
	.run = run_listing,
};

const struct verb verb_fs = {
	.name = "fs",
	.arguments = "[FILE-SYSTEM]",
	.arguments_max = 1,
	.summary = "file systems: where they are mounted from",
	.help = "All file systems, or one: the servers and what they export.\n"
		"\n"
		"Example: penstockctl fs",
	.run = run_listing,
};
// clang-format on
