// SPDX-License-Identifier: Apache-2.0
// The documents of load balancers and target groups.
#include <stdlib.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/model/fields.h"

enum { GROUPS_MAX = 5 };

static const char *const protocol_words[] = {"TCP", NULL};
static const struct refused_word protocol_refused[] = {
	{"UDP", "UDP is not built yet"},
	{"TCP_UDP", "UDP is not built yet"},
	{"TLS", "TLS is not built yet"},
	{"QUIC", "QUIC is not built yet"},
	{"TCP_QUIC", "QUIC is not built yet"},
	{"HTTP", "application load balancers are not built yet"},
	{"HTTPS", "application load balancers are not built yet"},
	{"GENEVE", "gateway load balancers are not built yet"},
	{0},
};

// ---------------------------------------------------------------- load balancer

static const struct field listener_fields[] = {
	{.name = "protocol",
	 .type = FIELD_ENUM,
	 .words = protocol_words,
	 .refused = protocol_refused,
	 FIELD_AT(listener_spec, protocol)},
	{.name = "port",
	 .type = FIELD_U32,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = 65535,
	 FIELD_AT(listener_spec, port)},
	{.name = "targetGroup",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 FIELD_REFERS_TO(MODEL_TARGET_GROUP),
	 FIELD_AT(listener_spec, target_group)},
};
static const struct field_table listener_table = {FIELD_TABLE(listener_spec, listener_fields)};

static const struct field load_balancer_fields[] = {
	{.name = "subnetId",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
	 FIELD_REFERS_TO(MODEL_SUBNET),
	 FIELD_AT(load_balancer_spec, subnet_id)},
	{.name = "securityGroups",
	 .type = FIELD_LIST,
	 .flags = FIELD_REQUIRED | FIELD_UNIQUE | FIELD_SET,
	 .min = 1,
	 .max = GROUPS_MAX,
	 .element =
		 &(const struct field){.type = FIELD_TEXT, FIELD_REFERS_TO(MODEL_SECURITY_GROUP)},
	 FIELD_LIST_AT(load_balancer_spec, security_groups, security_group_count)},
	{.name = "listeners",
	 .type = FIELD_LIST,
	 .flags = FIELD_SET,
	 .max = LISTENERS_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &listener_table},
	 FIELD_LIST_AT(load_balancer_spec, listeners, listener_count)},
};

static void finish_load_balancer(struct parse *parse, const struct place *place, void *target)
{
	const struct load_balancer_spec *balancer = target;
	const struct place *listeners = PLACE_MEMBER(place, "listeners");

	for (uint32_t i = 1; i < balancer->listener_count; i++) {
		uint32_t port = balancer->listeners[i].port;

		for (uint32_t k = 0; k < i && port != 0; k++)
			if (balancer->listeners[k].port == port)
				parse_fault(parse, PLACE_MEMBER(PLACE_INDEX(listeners, i), "port"),
					    "port %u is taken by listener %u", port, k);
	}
}

const struct field_table load_balancer_table = {
	FIELD_TABLE(load_balancer_spec, load_balancer_fields), .finish = finish_load_balancer};

// ---------------------------------------------------------------- health check

// "traffic-port", or a port as a number or, as in AWS's documents, a text.
static void parse_check_port(struct parse *parse, const struct place *place,
			     const struct field *field, const cJSON *value, void *target)
{
	uint32_t port = 0;
	bool good = true;

	(void)field;
	if (cJSON_IsNumber(value)) {
		port = value->valuedouble >= 1 && value->valuedouble <= 65535
			       ? (uint32_t)value->valuedouble
			       : 0;
		good = port != 0 && (double)port == value->valuedouble;
	} else if (cJSON_IsString(value) && strcmp(value->valuestring, "traffic-port") != 0) {
		good = parse_u32(value->valuestring, 65535, &port) == 0 && port != 0;
	} else if (value && !cJSON_IsString(value)) {
		good = false;
	}
	if (!good)
		parse_fault(parse, place, "must be \"traffic-port\" or a port from 1 to 65535");
	*(uint32_t *)target = good ? port : 0;
}

static void render_check_port(struct json_writer *writer, const struct field *field,
			      const void *source)
{
	uint32_t port = *(const uint32_t *)source;

	if (port == 0)
		json_string(writer, field->name, "traffic-port");
	else
		json_number(writer, field->name, port);
}

// One code "200" or range "200-299" of the `length` characters.
static bool matcher_range_parse(const char *text, size_t length, struct matcher_range *ret_range)
{
	char first[8];
	char *dash;

	if (length == 0 || length >= sizeof(first))
		return false;
	memcpy(first, text, length);
	first[length] = '\0';
	dash = strchr(first, '-');
	if (dash)
		*dash = '\0';
	if (parse_u32(first, 499, &ret_range->first) < 0)
		return false;
	ret_range->last = ret_range->first;
	if (dash && parse_u32(dash + 1, 499, &ret_range->last) < 0)
		return false;
	return ret_range->first >= 200 && ret_range->first <= ret_range->last;
}

