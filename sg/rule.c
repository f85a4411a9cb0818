// SPDX-License-Identifier: Apache-2.0
// Rules and groups as plain values: checks and texts.
#include "sg/sg.h"

#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"

static const struct {
	const char *name;
	int number;
} protocols[] = {
	{"-1", SG_PROTOCOL_ALL}, {"all", SG_PROTOCOL_ALL}, {"tcp", IPPROTO_TCP},
	{"udp", IPPROTO_UDP},    {"icmp", IPPROTO_ICMP},
};

const char *sg_direction_name(enum sg_direction direction)
{
	return direction == SG_INGRESS ? "ingress" : "egress";
}

int sg_protocol_parse(const char *text, int *ret_protocol, struct error *err)
{
	uint32_t number;

	for (size_t i = 0; i < ARRAY_LENGTH(protocols); i++) {
		if (strcmp(text, protocols[i].name) != 0)
			continue;
		*ret_protocol = protocols[i].number;
		return 0;
	}
	if (parse_u32(text, 255, &number) < 0)
		return error_set(err, EINVAL,
				 "\"%s\" is no protocol: tcp, udp, icmp, -1 or a number 0 to 255",
				 text);
	*ret_protocol = (int)number;
	return 0;
}

static int check_ports(const struct sg_rule *rule, struct error *err)
{
	if (rule->from_port < 0 || rule->to_port > 65535)
		return error_set(err, EINVAL, "ports %d-%d: they must be within 0-65535",
				 rule->from_port, rule->to_port);
	if (rule->from_port > rule->to_port)
		return error_set(err, EINVAL, "ports %d-%d: the first is greater than the last",
				 rule->from_port, rule->to_port);
	return 0;
}

static int check_icmp(const struct sg_rule *rule, struct error *err)
{
	if (rule->from_port < -1 || rule->from_port > 255)
		return error_set(err, EINVAL, "icmp type %d: it must be 0 to 255, or -1 for all",
				 rule->from_port);
	if (rule->to_port < -1 || rule->to_port > 255)
		return error_set(err, EINVAL, "icmp code %d: it must be 0 to 255, or -1 for all",
				 rule->to_port);
	if (rule->from_port == -1 && rule->to_port != -1)
		return error_set(err, EINVAL, "icmp code %d: with all types (-1) it must be -1 too",
				 rule->to_port);
	return 0;
}

static int check_peer(const struct sg_rule *rule, struct error *err)
{
	struct ipv4_cidr canonical = rule->cidr;
	char given[IPV4_CIDR_TEXT_SIZE], right[IPV4_CIDR_TEXT_SIZE];

	if (rule->group_id) {
		if (!id_is_valid(rule->group_id))
			return error_set(err, EINVAL, "\"%s\" is no group id", rule->group_id);
		return 0;
	}
	if (rule->cidr.prefix > 32)
		return error_set(err, EINVAL, "prefix length %u is greater than 32",
				 rule->cidr.prefix);
	canonical.base &= ipv4_mask(canonical.prefix);
	if (canonical.base != rule->cidr.base)
		return error_set(err, EINVAL, "%s has host bits set: %s would be right",
				 ipv4_cidr_format(&rule->cidr, given),
				 ipv4_cidr_format(&canonical, right));
	return 0;
}

static int check_description(const char *text, struct error *err)
{
	if (!text)
		return 0;
	if (strlen(text) > SG_DESCRIPTION_MAX)
		return error_set(err, EINVAL, "the description is longer than %d characters",
				 SG_DESCRIPTION_MAX);
	for (; *text; text++)
		if (!isascii((unsigned char)*text) ||
		    (!isalnum((unsigned char)*text) && !strchr(" ._-:/()#,@[]+=;{}!$*", *text)))
			return error_set(err, EINVAL,
					 "the description has other characters than "
					 "a-z, A-Z, 0-9, blank and ._-:/()#,@[]+=;{}!$*");
	return 0;
}

int sg_rule_check(const struct sg_rule *rule, struct error *err)
{
	int status = 0;

	if (!rule->id || !*rule->id || strlen(rule->id) > SG_RULE_ID_MAX)
		return error_set(err, EINVAL, "a rule id has 1 to %d characters", SG_RULE_ID_MAX);
	if (rule->protocol < SG_PROTOCOL_ALL || rule->protocol > 255)
		return error_set(err, EINVAL, "%d is no protocol: -1 to 255 would be right",
				 rule->protocol);
	if (rule->protocol == IPPROTO_TCP || rule->protocol == IPPROTO_UDP)
		status = check_ports(rule, err);
	else if (rule->protocol == IPPROTO_ICMP)
		status = check_icmp(rule, err);
	if (status == 0)
		status = check_peer(rule, err);
	if (status == 0)
		status = check_description(rule->description, err);
	return status;
}

static int check_unique(const struct sg_rule_list *list, size_t i, struct error *err)
{
	for (size_t k = 0; k < i; k++)
		if (strcmp(list->rules[k].id, list->rules[i].id) == 0)
			return error_set(err, EINVAL, "its id %s is that of rule %zu too",
					 list->rules[i].id, k);
	return 0;
}

static int check_direction(const struct sg_group *group, enum sg_direction direction,
			   struct error *err)
{
	const struct sg_rule_list *list = &group->rules[direction];

	if (list->count > SG_RULES_MAX)
		return error_set(err, EINVAL,
				 "%zu %s rules: a group has at most %d of each direction",
				 list->count, sg_direction_name(direction), SG_RULES_MAX);
	for (size_t i = 0; i < list->count; i++)
		if (sg_rule_check(&list->rules[i], err) < 0 || check_unique(list, i, err) < 0)
			return error_wrap(err, "%s rule %zu", sg_direction_name(direction), i);
	return 0;
}

int sg_group_check(const struct sg_group *group, struct error *err)
{
	if (!group->id || !id_is_valid(group->id))
		return error_set(err, EINVAL, "\"%s\" is no group id", group->id ?: "");
	for (int direction = 0; direction < SG_DIRECTION_COUNT; direction++)
		if (check_direction(group, (enum sg_direction)direction, err) < 0)
			return -err->code;
	return 0;
}

static void format_range(const struct sg_rule *rule, char text[32])
{
	text[0] = '\0';
	if (rule->protocol == IPPROTO_ICMP)
		snprintf(text, 32, " %d/%d", rule->from_port, rule->to_port);
	else if (rule->protocol != IPPROTO_TCP && rule->protocol != IPPROTO_UDP)
		return;
	else if (rule->from_port == rule->to_port)
		snprintf(text, 32, " %d", rule->from_port);
	else
		snprintf(text, 32, " %d-%d", rule->from_port, rule->to_port);
}

char *sg_rule_format(const struct sg_rule *rule, char text[SG_RULE_TEXT_SIZE])
{
	char number[16], range[32], cidr[IPV4_CIDR_TEXT_SIZE];
	const char *protocol = number;

	snprintf(number, sizeof(number), "%d", rule->protocol);
	for (size_t i = 0; i < ARRAY_LENGTH(protocols); i++)
		if (protocols[i].number == rule->protocol)
			protocol = protocols[i].name; // the last: "all", not "-1"
	format_range(rule, range);
	snprintf(text, SG_RULE_TEXT_SIZE, "%s%s %s", protocol, range,
		 rule->group_id ?: ipv4_cidr_format(&rule->cidr, cidr));
	return text;
}
