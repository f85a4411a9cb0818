// SPDX-License-Identifier: Apache-2.0
// From what changed in the store to its effect in the kernel, and back: what became of it.
//
// An object that changed is applied in the turn of its commit; what it adds to the batch of its VPC
// is settled when the batch was sent. What fails is said in the object's status, once, and tried
// again from time to time until it succeeds: an interface may be there later, a kernel have memory
// again. The status is a change like others: it has a revision and an event.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

static int file_system_apply(struct engine *engine, const char *id, struct error *err)
{
	(void)engine;
	(void)id;
	(void)err;
	return 0; // nothing on the host: guests mount it themselves
}

// In the order of their dependencies.
static const struct effect {
	enum model_kind kind;
	int (*apply)(struct engine *engine, const char *id, struct error *err);
	const char *owner; // of its operations in a batch: "<owner> <id>"; NULL: it adds none
} effects[] = {
	{MODEL_VPC, vpc_apply, NULL},
	{MODEL_SUBNET, subnet_apply, NULL},
	{MODEL_SECURITY_GROUP, group_apply, "group"},
	{MODEL_TARGET_GROUP, target_group_apply, NULL},
	{MODEL_LOAD_BALANCER, balancer_apply, "balancer"},
	{MODEL_FILE_SYSTEM, file_system_apply, NULL},
};

static const struct effect *effect_of(enum model_kind kind)
{
	const struct effect *effect = effects;

	while (effect->kind != kind)
		effect++;
	return effect;
}

// --- Lists of objects ---

static struct changed_object *changed_new(enum model_kind kind, const char *id)
{
	struct changed_object *changed = calloc(1, sizeof(*changed));

	if (!changed)
		abort();
	changed->kind = kind;
	snprintf(changed->id, sizeof(changed->id), "%s", id);
	return changed;
}

// In the order of the requests, each object once: effects look at what is now.
static void changed_add(struct changed_object **list, struct changed_object *changed)
{
	for (; *list; list = &(*list)->next) {
		if ((*list)->kind == changed->kind && strcmp((*list)->id, changed->id) == 0) {
			free(changed);
			return;
		}
	}
	changed->next = NULL;
	*list = changed;
}

static struct changed_object *changed_take(struct changed_object **list)
{
	struct changed_object *changed = *list;

	if (changed)
		*list = changed->next;
	return changed;
}

void engine_object_changed(struct engine *engine, enum model_kind kind, const char *id)
{
	changed_add(&engine->changed, changed_new(kind, id));
}

void effects_retry(struct engine *engine)
{
	struct changed_object *failed;

	while ((failed = changed_take(&engine->failed)))
		changed_add(&engine->changed, failed);
}

void effects_free(struct engine *engine)
{
	struct changed_object **lists[] = {&engine->changed, &engine->applied, &engine->failed,
					   &engine->said};
	struct changed_object *changed;

	for (size_t i = 0; i < ARRAY_LENGTH(lists); i++)
		while ((changed = changed_take(lists[i])))
			free(changed);
}

void effects_said(struct engine *engine, enum model_kind kind, const char *id)
{
	changed_add(&engine->said, changed_new(kind, id));
}

// What was rolled back with its turn is read from the store again; with the next try of the effect
// its outcome is said again.
void effects_said_end(struct engine *engine, bool committed)
{
	struct changed_object *said;

	while ((said = changed_take(&engine->said))) {
		struct error err = {0};

		if (!committed && object_refresh(engine, said->kind, said->id, &err) < 0)
			log_error(NULL, "%s %s: %s", model_kind_name(said->kind), said->id,
				  err.message);
		if (committed)
			free(said);
		else
			changed_add(&engine->failed, said);
	}
}

// --- Applied ---

// The end of an effect: `failure` NULL when it stands.
static void settle(struct engine *engine, struct changed_object *changed,
		   const struct error *failure)
{
	const char *kind = model_kind_name(changed->kind);
	bool said = object_set_error(engine, changed->kind, changed->id,
				     failure ? failure->message : "");

	if (!failure && said) {
		free(changed);
		return;
	}
	metrics_add(engine->metrics, METRIC_RECONCILE_ERRORS, 1, (const char *[]){kind});
	changed_add(&engine->failed, changed);
}

static void apply(struct engine *engine, struct changed_object *changed)
{
	struct error err = {0};

	if (effect_of(changed->kind)->apply(engine, changed->id, &err) < 0) {
		settle(engine, changed, &err);
		return;
	}
	changed->next = engine->applied;
	engine->applied = changed;
}

void effects_apply(struct engine *engine)
{
	struct changed_object *changed;

	while ((changed = changed_take(&engine->changed))) {
		struct error err = {0};

		if (object_refresh(engine, changed->kind, changed->id, &err) < 0)
			settle(engine, changed, &err);
		else
			apply(engine, changed);
	}
}

// --- Sent ---