static bool matcher_parse(struct target_health_check *check, struct arena *arena)
{
	const char *text = check->matcher;

	check->matcher_ranges = arena_array(arena, struct matcher_range, MATCHER_RANGES_MAX);
	check->matcher_range_count = 0;
	for (;;) {
		size_t length = strcspn(text, ",");

		if (check->matcher_range_count == MATCHER_RANGES_MAX ||
		    !matcher_range_parse(text, length,
					 &check->matcher_ranges[check->matcher_range_count]))
			return false;
		check->matcher_range_count++;
		if (text[length] == '\0')
			return true;
		text += length + 1;
	}
}

static const char *complain_check_path(const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c <= 0x20 || *c >= 0x7f)
			return "must be visible ASCII characters";
	return text[0] == '/' ? NULL : "must begin with '/'";
}

static const char *const check_protocol_words[] = {"TCP", "HTTP", NULL};
static const struct refused_word check_protocol_refused[] = {
	{"HTTPS", "health checks over HTTPS are not built yet"},
	{"GRPC", "health checks over gRPC are not built yet"},
	{0},
};

#define CHECK_NUMBER(member_name, member, lowest, highest, default_number)                         \
	{                                                                                          \
		.name = (member_name), .type = FIELD_U32, .min = (lowest), .max = (highest),       \
		.number = (default_number), FIELD_AT(target_health_check, member)                  \
	}

static const struct field health_check_fields[] = {
	{.name = "protocol",
	 .type = FIELD_ENUM,
	 .words = check_protocol_words,
	 .refused = check_protocol_refused,
	 FIELD_AT(target_health_check, protocol)},
	{.name = "path",
	 .type = FIELD_TEXT,
	 .min = 1,
	 .max = HEALTH_CHECK_PATH_MAX,
	 .text = "/",
	 .complaint = complain_check_path,
	 FIELD_AT(target_health_check, path)},
	{.name = "port",
	 .type = FIELD_CUSTOM,
	 .parse = parse_check_port,
	 .render = render_check_port,
	 FIELD_AT(target_health_check, port)},
	CHECK_NUMBER("intervalSeconds", interval_seconds, 5, 300, 30),
	CHECK_NUMBER("timeoutSeconds", timeout_seconds, 2, 120, 5),
	CHECK_NUMBER("healthyThresholdCount", healthy_threshold_count, 2, 10, 5),
	CHECK_NUMBER("unhealthyThresholdCount", unhealthy_threshold_count, 2, 10, 2),
	{.name = "matcher",
	 .type = FIELD_TEXT,
	 .min = 1,
	 .max = 256,
	 .text = "200",
	 FIELD_AT(target_health_check, matcher)},
};

static void finish_health_check(struct parse *parse, const struct place *place, void *target)
{
	struct target_health_check *check = target;

	if (*check->matcher && !matcher_parse(check, parse->arena))
		parse_fault(parse, PLACE_MEMBER(place, "matcher"),
			    "must be codes from 200 to 499, such as \"200,202\" or \"200-299\"");
	if (check->timeout_seconds > check->interval_seconds)
		parse_fault(parse, PLACE_MEMBER(place, "timeoutSeconds"),
			    "must not be longer than intervalSeconds");
}

static const struct field_table health_check_table = {
	FIELD_TABLE(target_health_check, health_check_fields), .finish = finish_health_check};

// ---------------------------------------------------------------- target group

struct provider_document {
	enum target_provider type;
};

static const char *const provider_words[] = {"nft", NULL};
static const struct refused_word provider_refused[] = {
	{"haproxy", "the provider haproxy is not built yet"},
	{"envoy", "the provider envoy is not built yet"},
	{0},
};

static const struct field provider_fields[] = {
	{.name = "type",
	 .type = FIELD_ENUM,
	 .words = provider_words,
	 .refused = provider_refused,
	 FIELD_AT(provider_document, type)},
};
static const struct field_table provider_table = {FIELD_TABLE(provider_document, provider_fields)};

static const struct field target_group_fields[] = {
	{.name = "vpcId",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
	 FIELD_REFERS_TO(MODEL_VPC),
	 FIELD_AT(target_group_spec, vpc_id)},
	{.name = "protocol",
	 .type = FIELD_ENUM,
	 .flags = FIELD_IMMUTABLE,
	 .words = protocol_words,
	 .refused = protocol_refused,
	 FIELD_AT(target_group_spec, protocol)},
	{.name = "port",
	 .type = FIELD_U32,
	 .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
	 .min = 1,
	 .max = 65535,
	 FIELD_AT(target_group_spec, port)},
	{.name = "healthCheck",
	 .type = FIELD_OBJECT,
	 .table = &health_check_table,
	 FIELD_AT(target_group_spec, health_check)},
	{.name = "deregistrationDelaySeconds",
	 .type = FIELD_U32,
	 .max = 3600,
	 .number = 300,
	 FIELD_AT(target_group_spec, deregistration_delay_seconds)},
	{.name = "provider",
	 .type = FIELD_OBJECT,
	 .flags = FIELD_IMMUTABLE,
	 .table = &provider_table,
	 FIELD_AT(target_group_spec, provider)},
	{.name = "targetType",
	 .type = FIELD_CONSTANT,
	 .flags = FIELD_SPARSE,
	 .expected = "ip",
	 .text = "targets of other types are not built yet"},
	FIELD_NOT_BUILT("slowStartSeconds"),
};

const struct field_table target_group_table = {FIELD_TABLE(target_group_spec, target_group_fields)};
