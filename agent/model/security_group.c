// SPDX-License-Identifier: Apache-2.0
// The document of a security group: EC2's IpPermissions.
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/model/fields.h"

// ---------------------------------------------------------------- protocols

static const struct {
	const char *name;
	int32_t number;
} protocols[] = {
	{"tcp", IPPROTO_TCP},       {"udp", IPPROTO_UDP},    {"icmp", IPPROTO_ICMP},
	{"icmpv6", IPPROTO_ICMPV6}, {"-1", SG_PROTOCOL_ALL},
};

static bool protocol_from_text(const char *text, int32_t *ret_number)
{
	uint32_t number;

	for (size_t i = 0; i < ARRAY_LENGTH(protocols); i++) {
		if (strcmp(protocols[i].name, text) == 0) {
			*ret_number = protocols[i].number;
			return true;
		}
	}
	if (parse_u32(text, 255, &number) < 0)
		return false;
	*ret_number = (int32_t)number;
	return true;
}

static void parse_protocol(struct parse *parse, const struct place *place,
			   const struct field *field, const cJSON *value, void *target)
{
	const char *text = value ? parse_text(parse, place, value) : NULL;
	int32_t number = SG_PROTOCOL_ALL;

	(void)field;
	if (text && !protocol_from_text(text, &number))
		parse_fault(parse, place, "must be tcp, udp, icmp, -1 or a number from 0 to 255");
	else if (number == IPPROTO_ICMPV6)
		parse_fault(parse, place, "IPv6 is not built yet");
	*(int32_t *)target = number;
}

static void render_protocol(struct json_writer *writer, const struct field *field,
			    const void *source)
{
	int32_t number = *(const int32_t *)source;
	char text[12];

	snprintf(text, sizeof(text), "%" PRId32, number);
	for (size_t i = 0; i < ARRAY_LENGTH(protocols); i++)
		if (protocols[i].number == number)
			return json_string(writer, field->name, protocols[i].name);
	json_string(writer, field->name, text);
}

// ---------------------------------------------------------------- permissions

static const char *complain_description(const char *text)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
		" ._-:/()#,@[]+=;{}!$*";

	return text[strspn(text, allowed)] ? "must be of a-zA-Z0-9 ._-:/()#,@[]+=;{}!$*" : NULL;
}

#define DESCRIPTION_FIELD(structure)                                                               \
	{                                                                                          \
		.name = "description", .type = FIELD_TEXT, .max = SG_DESCRIPTION_MAX, .text = "",  \
		.complaint = complain_description, FIELD_AT(structure, description)                \
	}

static const struct field range_fields[] = {
	{.name = "cidrIp", .type = FIELD_CIDR, .flags = FIELD_REQUIRED, FIELD_AT(ip_range, cidr)},
	DESCRIPTION_FIELD(ip_range),
};
static const struct field_table range_table = {FIELD_TABLE(ip_range, range_fields)};

static const struct field pair_fields[] = {
	{.name = "groupId",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 FIELD_REFERS_TO(MODEL_SECURITY_GROUP),
	 FIELD_AT(group_pair, group_id)},
	DESCRIPTION_FIELD(group_pair),
};
static const struct field_table pair_table = {FIELD_TABLE(group_pair, pair_fields)};

static const struct field permission_fields[] = {
	{.name = "ipProtocol",
	 .type = FIELD_CUSTOM,
	 .flags = FIELD_REQUIRED,
	 .parse = parse_protocol,
	 .render = render_protocol,
	 FIELD_AT(ip_permission, protocol)},
	{.name = "fromPort",
	 .type = FIELD_I32,
	 .flags = FIELD_SPARSE,
	 .min = -1,
	 .max = 65535,
	 .number = RULE_NO_PORTS,
	 FIELD_AT(ip_permission, from_port)},
	{.name = "toPort",
	 .type = FIELD_I32,
	 .flags = FIELD_SPARSE,
	 .min = -1,
	 .max = 65535,
	 .number = RULE_NO_PORTS,
	 FIELD_AT(ip_permission, to_port)},
	{.name = "ipRanges",
	 .type = FIELD_LIST,
	 .flags = FIELD_SPARSE | FIELD_SET,
	 .max = SG_RULES_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &range_table},
	 FIELD_LIST_AT(ip_permission, ip_ranges, ip_range_count)},
	{.name = "userIdGroupPairs",
	 .type = FIELD_LIST,
	 .flags = FIELD_SPARSE | FIELD_SET,
	 .max = SG_RULES_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &pair_table},
	 FIELD_LIST_AT(ip_permission, group_pairs, group_pair_count)},
	FIELD_REFUSE("ipv6Ranges", "IPv6 is not built yet"),
	FIELD_REFUSE("prefixListIds", "prefix lists are not built yet"),
};

