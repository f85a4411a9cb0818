// SPDX-License-Identifier: Apache-2.0
// The effects of VPCs, subnets and security groups. Level-triggered: each function looks at what
// the object is now (engine_object) and makes the kernel so; an object that is gone is taken back.
// Called, and called again after a failure, by effects.c.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

struct network_vpc *network_vpc_find(struct engine *engine, const char *id)
{
	struct network_vpc *vpc = engine->vpcs;

	while (vpc && strcmp(vpc->id, id) != 0)
		vpc = vpc->next;
	return vpc;
}

struct network_subnet *network_subnet_find(struct engine *engine, const char *id)
{
	struct network_subnet *subnet = engine->subnets;

	while (subnet && strcmp(subnet->id, id) != 0)
		subnet = subnet->next;
	return subnet;
}

// --- VPCs ---

static void attachment_of(const char *vpc_id, const struct vpc_attachment *spec,
			  struct netif_route *routes, struct netif_attachment *ret_attachment)
{
	for (uint32_t i = 0; i < spec->route_count; i++)
		routes[i] =
			(struct netif_route){spec->routes[i].destination, spec->routes[i].gateway};
	*ret_attachment = (struct netif_attachment){
		.vpc = vpc_id,
		.interface = spec->interface,
		.address = spec->address,
		.prefix = spec->prefix,
		.routes = routes,
		.route_count = spec->route_count,
	};
}

static bool is_attached(const struct vpc_spec *spec, const char *interface)
{
	for (uint32_t i = 0; spec && i < spec->attachment_count; i++)
		if (strcmp(spec->attachments[i].interface, interface) == 0)
			return true;
	return false;
}

