// SPDX-License-Identifier: Apache-2.0
// sg: security groups and their rules.
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

static const struct {
	const char *name, *member;
} directions[] = {{"ingress", "ipPermissions"}, {"egress", "ipPermissionsEgress"}};

// --- Showing ---

static void ports_text(const cJSON *permission, char *text, size_t size)
{
	const char *from = member_text(permission, "fromPort");
	const char *to = member_text(permission, "toPort");

	if (strcmp(from, "-1") == 0 || strcmp(from, "-") == 0)
		snprintf(text, size, "all");
	else if (strcmp(member_text(permission, "ipProtocol"), "icmp") == 0)
		snprintf(text, size, "type %s, %s%s", from, strcmp(to, "-1") ? "code " : "any code",
			 strcmp(to, "-1") ? to : "");
	else if (strcmp(from, to) == 0)
		snprintf(text, size, "%s", from);
	else
		snprintf(text, size, "%s-%s", from, to);
}

static void add_peers(struct table *table, const char *direction, const cJSON *permission,
		      const char *list, const char *member)
{
	const char *protocol = member_text(permission, "ipProtocol");
	char ports[64];
	const cJSON *peer;

	ports_text(permission, ports, sizeof(ports));
	cJSON_ArrayForEach(peer, member_at(permission, list)) {
		table_add(table, (const char *const[]){
					 direction,
					 strcmp(protocol, "-1") == 0 ? "all" : protocol,
					 ports,
					 member_text(peer, member),
					 member_text(peer, "description"),
				 });
	}
}

static void print_rules(const cJSON *group)
{
	static const char *const headings[] = {"DIRECTION", "PROTOCOL", "PORTS", "PEER",
					       "DESCRIPTION"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	const cJSON *permission;

	for (size_t i = 0; i < ARRAY_LENGTH(directions); i++) {
		const cJSON *list = member_at(member_at(group, "spec"), directions[i].member);

		cJSON_ArrayForEach(permission, list) {
			add_peers(&table, directions[i].name, permission, "ipRanges", "cidrIp");
			add_peers(&table, directions[i].name, permission, "userIdGroupPairs",
				  "groupId");
		}
	}
	table_print(&table);
}

static bool is_member(const cJSON *groups, const char *group)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, groups) {
		if (strcmp(member_text(item, ""), group) == 0)
			return true;
	}
	return false;
}

// Who may be a member: ENIs, and load balancers, which have no task.
static const struct {
	const char *path, *groups, *id, *address;
} members[] = {
	{"/v1/enis", "securityGroups", "eniId", "privateIpv4Address"},
	{"/v1/load-balancers", "spec.securityGroups", "id", "status.privateIpv4Address"},
};

static int add_members(const struct ctl *ctl, const char *group, struct table *table)
{
	for (size_t i = 0; i < ARRAY_LENGTH(members); i++) {
		scoped(document_release) cJSON *document = NULL;
		const cJSON *item;
		int result = document_get(ctl, members[i].path, &document);

		if (result != EXIT_DONE)
			return result;
		cJSON_ArrayForEach(item, member_at(document, "items")) {
			if (is_member(member_at(item, members[i].groups), group))
				table_add(table, (const char *const[]){
							 member_text(item, members[i].id),
							 member_text(item, "taskId"),
							 member_text(item, members[i].address),
						 });
		}
	}
	return EXIT_DONE;
}