static void check_ports(struct parse *parse, const struct place *place,
			const struct ip_permission *permission)
{
	if (permission->from_port < 0)
		parse_fault(parse, PLACE_MEMBER(place, "fromPort"),
			    "tcp and udp need a port range: 0 to 65535");
	if (permission->to_port < 0)
		parse_fault(parse, PLACE_MEMBER(place, "toPort"),
			    "tcp and udp need a port range: 0 to 65535");
	else if (permission->to_port < permission->from_port)
		parse_fault(parse, PLACE_MEMBER(place, "toPort"), "must not be below fromPort");
}

static void check_icmp(struct parse *parse, const struct place *place,
		       struct ip_permission *permission)
{
	if (permission->from_port == RULE_NO_PORTS || permission->from_port > 255)
		parse_fault(parse, PLACE_MEMBER(place, "fromPort"),
			    "icmp needs a type: 0 to 255, or -1 for all");
	if (permission->from_port == -1)
		permission->to_port = -1;
	if (permission->to_port == RULE_NO_PORTS || permission->to_port > 255)
		parse_fault(parse, PLACE_MEMBER(place, "toPort"),
			    "icmp needs a code: 0 to 255, or -1 for all");
}

static void finish_permission(struct parse *parse, const struct place *place, void *target)
{
	struct ip_permission *permission = target;

	if (permission->protocol == IPPROTO_TCP || permission->protocol == IPPROTO_UDP)
		check_ports(parse, place, permission);
	else if (permission->protocol == IPPROTO_ICMP)
		check_icmp(parse, place, permission);
	else
		permission->from_port = permission->to_port = RULE_NO_PORTS;
	if (permission->ip_range_count + permission->group_pair_count == 0)
		parse_fault(parse, place, "needs ipRanges or userIdGroupPairs");
}

static const struct field_table permission_table = {FIELD_TABLE(ip_permission, permission_fields),
						    .finish = finish_permission};

// ---------------------------------------------------------------- rules

static struct sg_rule rule_of(const struct ip_permission *permission)
{
	bool ports = permission->from_port != RULE_NO_PORTS;

	return (struct sg_rule){
		.protocol = permission->protocol,
		.from_port = ports ? permission->from_port : -1,
		.to_port = ports ? permission->to_port : -1,
	};
}

// Rule `index` of a permission: its ranges first, then its groups.
static struct sg_rule permission_rule(const struct ip_permission *permission, uint32_t index)
{
	struct sg_rule rule = rule_of(permission);

	if (index < permission->ip_range_count) {
		rule.cidr = permission->ip_ranges[index].cidr;
		rule.description = permission->ip_ranges[index].description;
	} else {
		const struct group_pair *pair =
			&permission->group_pairs[index - permission->ip_range_count];

		rule.group_id = pair->group_id;
		rule.description = pair->description;
	}
	return rule;
}

static uint32_t permission_rule_count(const struct ip_permission *permission)
{
	return permission->ip_range_count + permission->group_pair_count;
}

static uint32_t rules_count(const struct ip_permission *permissions, uint32_t count)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += permission_rule_count(&permissions[i]);
	return sum;
}

static bool rules_equal(const struct sg_rule *one, const struct sg_rule *other)
{
	if (one->protocol != other->protocol || one->from_port != other->from_port ||
	    one->to_port != other->to_port || !one->group_id != !other->group_id)
		return false;
	if (one->group_id)
		return strcmp(one->group_id, other->group_id) == 0;
	return one->cidr.base == other->cidr.base && one->cidr.prefix == other->cidr.prefix;
}

static void duplicate_rule(struct parse *parse, const struct place *place,
			   const struct ip_permission *permission, uint32_t index)
{
	bool range = index < permission->ip_range_count;
	const struct place *list = PLACE_MEMBER(place, range ? "ipRanges" : "userIdGroupPairs");

	parse_fault(parse, PLACE_INDEX(list, range ? index : index - permission->ip_range_count),
		    "the same rule stands twice");
}

struct seen_rules {
	struct sg_rule rules[SG_RULES_MAX];
	uint32_t count;
};