// What carries our mark for this VPC and is not in its spec (any more) goes back to the host.
static int attachments_detach(struct engine *engine, const char *vpc_id,
			      const struct vpc_spec *spec, struct error *err)
{
	scoped_free struct netif_object *found = NULL;
	size_t count;

	if (netif_vpc_links(engine->netif, vpc_id, &found, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		if (found[i].kind != NETIF_OBJECT_ATTACHMENT ||
		    strcmp(found[i].owner, vpc_id) != 0 || is_attached(spec, found[i].name))
			continue;
		if (netif_attachment_remove(engine->netif, vpc_id, found[i].name, err) < 0)
			return error_wrap(err, "attachment %s", found[i].name);
	}
	return 0;
}

int vpc_attachment_check(struct engine *engine, const char *vpc_id,
			 const struct vpc_attachment *spec, unsigned *ret_faults, struct error *err)
{
	struct netif_route routes[ATTACHMENT_ROUTES_MAX];
	struct netif_attachment attachment;

	attachment_of(vpc_id, spec, routes, &attachment);
	return netif_attachment_check(engine->netif, &attachment, ret_faults, err);
}

static int attachments_apply(struct engine *engine, const char *vpc_id, const struct vpc_spec *spec,
			     struct error *err)
{
	struct netif_route routes[ATTACHMENT_ROUTES_MAX];
	int result = 0;

	if (attachments_detach(engine, vpc_id, spec, err) < 0)
		return -err->code;
	for (uint32_t i = 0; i < spec->attachment_count; i++) {
		struct netif_attachment attachment;
		struct error one = {0};

		attachment_of(vpc_id, &spec->attachments[i], routes, &attachment);
		if (netif_attachment_ensure(engine->netif, &attachment, &one) >= 0 || result < 0)
			continue; // one that is missing keeps nobody from the others
		*err = one;
		result = error_wrap(err, "attachment %s", attachment.interface);
	}
	return result;
}

// In a janitor: "<install> <vpc>".
static int reap_work(const char *argument, struct error *err)
{
	struct netif *netif;
	char install[NETIF_ID_SIZE], vpc[NETIF_ID_SIZE];
	int result;

	if (sscanf(argument, "%63s %63s", install, vpc) != 2)
		return error_set(err, EINVAL, "reap: bad argument");
	if (netif_open(install, &netif, err) < 0)
		return -err->code;
	result = netif_reap(netif, vpc, err);
	netif_close(netif);
	return result;
}

static struct network_vpc *vpc_new(struct engine *engine, const char *id)
{
	struct network_vpc *vpc = calloc(1, sizeof(*vpc));

	if (!vpc)
		abort();
	vpc->engine = engine;
	vpc->rules.fd = vpc->hold.fd = -1;
	snprintf(vpc->id, sizeof(vpc->id), "%s", id);
	vpc->reaper = (struct reaper){
		.janitors = &engine->janitors, .name = "retired ENIs", .work = reap_work};
	snprintf(vpc->reaper.argument, sizeof(vpc->reaper.argument), "%s %s",
		 engine->config->install, id);
	return vpc;
}

static void vpc_release(struct network_vpc *vpc)
{
	reaper_close(&vpc->reaper);
	nft_batch_free(vpc->batch);
	sg_vpc_close(vpc->sg);
	rules_watch_close(&vpc->rules);
	hold_vpc_close(vpc);
	free(vpc);
}

// Watched before it is read: nothing that others do is missed.
static int vpc_open(struct engine *engine, const char *id, struct error *err)
{
	struct network_vpc *vpc;
	int socket_fd;

	if (network_vpc_find(engine, id))
		return 0;
	if (vpc_namespace_find(engine, id, err) < 0 ||
	    netif_vpc_create(engine->netif, id, err) < 0 ||
	    netif_netfilter_socket(engine->netif, id, &socket_fd, err) < 0)
		return -err->code;
	vpc = vpc_new(engine, id);
	if (netif_pins_watch(engine->cgroup_watch_fd, err) < 0 || rules_watch_vpc(vpc, err) < 0 ||
	    hold_vpc_open(vpc, err) < 0 ||
	    sg_vpc_open(engine->config->install, id, socket_fd, &vpc->sg, err) < 0 ||
	    lb_vpc_ensure(engine->lb, id, err) < 0) {
		vpc_release(vpc);
		return -err->code;
	}
	vpc->next = engine->vpcs;
	engine->vpcs = vpc;
	policy_again(vpc);
	hold_look(vpc);
	reaper_kick(&vpc->reaper); // what was retired while it was not open
	return 0;
}

static void vpc_free(struct engine *engine, struct network_vpc *vpc)
{
	struct network_vpc **place = &engine->vpcs;

	while (*place != vpc)
		place = &(*place)->next;
	*place = vpc->next;
	if (engine->vpc_to_measure == vpc)
		engine->vpc_to_measure = vpc->next;
	metrics_forget(engine->metrics, "vpc", vpc->id);
	vpc_release(vpc);
}

// Its record was lost, and a task in it is being ended.
static int check_no_task(const struct engine *engine, const char *vpc_id, struct error *err)
{
	for (const struct task *task = engine->tasks; task; task = task->next)
		if (task->status.last_status != TASK_STOPPED &&
		    strcmp(task->status.network.vpc_id, vpc_id) == 0)
			return error_set(err, EBUSY, "it goes when task %s is STOPPED", task->id);
	return 0;
}

static int vpc_delete(struct engine *engine, const char *id, struct error *err)
{
	struct network_vpc *vpc = network_vpc_find(engine, id);

	if (check_no_task(engine, id, err) < 0)
		return -err->code;
	lb_vpc_remove(engine->lb, id);
	if (vpc)
		vpc_free(engine, vpc);
	if (attachments_detach(engine, id, NULL, err) < 0)
		return -err->code;
	return netif_vpc_delete(engine->netif, id, err);
}

static int tracking_apply(struct engine *engine, const char *id,
			  const struct connection_tracking *spec, struct error *err)
{
	const struct netif_tracking tracking = {
		.tcp_established_seconds = spec->tcp_established_timeout,
		.udp_seconds = spec->udp_timeout,
		.udp_stream_seconds = spec->udp_stream_timeout,
	};
	int socket_fd;

	if (netif_vpc_tune(engine->netif, id, &tracking, err) < 0 ||
	    netif_netfilter_socket(engine->netif, id, &socket_fd, err) < 0)
		return -err->code;
	return sg_vpc_limit_connections(network_vpc_find(engine, id)->sg, socket_fd,
					spec->connections_per_eni, err);
}

int vpc_apply(struct engine *engine, const char *id, struct error *err)
{
	const struct model_object *object;

	if (!engine_object(engine, MODEL_VPC, id))
		return vpc_delete(engine, id, err);
	if (vpc_open(engine, id, err) < 0)
		return -err->code;
	// Looked up only now: opening it may have changed its status, and so replaced the object.
	object = engine_object(engine, MODEL_VPC, id);
	if (netif_vpc_configure(engine->netif, id, &object->vpc->cidr_block, err) < 0 ||
	    tracking_apply(engine, id, &object->vpc->connection_tracking, err) < 0)
		return -err->code;
	return attachments_apply(engine, id, object->vpc, err);
}

// --- Subnets ---

static int subnet_delete(struct engine *engine, const char *id, struct error *err)
{
	struct network_subnet **place = &engine->subnets;
	struct network_subnet *subnet;
	int result;

	while (*place && strcmp((*place)->id, id) != 0)
		place = &(*place)->next;
	subnet = *place;
	if (!subnet)
		return 0;
	result = netif_subnet_remove(engine->netif, subnet->vpc_id, &subnet->block, err);
	if (result < 0 && result != -ENOENT)
		return result;
	metrics_forget(engine->metrics, "subnet", id);
	*place = subnet->next;
	ipam_free(subnet->ipam);
	free(subnet);
	return 0;
}

static int subnet_new(struct engine *engine, const char *id, const struct subnet_spec *spec,
		      struct network_subnet **ret_subnet, struct error *err)
{
	struct network_subnet *subnet = calloc(1, sizeof(*subnet));

	if (!subnet)
		return error_set(err, ENOMEM, "out of memory");
	snprintf(subnet->id, sizeof(subnet->id), "%s", id);
	snprintf(subnet->vpc_id, sizeof(subnet->vpc_id), "%s", spec->vpc_id);
	subnet->block = spec->cidr_block;
	if (ipam_new(id, subnet->block, &subnet->ipam, err) < 0) {
		free(subnet);
		return -err->code;
	}
	subnet->next = engine->subnets;
	engine->subnets = subnet;
	*ret_subnet = subnet;
	return 0;
}

static bool is_subnet(const struct network_subnet *subnet, const struct subnet_spec *spec)
{
	return strcmp(subnet->vpc_id, spec->vpc_id) == 0 &&
	       memcmp(&subnet->block, &spec->cidr_block, sizeof(subnet->block)) == 0;
}

int subnet_apply(struct engine *engine, const char *id, struct error *err)
{
	const struct model_object *object = engine_object(engine, MODEL_SUBNET, id);
	struct network_subnet *subnet = network_subnet_find(engine, id);

	if (!object)
		return subnet_delete(engine, id, err);
	if (subnet && !is_subnet(subnet, object->subnet)) { // deleted and made anew in one turn
		if (subnet_delete(engine, id, err) < 0)
			return -err->code;
		subnet = NULL;
	}
	if (!subnet && subnet_new(engine, id, object->subnet, &subnet, err) < 0)
		return -err->code;
	return netif_subnet_ensure(engine->netif, subnet->vpc_id, &subnet->block, err);
}

static void record_lease(struct engine *engine, const char *subnet_id, uint32_t address,
			 int64_t until_ms)
{
	char text[IPV4_TEXT_SIZE];
	struct store_lease lease = {
		.subnet = subnet_id, .address = ipv4_format(address, text), .until_ms = until_ms};
	struct error ignored = {0}; // the commit of this turn fails with it, and says so

	store_lease_put(engine->store, &lease, &ignored);
	engine->recorded = true;
}

static int64_t cooled_down_ms(const struct engine *engine)
{
	return (int64_t)clock_boot().ms + engine->config->cooldown_seconds * 1000LL;
}

void network_record_lease(struct engine *engine, const char *subnet_id, uint32_t address)
{
	if (engine->config->cooldown_seconds > 0)
		record_lease(engine, subnet_id, address, cooled_down_ms(engine));
}

void network_release_address(struct engine *engine, const char *subnet_id, uint32_t address,
			     bool used)
{
	struct network_subnet *subnet = network_subnet_find(engine, subnet_id);
	int64_t until_ms = used ? cooled_down_ms(engine) : 0;

	if (subnet && ipam_release(subnet->ipam, address, until_ms) && used &&
	    engine->config->cooldown_seconds > 0)
		record_lease(engine, subnet_id, address, until_ms);
}

// --- Security groups ---

int network_remove_elsewhere(struct engine *engine, const struct network_vpc *home, const char *id,
			     policy_remove *remove, struct error *err)
{
	for (struct network_vpc *vpc = engine->vpcs; vpc; vpc = vpc->next) {
		int result;

		if (vpc == home || !sg_vpc_may_have(vpc->sg, id))
			continue;
		result = remove(vpc->sg, network_batch(vpc), id, err);
		if ((result == -ESTALE || result == -EUCLEAN) && home)
			error_clear(err); // swept once that VPC is restored
		else if (result < 0)
			return result;
	}
	return 0;
}

int group_apply(struct engine *engine, const char *id, struct error *err)
{
	const struct model_object *object = engine_object(engine, MODEL_SECURITY_GROUP, id);
	scoped(arena_release) struct arena arena = {0};
	const struct security_group_spec *spec;
	struct network_vpc *vpc;
	struct sg_group group;

	if (!object)
		return network_remove_elsewhere(engine, NULL, id, sg_group_remove, err);
	spec = object->security_group;
	vpc = network_vpc_find(engine, spec->vpc_id);
	if (!vpc)
		return error_set(err, ENOENT, "vpc %s is not there", spec->vpc_id);
	group = security_group_rules(id, spec, &arena);
	if (sg_group_set(vpc->sg, network_batch(vpc), &group, err) < 0)
		return -err->code;
	// Last: who still uses one of this id elsewhere keeps nobody from it here.
	return network_remove_elsewhere(engine, vpc, id, sg_group_remove, err);
}

// --- Batches, reapers, the end ---

struct nft_batch *network_batch(struct network_vpc *vpc)
{
	if (!vpc->batch)
		vpc->batch = nft_batch_new();
	return vpc->batch;
}

void network_reap(struct network_vpc *vpc)
{
	reaper_add(&vpc->reaper);
}

void network_reap_all(struct engine *engine)
{
	for (struct network_vpc *vpc = engine->vpcs; vpc; vpc = vpc->next)
		reaper_flush(&vpc->reaper);
}

// The reaper ends the tracked connections of released addresses, and a new owner of an address must
// not inherit them. Addresses whose time is up by this were released before the last finished reap
// began, so theirs have ended.
static int64_t flushed_ms(struct engine *engine, const struct network_subnet *subnet)
{
	const struct network_vpc *vpc = network_vpc_find(engine, subnet->vpc_id);

	if (!vpc || reaper_is_done(&vpc->reaper))
		return INT64_MAX;
	return (int64_t)vpc->reaper.reaped.ms + engine->config->cooldown_seconds * 1000LL;
}

int64_t network_lease_ms(struct engine *engine, const struct network_subnet *subnet)
{
	int64_t now_ms = (int64_t)clock_boot().ms, latest_ms = flushed_ms(engine, subnet);

	return latest_ms < now_ms ? latest_ms : now_ms;
}

int network_lease_address(struct engine *engine, const struct network_subnet *subnet, bool resting,
			  uint32_t *ret_address, struct error *err)
{
	struct error none = {0};
	int result = ipam_lease(subnet->ipam, network_lease_ms(engine, subnet), ret_address, &none);

	if (result == -ENOSPC && resting)
		return ipam_lease_resting(subnet->ipam, flushed_ms(engine, subnet), ret_address,
					  err);
	if (result < 0)
		*err = none;
	return result;
}

void network_keep_namespaces(struct engine *engine)
{
	for (struct network_vpc *vpc = engine->vpcs; vpc; vpc = vpc->next)
		vpc_namespace_keep(vpc);
}

void network_retry(struct engine *engine)
{
	network_keep_namespaces(engine);
	for (struct network_vpc *vpc = engine->vpcs; vpc; vpc = vpc->next) {
		rules_retry(vpc);
		policy_retry(vpc);
		reaper_retry(&vpc->reaper);
	}
}

void network_free(struct engine *engine)
{
	while (engine->vpcs)
		vpc_free(engine, engine->vpcs);
	while (engine->subnets) {
		struct network_subnet *subnet = engine->subnets;

		engine->subnets = subnet->next;
		ipam_free(subnet->ipam);
		free(subnet);
	}
}