static int print_members(const struct ctl *ctl, const char *group)
{
	static const char *const headings[] = {"MEMBER", "TASK", "ADDRESS"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	int result = add_members(ctl, group, &table);

	putchar('\n');
	table_print(&table);
	return result;
}

static void print_groups(const cJSON *document)
{
	static const char *const headings[] = {"SECURITY GROUP", "VPC", "DESCRIPTION"};
	struct table table = {.headings = headings, .columns = ARRAY_LENGTH(headings)};
	const cJSON *group;

	cJSON_ArrayForEach(group, member_at(document, "items")) {
		table_add(&table, (const char *const[]){
					  member_text(group, "id"),
					  member_text(group, "spec.vpcId"),
					  member_text(group, "spec.description"),
				  });
	}
	table_print(&table);
}

static int show(const struct ctl *ctl, const char *id)
{
	scoped(document_release) cJSON *document = NULL;
	scoped(buffer_release) struct buffer path = {0};
	int result;

	buffer_addf(&path, "/v1/security-groups%s%s", id ? "/" : "", id ? id : "");
	result = document_get(ctl, buffer_text(&path), &document);
	if (result != EXIT_DONE)
		return result;
	if (ctl->json) {
		document_print(document);
		return EXIT_DONE;
	}
	if (!id) {
		print_groups(document);
		return EXIT_DONE;
	}
	print_rules(document);
	return print_members(ctl, id);
}

// --- Changing: one rule in or out, guarded by the revision that was read ---

enum { CHANGE_ATTEMPTS_MAX = 16 };

struct rule {
	const char *member;   // ipPermissions or ipPermissionsEgress
	const char *protocol; // as the agent names it: "tcp", "udp", "icmp", "-1", "47"
	int from, to;
	const char *peer; // CIDR or group id
};

// NULL: there is no such protocol.
static const char *protocol_parse(const char *text)
{
	static const struct {
		const char *text, *name;
	} names[] = {
		{"tcp", "tcp"},   {"6", "tcp"},  {"udp", "udp"}, {"17", "udp"},
		{"icmp", "icmp"}, {"1", "icmp"}, {"all", "-1"},  {"-1", "-1"},
	};
	uint32_t number;

	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		if (strcmp(names[i].text, text) == 0)
			return names[i].name;
	return parse_u32(text, 255, &number) == 0 ? text : NULL;
}

// 10.0.0.5 is the block 10.0.0.5/32.
static bool is_bare_address(const char *peer)
{
	struct in_addr address;

	return inet_pton(AF_INET, peer, &address) == 1;
}

static bool peer_is_group(const char *peer)
{
	return !strchr(peer, '/') && id_is_valid(peer);
}

static bool protocol_has_ports(const char *protocol)
{
	return strcmp(protocol, "tcp") == 0 || strcmp(protocol, "udp") == 0;
}

// Ports, or icmp's type and code.
static bool protocol_has_numbers(const char *protocol)
{
	return protocol_has_ports(protocol) || strcmp(protocol, "icmp") == 0;
}

// 80, 8000-8099; of icmp a type, or a type and a code: 8, 3/4. Other protocols have only "all".
static bool ports_parse(const char *text, struct rule *rule)
{
	char first[8];
	bool ports = protocol_has_ports(rule->protocol);
	uint32_t limit = ports ? 65535 : 255;
	const char *dash = strchr(text, ports ? '-' : '/');
	size_t length = dash ? (size_t)(dash - text) : strlen(text);
	uint32_t from, to;

	if (strcmp(text, "all") == 0) {
		rule->from = ports ? 0 : -1;
		rule->to = ports ? 65535 : -1;
		return true;
	}
	if (!protocol_has_numbers(rule->protocol))
		return false;
	snprintf(first, sizeof(first), "%.*s", (int)length, text);
	if (length >= sizeof(first) || parse_u32(first, limit, &from) < 0 ||
	    parse_u32(dash ? dash + 1 : text, limit, &to) < 0)
		return false;
	rule->from = (int)from;
	rule->to = ports || dash ? (int)to : -1; // a type alone: any code
	return true;
}

static cJSON *permission_make(const struct rule *rule)
{
	bool group = peer_is_group(rule->peer);
	cJSON *permission = cJSON_CreateObject(), *peer = cJSON_CreateObject();
	cJSON *list;

	cJSON_AddStringToObject(permission, "ipProtocol", rule->protocol);
	if (protocol_has_numbers(rule->protocol)) {
		cJSON_AddNumberToObject(permission, "fromPort", rule->from);
		cJSON_AddNumberToObject(permission, "toPort", rule->to);
	}
	cJSON_AddStringToObject(peer, group ? "groupId" : "cidrIp", rule->peer);
	list = cJSON_AddArrayToObject(permission, group ? "userIdGroupPairs" : "ipRanges");
	cJSON_AddItemToArray(list, peer);
	return permission;
}

static bool permission_is(const cJSON *permission, const struct rule *rule)
{
	const cJSON *from = member_at(permission, "fromPort"),
		    *to = member_at(permission, "toPort");

	if (strcmp(member_text(permission, "ipProtocol"), rule->protocol) != 0)
		return false;
	if (!protocol_has_numbers(rule->protocol))
		return true;
	return cJSON_IsNumber(from) && cJSON_IsNumber(to) && from->valueint == rule->from &&
	       to->valueint == rule->to;
}

// Where a rule is in a group's specification: its peer, in a list of peers, in a permission. `peer`
// is NULL when the group has no such rule.
struct rule_place {
	cJSON *permissions, *permission, *peers, *peer;
};

static struct rule_place rule_find(cJSON *spec, const struct rule *rule)
{
	bool group = peer_is_group(rule->peer);
	struct rule_place place = {.permissions =
					   cJSON_GetObjectItemCaseSensitive(spec, rule->member)};

	cJSON_ArrayForEach(place.permission, place.permissions) {
		if (!permission_is(place.permission, rule))
			continue;
		place.peers = cJSON_GetObjectItemCaseSensitive(
			place.permission, group ? "userIdGroupPairs" : "ipRanges");
		cJSON_ArrayForEach(place.peer, place.peers) {
			if (strcmp(member_text(place.peer, group ? "groupId" : "cidrIp"),
				   rule->peer) == 0)
				return place;
		}
	}
	return (struct rule_place){.permissions = place.permissions};
}

enum rule_change { RULE_CHANGED, RULE_UNCHANGED, RULE_MISSING };

static enum rule_change rule_allow(cJSON *spec, const struct rule *rule)
{
	struct rule_place place = rule_find(spec, rule);

	if (place.peer)
		return RULE_UNCHANGED;
	if (!place.permissions)
		place.permissions = cJSON_AddArrayToObject(spec, rule->member);
	cJSON_AddItemToArray(place.permissions, permission_make(rule));
	return RULE_CHANGED;
}

static enum rule_change rule_revoke(cJSON *spec, const struct rule *rule)
{
	struct rule_place place = rule_find(spec, rule);

	if (!place.peer)
		return RULE_MISSING;
	cJSON_Delete(cJSON_DetachItemViaPointer(place.peers, place.peer));
	if (cJSON_GetArraySize(member_at(place.permission, "ipRanges")) == 0 &&
	    cJSON_GetArraySize(member_at(place.permission, "userIdGroupPairs")) == 0)
		cJSON_Delete(cJSON_DetachItemViaPointer(place.permissions, place.permission));
	return RULE_CHANGED;
}

typedef enum rule_change rule_changer(cJSON *spec, const struct rule *rule);

// One attempt. -EAGAIN: somebody else changed the group since it was read, nothing was changed.
static int group_change_once(const struct ctl *ctl, const char *id, const struct rule *rule,
			     rule_changer *change)
{
	scoped(document_release) cJSON *group = NULL;
	scoped(buffer_release) struct buffer path = {0}, message = {0};
	scoped(client_reply_release) struct client_reply reply = {0};
	scoped_free char *body = NULL;
	struct client_request request = {.socket_path = ctl->socket_path, .method = "PUT"};
	cJSON *spec;
	int result;

	buffer_addf(&path, "/v1/security-groups/%s", id);
	result = document_get(ctl, buffer_text(&path), &group);
	if (result != EXIT_DONE)
		return result;
	spec = cJSON_GetObjectItemCaseSensitive(group, "spec");
	switch (change(spec, rule)) {
	case RULE_CHANGED:
		break;
	case RULE_UNCHANGED:
		return EXIT_DONE;
	case RULE_MISSING:
		buffer_addf(&message, "security-group/%s has no such rule", id);
		return fail(ctl, EXIT_NOT_FOUND, NULL, buffer_text(&message), NULL);
	}
	body = cJSON_PrintUnformatted(spec);
	request.path = buffer_text(&path);
	request.body = body;
	request.if_match = member_text(group, "revision");
	result = client_perform(&request, &reply);
	if (result == 0 && reply.status == 412)
		return -EAGAIN;
	if (result < 0 || reply.status / 100 != 2)
		return reply_fail(ctl, NULL, &reply);
	return EXIT_DONE;
}

// The agent accepts a change only of the revision that was read, so that no change of anybody else
// is overwritten. A refused change is made again in what the group has become.
static int group_change(const struct ctl *ctl, const char *id, const struct rule *rule,
			rule_changer *change)
{
	int result = -EAGAIN;

	for (int attempt = 0; attempt < CHANGE_ATTEMPTS_MAX && result == -EAGAIN; attempt++)
		result = group_change_once(ctl, id, rule, change);
	if (result == -EAGAIN)
		return fail(ctl, EXIT_REFUSED, NULL,
			    "the group is being changed by others all the time", NULL);
	return result == EXIT_DONE ? show(ctl, id) : result;
}

// ID PROTOCOL PORTS PEER
static int run_change(const struct ctl *ctl, int count, char **words, bool egress,
		      rule_changer *change)
{
	struct rule rule = {.member = directions[egress].member};
	char peer[80]; // longer than any id: what is cut is still no id

	if (count != 4)
		return usage_error(&verb_sg, "give GROUP PROTOCOL PORTS PEER", "");
	if (!id_is_valid(words[0]))
		return usage_error(&verb_sg, "no group can be named ", words[0]);
	rule.protocol = protocol_parse(words[1]);
	snprintf(peer, sizeof(peer), "%s%s", words[3], is_bare_address(words[3]) ? "/32" : "");
	rule.peer = peer;
	if (!rule.protocol)
		return usage_error(
			&verb_sg, "PROTOCOL is tcp, udp, icmp, all or a number from 0 to 255, not ",
			words[1]);
	if (!ports_parse(words[2], &rule))
		return usage_error(
			&verb_sg,
			"PORTS is 80, 8000-8099 or all; for icmp 8 (type), 3/4 (type/code) or "
			"all; for other protocols all; not ",
			words[2]);
	return group_change(ctl, words[0], &rule, change);
}

static int run_sg(const struct ctl *ctl, int argc, char **argv)
{
	bool egress = false;
	const struct option_value options[] = {{"--egress", NULL, NULL, &egress}};
	int count = options_take(&verb_sg, argc, argv, options, ARRAY_LENGTH(options));

	if (count > 0 && strcmp(argv[1], "allow") == 0)
		return run_change(ctl, count - 1, argv + 2, egress, rule_allow);
	if (count > 0 && strcmp(argv[1], "revoke") == 0)
		return run_change(ctl, count - 1, argv + 2, egress, rule_revoke);
	if (count > 1 || (count == 1 && !id_is_valid(argv[1])))
		return usage_error(&verb_sg, "give one group, or allow, or revoke", "");
	return show(ctl, count == 1 ? argv[1] : NULL);
}

const struct verb verb_sg = {
	.name = "sg",
	.arguments = "[GROUP | allow GROUP PROTOCOL PORTS PEER | revoke ...] [--egress]",
	.arguments_max = 5,
	.summary = "security groups: show them, add and remove a rule",
	// clang-format off
	.help = "Without arguments all groups; with one its rules and members. `allow` adds a rule and\n"
		"`revoke` removes one; it takes effect at once, without a restart of anything. A rule\n"
		"that is there already is allowed again without a change. What somebody else changes\n"
		"meanwhile is never overwritten.\n"
		"\n"
		"  PROTOCOL    tcp, udp, icmp, all, or a number\n"
		"  PORTS       80, 8000-8099 or all; for icmp a type or type/code: 8, 3/4 or all;\n"
		"              other protocols have no ports: all\n"
		"  PEER        a CIDR, an address, or a security group for the addresses of its members\n"
		"  --egress    a rule for what members send; default is what they receive\n"
		"\n"
		"Examples:\n"
		"  penstockctl sg allow web tcp 8080 10.0.9.0/24\n"
		"  penstockctl sg allow database tcp 5432 web\n"
		"  penstockctl sg revoke web tcp 8080 10.0.9.0/24",
	// clang-format on
	.run = run_sg,
};