// Why this round's batch of the VPC is not in effect for one of its owners, or NULL.
static const struct error *refusal(const struct network_vpc *vpc, const char *what, const char *id)
{
	char owner[2 * NETIF_ID_SIZE];

	snprintf(owner, sizeof(owner), "%s %s", what, id);
	if (vpc->refused.code && nft_batch_has_owner(vpc->batch, owner))
		return &vpc->refused;
	return nft_batch_failure(vpc->batch, owner);
}

static void settle_tasks(struct network_vpc *vpc)
{
	while (vpc->sent) {
		struct task *task = vpc->sent;
		const struct error *refused = refusal(vpc, "eni", task->status.network.eni_id);

		vpc->sent = task->next_sent;
		task->policy_error = refused ? *refused : (struct error){0};
		task->policy = POLICY_DONE;
		task->walk.own_us += vpc->sending_us; // each of them waited for all of it
		task_ready(task);
	}
}

// Of a group or a balancer; NULL: of none.
static const char *vpc_of(struct engine *engine, const struct model_object *object)
{
	const struct network_subnet *subnet;

	switch (object->kind) {
	case MODEL_SECURITY_GROUP:
		return object->security_group->vpc_id;
	case MODEL_TARGET_GROUP:
		return object->target_group->vpc_id;
	case MODEL_LOAD_BALANCER:
		subnet = network_subnet_find(engine, object->load_balancer->subnet_id);
		return subnet ? subnet->vpc_id : NULL;
	default:
		return NULL;
	}
}

static bool is_of_vpc(struct engine *engine, const struct model_object *object,
		      const struct network_vpc *vpc)
{
	const char *id = vpc_of(engine, object);

	return id && strcmp(id, vpc->id) == 0;
}

static const struct error *balancing_failure(struct engine *engine,
					     const struct changed_object *changed)
{
	const struct model_object *object = engine_object(engine, changed->kind, changed->id);
	const char *vpc_id = NULL;

	if (object && (changed->kind == MODEL_TARGET_GROUP || changed->kind == MODEL_LOAD_BALANCER))
		vpc_id = vpc_of(engine, object);
	return vpc_id ? lb_vpc_failure(engine->lb, vpc_id) : NULL;
}

// Of any VPC: it may have left another one than it is in now.
static const struct error *refusal_of(struct engine *engine, const struct changed_object *changed)
{
	const struct effect *effect = effect_of(changed->kind);
	const struct error *refused = NULL;

	for (struct network_vpc *vpc = engine->vpcs; vpc && effect->owner && !refused;
	     vpc = vpc->next)
		if (vpc->batch)
			refused = refusal(vpc, effect->owner, changed->id);
	return refused ? refused : balancing_failure(engine, changed);
}

static void send_batch(struct network_vpc *vpc)
{
	int64_t began_us = clock_monotonic_us();
	int socket_fd;

	error_clear(&vpc->refused);
	if (netif_netfilter_socket(vpc->engine->netif, vpc->id, &socket_fd, &vpc->refused) < 0 ||
	    sg_vpc_commit(vpc->sg, vpc->batch, socket_fd, &vpc->refused) < 0)
		log_error(NULL, "policy of vpc %s: %s", vpc->id, vpc->refused.message);
	else if (nft_batch_failure_count(vpc->batch) > 0)
		log_warning(NULL, "vpc %s: %zu owners' rules were refused", vpc->id,
			    nft_batch_failure_count(vpc->batch));
	vpc->sending_us = clock_monotonic_us() - began_us;
	rules_sent(vpc);
}

void effects_commit(struct engine *engine)
{
	struct changed_object *applied;

	for (struct network_vpc *vpc = engine->vpcs; vpc; vpc = vpc->next)
		if (vpc->batch)
			send_batch(vpc);
	lb_flush(engine->lb); // tries again by itself what fails, and tells of it
	while ((applied = changed_take(&engine->applied)))
		settle(engine, applied, refusal_of(engine, applied));
	for (struct network_vpc *vpc = engine->vpcs; vpc; vpc = vpc->next) {
		settle_tasks(vpc);
		nft_batch_free(vpc->batch);
		vpc->batch = NULL;
	}
}

// --- What was deleted while no agent looked ---

// Whether a task has the ENI; yes as well while a record cannot be read, for its ENI is not known.
static bool is_owned_eni(const struct engine *engine, const char *eni_id)
{
	const struct task *task = engine->tasks;

	while (task && (task->status.last_status == TASK_STOPPED ||
			strcmp(task->status.network.eni_id, eni_id) != 0))
		task = task->next;
	return task || engine->unreadable[0];
}

static void sweep_member(struct network_vpc *vpc, const char *eni_id)
{
	struct error err = {0};

	if (!is_owned_eni(vpc->engine, eni_id) &&
	    sg_member_remove(vpc->sg, network_batch(vpc), eni_id, &err) < 0)
		log_error(NULL, "vpc %s: member %s: %s", vpc->id, eni_id, err.message);
}