static bool seen_before(const struct seen_rules *seen, const struct sg_rule *rule)
{
	for (uint32_t i = 0; i < seen->count; i++)
		if (rules_equal(&seen->rules[i], rule))
			return true;
	return false;
}

// No more rules than allowed, and none twice.
static void check_rules(struct parse *parse, const struct place *place,
			const struct ip_permission *permissions, uint32_t count)
{
	struct seen_rules seen = {.count = 0};

	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t k = 0; k < permission_rule_count(&permissions[i]); k++) {
			struct sg_rule rule = permission_rule(&permissions[i], k);

			if (seen.count == SG_RULES_MAX)
				return parse_fault(parse, place, "has more than %d rules",
						   SG_RULES_MAX);
			if (seen_before(&seen, &rule))
				duplicate_rule(parse, PLACE_INDEX(place, i), &permissions[i], k);
			else
				seen.rules[seen.count++] = rule;
		}
	}
}

static void rule_identify(struct sg_rule *rule, const char *group_id, enum sg_direction direction,
			  struct arena *arena)
{
	char peer[IPV4_CIDR_TEXT_SIZE];
	const char *meaning =
		arena_printf(arena, "%d %d %d %d %s", (int)direction, rule->protocol,
			     rule->from_port, rule->to_port,
			     rule->group_id ? rule->group_id : ipv4_cidr_format(&rule->cidr, peer));

	rule->id = arena_printf(arena, "sgr-0%016" PRIx64, hash_pair(group_id, meaning));
}

static struct sg_rule_list flatten(const char *group_id, enum sg_direction direction,
				   const struct ip_permission *permissions, uint32_t count,
				   struct arena *arena)
{
	uint32_t rule_count = rules_count(permissions, count), filled = 0;
	struct sg_rule *rules = arena_array(arena, struct sg_rule, rule_count);

	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t k = 0; k < permission_rule_count(&permissions[i]); k++) {
			rules[filled] = permission_rule(&permissions[i], k);
			rule_identify(&rules[filled++], group_id, direction, arena);
		}
	}
	return (struct sg_rule_list){.rules = rules, .count = rule_count};
}

struct sg_group security_group_rules(const char *group_id, const struct security_group_spec *spec,
				     struct arena *arena)
{
	return (struct sg_group){.id = group_id,
				 .rules = {
					 [SG_INGRESS] = flatten(group_id, SG_INGRESS, spec->ingress,
								spec->ingress_count, arena),
					 [SG_EGRESS] = flatten(group_id, SG_EGRESS, spec->egress,
							       spec->egress_count, arena),
				 }};
}

// ---------------------------------------------------------------- group

static const struct field security_group_fields[] = {
	{.name = "vpcId",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
	 FIELD_REFERS_TO(MODEL_VPC),
	 FIELD_AT(security_group_spec, vpc_id)},
	DESCRIPTION_FIELD(security_group_spec),
	{.name = "ipPermissions",
	 .type = FIELD_LIST,
	 .flags = FIELD_SET,
	 .max = SG_RULES_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &permission_table},
	 FIELD_LIST_AT(security_group_spec, ingress, ingress_count)},
	{.name = "ipPermissionsEgress",
	 .type = FIELD_LIST,
	 .flags = FIELD_SET,
	 .max = SG_RULES_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &permission_table},
	 FIELD_LIST_AT(security_group_spec, egress, egress_count)},
	FIELD_REFUSE("revokeMode", "is not built yet: tracked connections live on"),
};

// A new group lets everything out, as in EC2.
static void allow_all_egress(struct security_group_spec *group, struct arena *arena)
{
	group->egress = arena_new(arena, struct ip_permission);
	group->egress->protocol = SG_PROTOCOL_ALL;
	group->egress->from_port = group->egress->to_port = RULE_NO_PORTS;
	group->egress->ip_ranges = arena_new(arena, struct ip_range);
	group->egress->ip_ranges->description = "";
	group->egress->ip_range_count = 1;
	group->egress_count = 1;
}

static void finish_security_group(struct parse *parse, const struct place *place, void *target)
{
	struct security_group_spec *group = target;

	if (!group->egress)
		allow_all_egress(group, parse->arena);
	check_rules(parse, PLACE_MEMBER(place, "ipPermissions"), group->ingress,
		    group->ingress_count);
	check_rules(parse, PLACE_MEMBER(place, "ipPermissionsEgress"), group->egress,
		    group->egress_count);
}

const struct field_table security_group_table = {
	FIELD_TABLE(security_group_spec, security_group_fields), .finish = finish_security_group};
