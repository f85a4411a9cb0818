// SPDX-License-Identifier: Apache-2.0
// lb and eni: who is reached where.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

// --- eni ---

static void add_eni(struct table *table, const cJSON *eni)
{
	scoped(buffer_release) struct buffer groups = {0};

	list_text(member_at(eni, "securityGroups"), "", &groups);
	table_add(table, (const char *const[]){
				 member_text(eni, "eniId"),
				 member_text(eni, "taskId"),
				 member_text(eni, "vpcId"),
				 member_text(eni, "subnetId"),
				 member_text(eni, "privateIpv4Address"),
				 member_text(eni, "macAddress"),
				 member_text(eni, "interfaceName"),
				 buffer_text(&groups),
			 });
}

static int run_eni(const struct ctl *ctl, int argc, char **argv)
{
	static const char *const headings[] = {"ENI",     "TASK", "VPC",       "SUBNET",
					       "ADDRESS", "MAC",  "INTERFACE", "GROUPS"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	int count = options_take(&verb_eni, argc, argv, NULL, 0), result;
	scoped(document_release) cJSON *document = NULL;
	scoped(buffer_release) struct buffer path = {0};
	const cJSON *eni;

	if (count == 1 && !id_is_valid(argv[1]))
		return usage_error(&verb_eni, "no ENI can be named ", argv[1]);
	buffer_addf(&path, "/v1/enis%s%s", count ? "/" : "", count ? argv[1] : "");
	result = document_get(ctl, buffer_text(&path), &document);
	if (result != EXIT_DONE)
		return result;
	if (ctl->json) {
		document_print(document);
		return EXIT_DONE;
	}
	if (count == 1)
		add_eni(&table, document);
	cJSON_ArrayForEach(eni, member_at(document, "items")) {
		add_eni(&table, eni);
	}
	table_print(&table);
	return EXIT_DONE;
}

const struct verb verb_eni = {
	.name = "eni",
	.arguments = "[ENI]",
	.arguments_max = 1,
	.summary = "network interfaces: whose tap is this?",
	.help = "The ENIs of all tasks, or one: address, MAC, the interface's name in its VPC's\n"
		"namespace, security groups.\n"
		"\n"
		"Example: who owns ps0123456789abc?   penstockctl eni | grep ps0123456789abc",
	.run = run_eni,
};

// --- lb ---

int targets_print(const struct ctl *ctl, const char *group, const char *task)
{
	static const char *const headings[] = {"  TARGET GROUP", "TARGET", "PORT",       "TASK",
					       "STATE",          "REASON", "DESCRIPTION"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	scoped(document_release) cJSON *document = NULL;
	scoped(buffer_release) struct buffer path = {0}, name = {0};
	const cJSON *item;
	int result;

	buffer_addf(&path, "/v1/target-groups/%s/targets", group);
	result = document_get(ctl, buffer_text(&path), &document);
	if (result != EXIT_DONE)
		return result;
	buffer_addf(&name, "  %s", group);
	cJSON_ArrayForEach(item, member_at(document, "items")) {
		if (task && strcmp(member_text(item, "task"), task) != 0)
			continue;
		table_add(&table, (const char *const[]){
					  buffer_text(&name),
					  member_text(item, "target.id"),
					  member_text(item, "target.port"),
					  member_text(item, "task"),
					  member_text(item, "targetHealth.state"),
					  member_text(item, "targetHealth.reason"),
					  member_text(item, "targetHealth.description"),
				  });
	}
	if (table.rows > 0)
		table_print(&table);
	else
		printf("  %s has no targets%s%s\n", group, task ? " of " : "", task ? task : "");
	return EXIT_DONE;
}

static int print_balancer(const struct ctl *ctl, const cJSON *balancer)
{
	const cJSON *listener;
	int result = EXIT_DONE;

	printf("%s  address %s  subnet %s\n", member_text(balancer, "id"),
	       member_text(balancer, "status.privateIpv4Address"),
	       member_text(balancer, "spec.subnetId"));
	cJSON_ArrayForEach(listener, member_at(balancer, "spec.listeners")) {
		printf("\n  %s %s -> %s\n", member_text(listener, "protocol"),
		       member_text(listener, "port"), member_text(listener, "targetGroup"));
		result = targets_print(ctl, member_text(listener, "targetGroup"), NULL);
		if (result != EXIT_DONE)
			break;
	}
	return result;
}

static void print_balancers(const cJSON *document)
{
	static const char *const headings[] = {"LOAD BALANCER", "ADDRESS", "SUBNET", "LISTENERS",
					       "GROUPS"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	const cJSON *balancer, *listener;

	cJSON_ArrayForEach(balancer, member_at(document, "items")) {
		scoped(buffer_release) struct buffer listeners = {0}, groups = {0};

		cJSON_ArrayForEach(listener, member_at(balancer, "spec.listeners")) {
			buffer_addf(&listeners, "%s%s:%s->%s", listeners.length ? " " : "",
				    member_text(listener, "protocol"),
				    member_text(listener, "port"),
				    member_text(listener, "targetGroup"));
		}
		list_text(member_at(balancer, "spec.securityGroups"), "", &groups);
		table_add(&table, (const char *const[]){
					  member_text(balancer, "id"),
					  member_text(balancer, "status.privateIpv4Address"),
					  member_text(balancer, "spec.subnetId"),
					  buffer_text(&listeners),
					  buffer_text(&groups),
				  });
	}
	table_print(&table);
}

static int run_lb(const struct ctl *ctl, int argc, char **argv)
{
	int count = options_take(&verb_lb, argc, argv, NULL, 0), result;
	scoped(document_release) cJSON *document = NULL;
	scoped(buffer_release) struct buffer path = {0};

	if (count == 1 && !id_is_valid(argv[1]))
		return usage_error(&verb_lb, "no load balancer can be named ", argv[1]);
	buffer_addf(&path, "/v1/load-balancers%s%s", count ? "/" : "", count ? argv[1] : "");
	result = document_get(ctl, buffer_text(&path), &document);
	if (result != EXIT_DONE)
		return result;
	if (ctl->json)
		document_print(document);
	else if (count == 1)
		result = print_balancer(ctl, document);
	else
		print_balancers(document);
	return result;
}

const struct verb verb_lb = {
	.name = "lb",
	.arguments = "[LOAD-BALANCER]",
	.arguments_max = 1,
	.summary = "load balancers; with an id also the health of its targets",
	// clang-format off
	.help = "Without an id all of them: address, listeners, groups. With one, the targets behind\n"
		"each listener with their state and reason, as ELBv2 names them.\n"
		"\n"
		"Example: penstockctl lb front",
	// clang-format on
	.run = run_lb,
};
