// SPDX-License-Identifier: Apache-2.0
// The effects of load balancers and target groups: an address of the subnet on the VPC's lo,
// membership in security groups, listeners and health checks (agent/lb).
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/task/internal.h"

// --- The addresses of load balancers ---

static void hold_address(struct engine *engine, const char *id, const struct network_subnet *subnet,
			 uint32_t address)
{
	struct network_balancer *balancer = calloc(1, sizeof(*balancer));

	if (!balancer)
		abort();
	snprintf(balancer->id, sizeof(balancer->id), "%s", id);
	snprintf(balancer->vpc_id, sizeof(balancer->vpc_id), "%s", subnet->vpc_id);
	snprintf(balancer->subnet_id, sizeof(balancer->subnet_id), "%s", subnet->id);
	balancer->address = address;
	balancer->next = engine->balancers;
	engine->balancers = balancer;
}

static bool holds_address(const struct network_balancer *balancer, const char *id,
			  const struct network_subnet *subnet, uint32_t address)
{
	return strcmp(balancer->id, id) == 0 && balancer->address == address && subnet &&
	       strcmp(balancer->subnet_id, subnet->id) == 0;
}

// After a restart the lease is taken up again.
static int ensure_address(struct engine *engine, const char *id, struct network_subnet *subnet,
			  uint32_t address, struct error *err)
{
	struct network_balancer *balancer = engine->balancers;

	while (balancer && !holds_address(balancer, id, subnet, address))
		balancer = balancer->next;
	if (!balancer) {
		if (ipam_adopt(subnet->ipam, address, err) < 0)
			return -err->code;
		hold_address(engine, id, subnet, address);
	}
	return netif_address_ensure(engine->netif, subnet->vpc_id, address, err);
}

static int give_back(struct engine *engine, const struct network_balancer *balancer,
		     struct error *err)
{
	struct network_vpc *vpc = network_vpc_find(engine, balancer->vpc_id);

	if (vpc && sg_balancer_remove(vpc->sg, network_batch(vpc), balancer->id, err) < 0)
		return -err->code;
	if (netif_address_remove(engine->netif, balancer->vpc_id, balancer->address, err) < 0)
		return -err->code;
	network_release_address(engine, balancer->subnet_id, balancer->address, true);
	if (vpc)
		network_reap(vpc); // its connections, too
	return 0;
}

// Every address the balancer has but this one (of no subnet: every one).
static int give_back_others(struct engine *engine, const char *id,
			    const struct network_subnet *subnet, uint32_t address,
			    struct error *err)
{
	struct network_balancer **place = &engine->balancers;

	while (*place) {
		struct network_balancer *balancer = *place;

		if (strcmp(balancer->id, id) != 0 || holds_address(balancer, id, subnet, address)) {
			place = &balancer->next;
			continue;
		}
		if (give_back(engine, balancer, err) < 0)
			return -err->code;
		*place = balancer->next;
		free(balancer);
	}
	return 0;
}

bool is_balancer_of(const struct engine *engine, const char *vpc_id, const char *address)
{
	const struct network_balancer *balancer = engine->balancers;
	char text[IPV4_TEXT_SIZE];

	while (balancer && (strcmp(balancer->vpc_id, vpc_id) != 0 ||
			    strcmp(ipv4_format(balancer->address, text), address) != 0))
		balancer = balancer->next;
	return balancer != NULL;
}

void balancers_free(struct engine *engine)
{
	while (engine->balancers) {
		struct network_balancer *balancer = engine->balancers;

		engine->balancers = balancer->next;
		free(balancer);
	}
}

// --- Load balancers ---

// Its address is taken back here, or (an agent died before it could) at the start.
static int balancer_delete(struct engine *engine, const char *id, struct error *err)
{
	lb_balancer_remove(engine->lb, id);
	if (network_remove_elsewhere(engine, NULL, id, sg_balancer_remove, err) < 0)
		return -err->code;
	return give_back_others(engine, id, NULL, 0, err);
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
	membership.address = object_status(engine, MODEL_LOAD_BALANCER, id)->private_ipv4_address;
	membership.groups = object->load_balancer->security_groups;
	membership.group_count = object->load_balancer->security_group_count;
	subnet = network_subnet_find(engine, object->load_balancer->subnet_id);
	vpc = subnet ? network_vpc_find(engine, subnet->vpc_id) : NULL;
	if (!vpc || membership.address == 0)
		return error_set(err, ENOENT, "subnet %s is not there",
				 object->load_balancer->subnet_id);
	// Others are of one of this id that was deleted in the same turn.
	if (give_back_others(engine, id, subnet, membership.address, err) < 0 ||
	    network_remove_elsewhere(engine, vpc, id, sg_balancer_remove, err) < 0 ||
	    ensure_address(engine, id, subnet, membership.address, err) < 0)
		return -err->code;
	balancer_of(object, vpc->id, membership.address, &balancer);
	if (sg_balancer_set(vpc->sg, network_batch(vpc), &membership, err) < 0)
		return -err->code;
	return lb_balancer_ensure(engine->lb, &balancer, err);
}

// Chooses the address of a new balancer, in the turn that stores it; one that is stored keeps its
// own.
static int balancer_choose(struct engine *engine, const struct model_object *object, bool dry_run,
			   struct arena *arena, const char **ret_status, struct error *err)
{
	struct network_subnet *subnet =
		network_subnet_find(engine, object->load_balancer->subnet_id);
	scoped(buffer_release) struct buffer text = {0};
	struct object_status status = {0};
	struct store_object stored;
	int result = store_object_get(engine->store, model_kind_name(MODEL_LOAD_BALANCER),
				      object->id, arena, &stored, err);

	if (result != -ENOENT)
		return result;
	if (!subnet)
		return error_set(err, EAGAIN, "subnet %s is not ready yet, try again",
				 object->load_balancer->subnet_id);
	error_clear(err);
	if (engine_records_check(engine, err) < 0) // the address may be in use
		return -err->code;
	if (network_lease_address(engine, subnet, true, &status.private_ipv4_address, err) < 0)
		return -err->code;
	object_status_render(&status, &text);
	*ret_status = arena_strdup(arena, buffer_text(&text));
	if (dry_run)
		ipam_return(subnet->ipam, status.private_ipv4_address);
	else
		hold_address(engine, object->id, subnet, status.private_ipv4_address);
	return 0;
}

// The addresses of a balancer that is deleted rest from the commit of its deletion on: the agent
// may die before the deletion takes effect.
static void record_leases_of(struct engine *engine, const char *id)
{
	for (const struct network_balancer *b = engine->balancers; b; b = b->next)
		if (strcmp(b->id, id) == 0)
			network_record_lease(engine, b->subnet_id, b->address);
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
	if (store_check_files(engine->store, err) < 0)
		return -err->code;
	// A change of what is there is taken: a port may have to be closed in a hurry.
	if (object && !engine_object(engine, kind, id) && room_admits(engine, err) < 0)
		return -err->code;
	if (kind == MODEL_LOAD_BALANCER && object)
		return balancer_choose(engine, object, dry_run, arena, ret_status, err);
	if (object)
		return 0;
	// Which tasks use the object is not known while records are lost.
	if (engine_records_check(engine, err) < 0)
		return -err->code;
	if (kind == MODEL_LOAD_BALANCER && !dry_run)
		record_leases_of(engine, id);
	return 0;
}