static void sweep_policy(struct network_vpc *vpc)
{
	struct engine *engine = vpc->engine;
	scoped_free struct sg_object *objects = NULL;
	size_t count;

	if (engine->unrecorded)
		return;
	sg_vpc_inventory(vpc->sg, &objects, &count);
	for (size_t i = 0; i < count; i++) {
		enum model_kind kind = objects[i].kind == SG_OBJECT_GROUP ? MODEL_SECURITY_GROUP
									  : MODEL_LOAD_BALANCER;
		const struct model_object *object = engine_object(engine, kind, objects[i].owner);

		if (objects[i].kind == SG_OBJECT_MEMBER)
			sweep_member(vpc, objects[i].owner);
		if (objects[i].kind != SG_OBJECT_GROUP && objects[i].kind != SG_OBJECT_BALANCER)
			continue;
		if (!object || !is_of_vpc(engine, object, vpc))
			engine_object_changed(engine, kind, objects[i].owner);
	}
}

static void kind_again(struct network_vpc *vpc, enum model_kind kind)
{
	struct engine *engine = vpc->engine;

	for (struct object *o = engine->objects[kind]; o; o = o->next)
		if (is_of_vpc(engine, &o->model, vpc))
			engine_object_changed(engine, kind, o->model.id);
}

void effects_of_vpc_again(struct network_vpc *vpc)
{
	for (size_t i = 0; i < ARRAY_LENGTH(effects); i++)
		kind_again(vpc, effects[i].kind);
	sweep_policy(vpc);
}

void effects_of_balancing_again(struct network_vpc *vpc)
{
	kind_again(vpc, MODEL_TARGET_GROUP);
	kind_again(vpc, MODEL_LOAD_BALANCER);
}

static bool is_subnet_of(const struct engine *engine, const char *vpc_id, const char *block)
{
	char text[IPV4_CIDR_TEXT_SIZE];

	for (const struct network_subnet *subnet = engine->subnets; subnet; subnet = subnet->next)
		if (strcmp(subnet->vpc_id, vpc_id) == 0 &&
		    strcmp(ipv4_cidr_format(&subnet->block, text), block) == 0)
			return true;
	return false;
}

// An unfinished ENI has no owner yet.
static bool is_lost_eni(const struct engine *engine, const struct netif_object *found)
{
	return found->kind == NETIF_OBJECT_ENI && !found->dying && found->owner[0] &&
	       !is_owned_eni(engine, found->owner);
}

static void sweep_one(struct engine *engine, const struct netif_object *found)
{
	struct network_vpc *vpc = network_vpc_find(engine, found->vpc);
	struct error err = {0};

	if (found->kind == NETIF_OBJECT_VPC && !engine_object(engine, MODEL_VPC, found->owner))
		engine_object_changed(engine, MODEL_VPC, found->owner);
	else if (vpc && is_lost_eni(engine, found) &&
		 netif_eni_retire(engine->netif, vpc->id, found->owner, &err) == 0)
		network_reap(vpc);
	else if (!network_vpc_find(engine, found->owner))
		; // it goes with its VPC
	else if ((found->kind == NETIF_OBJECT_SUBNET &&
		  !is_subnet_of(engine, found->owner, found->name)) ||
		 (found->kind == NETIF_OBJECT_ADDRESS &&
		  !is_balancer_of(engine, found->owner, found->name)))
		netif_object_delete(engine->netif, found, &err);
	if (err.code)
		log_error(NULL, "%s %s in vpc %s: %s", netif_object_kind_name(found->kind),
			  found->name, found->owner, err.message);
}

// A previous agent may have died between the commit of a deletion and its effect: it is applied
// now.
int effects_sweep(struct engine *engine, struct error *err)
{
	scoped_free struct netif_object *found = NULL;
	size_t count;

	if (engine->unrecorded)
		return 0;
	for (struct network_vpc *vpc = engine->vpcs; vpc; vpc = vpc->next)
		sweep_policy(vpc);
	if (netif_inventory(engine->netif, &found, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++)
		sweep_one(engine, &found[i]);
	return 0;
}

int effects_start(struct engine *engine, struct error *err)
{
	struct changed_object *loaded;
	int socket_fd;

	if (netif_netfilter_socket(engine->netif, NULL, &socket_fd, err) < 0 ||
	    rules_watch_host(engine, err) < 0 || hold_host_open(engine, err) < 0 ||
	    sg_host_ensure(engine->config->install, socket_fd, err) < 0)
		return -err->code;
	for (size_t i = 0; i < ARRAY_LENGTH(effects); i++)
		for (struct object *o = engine->objects[effects[i].kind]; o; o = o->next)
			engine_object_changed(engine, effects[i].kind, o->model.id);
	while ((loaded = changed_take(&engine->changed)))
		apply(engine, loaded);
	return effects_sweep(engine, err);
}
