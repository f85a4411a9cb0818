// SPDX-License-Identifier: Apache-2.0
// The effects of load balancers and target groups: an address of the subnet on the VPC's lo,
// membership in security groups, listeners and health checks (agent/lb).
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

// --- Load balancers ---

static void balancer_meta_name(const char *id, char name[96])
{
	snprintf(name, 96, "balancer-address/%s", id);
}

static uint32_t balancer_address(struct engine *engine, const char *id)
{
	scoped(arena_release) struct arena arena = {0};
	struct error ignored = {0};
	const char *text;
	char name[96];
	uint32_t address;

	balancer_meta_name(id, name);
	if (store_meta_get(engine->store, name, &arena, &text, &ignored) < 0 ||
	    ipv4_parse(text, &address, &ignored) < 0)
		return 0;
	return address;
}

// A balancer that is gone: where it was is what the VPCs' tables and subnets say.
static int balancer_delete(struct engine *engine, const char *id, struct error *err)
{
	uint32_t address = balancer_address(engine, id);
	char name[96];

	balancer_meta_name(id, name);
	lb_balancer_remove(engine->lb, id);
	for (struct network_vpc *vpc = engine->vpcs; vpc; vpc = vpc->next)
		if (sg_balancer_remove(vpc->sg, network_batch(vpc), id, err) < 0)
			return -err->code;
	for (struct network_subnet *subnet = engine->subnets; subnet && address;
	     subnet = subnet->next) {
		int64_t until_ms = clock_wall_ms() + engine->config->cooldown_seconds * 1000LL;

		if (!ipv4_cidr_contains(&subnet->block, address) ||
		    !ipam_release(subnet->ipam, address, until_ms))
			continue;
		if (netif_address_remove(engine->netif, subnet->vpc_id, address, err) < 0)
			return -err->code;
	}
	engine->recorded = true;
	return store_meta_set(engine->store, name, "", err);
}

static void balancer_of(const struct model_object *object, const char *vpc_id, uint32_t address,
			struct lb_balancer *ret_balancer)
{
	const struct load_balancer_spec *spec = object->load_balancer;
	struct lb_balancer balancer = {.address = address, .listener_count = spec->listener_count};

	snprintf(balancer.id, sizeof(balancer.id), "%s", object->id);
	snprintf(balancer.vpc_id, sizeof(balancer.vpc_id), "%s", vpc_id);
	for (uint32_t i = 0; i < spec->listener_count; i++) {
		balancer.listeners[i].port = (uint16_t)spec->listeners[i].port;
		snprintf(balancer.listeners[i].group_id, sizeof(balancer.listeners[i].group_id),
			 "%s", spec->listeners[i].target_group);
	}
	*ret_balancer = balancer;
}

int balancer_apply(struct engine *engine, const char *id, struct error *err)
{
	const struct model_object *object = engine_object(engine, MODEL_LOAD_BALANCER, id);
	struct network_subnet *subnet;
	struct network_vpc *vpc;
	struct lb_balancer balancer;
	struct sg_balancer membership = {.id = id};

	if (!object)
		return balancer_delete(engine, id, err);
	membership.address = balancer_address(engine, id);
	membership.groups = object->load_balancer->security_groups;
	membership.group_count = object->load_balancer->security_group_count;
	subnet = network_subnet_find(engine, object->load_balancer->subnet_id);
	vpc = subnet ? network_vpc_find(engine, subnet->vpc_id) : NULL;
	if (!vpc || membership.address == 0)
		return error_set(err, ENOENT, "subnet %s is not there",
				 object->load_balancer->subnet_id);
	if (!ipam_is_leased(subnet->ipam, membership.address) &&
	    ipam_adopt(subnet->ipam, membership.address, err) < 0)
		return -err->code;
	balancer_of(object, vpc->id, membership.address, &balancer);
	if (netif_address_ensure(engine->netif, vpc->id, membership.address, err) < 0 ||
	    sg_balancer_set(vpc->sg, network_batch(vpc), &membership, err) < 0)
		return -err->code;
	return lb_balancer_ensure(engine->lb, &balancer, err);
}

// Chooses the address of a new balancer, in the turn that stores it.
static int balancer_choose(struct engine *engine, const struct model_object *object, bool dry_run,
			   struct arena *arena, const char **ret_status, struct error *err)
{
	struct network_subnet *subnet =
		network_subnet_find(engine, object->load_balancer->subnet_id);
	uint32_t address = balancer_address(engine, object->id);
	char name[96], text[IPV4_TEXT_SIZE];

	if (!subnet)
		return error_set(err, EAGAIN, "subnet %s is not ready yet, try again",
				 object->load_balancer->subnet_id);
	if (address == 0 && ipam_lease(subnet->ipam, clock_wall_ms(), &address, err) < 0)
		return -err->code;
	ipv4_format(address, text);
	*ret_status = arena_printf(arena, "{\"privateIpv4Address\":\"%s\"}", text);
	if (dry_run) {
		if (balancer_address(engine, object->id) == 0)
			ipam_release(subnet->ipam, address, 0);
		return 0;
	}
	balancer_meta_name(object->id, name);
	return store_meta_set(engine->store, name, text, err);
}

// --- Target groups ---

static void check_of(const struct target_health_check *spec, struct lb_check *ret_check)
{
	struct lb_check check = {
		.protocol =
			spec->protocol == HEALTH_CHECK_HTTP ? LB_PROTOCOL_HTTP : LB_PROTOCOL_TCP,
		.port = (uint16_t)spec->port,
		.interval_ms = spec->interval_seconds * 1000,
		.timeout_ms = spec->timeout_seconds * 1000,
		.healthy_threshold = spec->healthy_threshold_count,
		.unhealthy_threshold = spec->unhealthy_threshold_count,
	};

	snprintf(check.path, sizeof(check.path), "%s", spec->path);
	for (uint32_t i = 0; i < spec->matcher_range_count; i++)
		lb_matcher_add(check.matcher, spec->matcher_ranges[i].first,
			       spec->matcher_ranges[i].last);
	*ret_check = check;
}

int target_group_apply(struct engine *engine, const char *id, struct error *err)
{
	const struct model_object *object = engine_object(engine, MODEL_TARGET_GROUP, id);
	struct lb_group group = {0};

	if (!object) {
		lb_group_remove(engine->lb, id);
		return 0;
	}
	snprintf(group.id, sizeof(group.id), "%s", id);
	snprintf(group.vpc_id, sizeof(group.vpc_id), "%s", object->target_group->vpc_id);
	group.drain_seconds = object->target_group->deregistration_delay_seconds;
	check_of(&object->target_group->health_check, &group.check);
	return lb_group_ensure(engine->lb, &group, err);
}

int engine_object_check(struct engine *engine, enum model_kind kind, const char *id,
			const struct model_object *object, bool dry_run, struct arena *arena,
			const char **ret_status, struct error *err)
{
	(void)id;
	if (kind == MODEL_LOAD_BALANCER && object)
		return balancer_choose(engine, object, dry_run, arena, ret_status, err);
	return 0;
}
