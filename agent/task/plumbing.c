// SPDX-License-Identifier: Apache-2.0
// The steps of a task's network: eni, policy, link. As in every step, apply looks at what is there
// and does what is missing; it may be called many times.
#include <errno.h>
#include <string.h>

#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

int eni_of(const struct task *task, struct netif_eni *ret_eni, struct error *err)
{
	const struct task_network *network = &task->status.network;
	const struct model_object *vpc = engine_object(task->engine, MODEL_VPC, network->vpc_id);

	if (!vpc)
		return error_set(err, ENOENT, "vpc %s is not there", network->vpc_id);
	*ret_eni = (struct netif_eni){
		.vpc = network->vpc_id,
		.eni_id = network->eni_id,
		.kind = task->vmm->link == VMM_LINK_TAP ? NETIF_ENI_TAP : NETIF_ENI_VETH,
		.address = network->private_ipv4_address,
		.gateway = network->gateway,
		.mtu = vpc->vpc->mtu,
		.owner_uid = task_cell(task).uid,
	};
	return mac_parse(network->mac_address, &ret_eni->mac, err);
}

int eni_apply(void *object, struct error *err)
{
	struct task *task = object;
	struct netif_eni eni;

	if (task->launched || (task->link_fd >= 0 && task->listener_fd >= 0))
		return 0;
	close_fd(&task->link_fd);
	close_fd(&task->listener_fd);
	if (eni_of(task, &eni, err) < 0 ||
	    netif_eni_create(task->engine->netif, &eni, &task->link_fd, err) < 0 ||
	    netif_eni_listen(task->engine->netif, eni.vpc, eni.eni_id, &task->listener_fd, err) < 0)
		return error_wrap(err, "ResourceInitializationError: eni %s",
				  task->status.network.eni_id);
	return 0;
}

int eni_undo(void *object, struct error *err)
{
	struct task *task = object;
	const struct task_network *network = &task->status.network;
	struct network_vpc *vpc = network_vpc_find(task->engine, network->vpc_id);

	close_fd(&task->link_fd);
	close_fd(&task->listener_fd);
	if (netif_eni_retire(task->engine->netif, network->vpc_id, network->eni_id, err) < 0)
		return -err->code;
	if (vpc)
		network_reap(vpc);
	return 0;
}

static void member_of(const struct task *task, const struct netif_eni *eni,
		      struct sg_member *ret_member)
{
	const struct task_network *network = &task->status.network;

	*ret_member = (struct sg_member){
		.eni_id = network->eni_id,
		.interface = network->interface_name,
		.mac = eni->mac,
		.address = network->private_ipv4_address,
		.router = network->gateway,
		.groups = network->security_groups,
		.group_count = network->security_group_count,
	};
}

// The batch of this round was sent: how did our part of it go? (A batch is always settled within
// the turn that made it, so a walk never turns in between.)
static int take_policy_result(struct task *task, struct error *err)
{
	task->policy = POLICY_IDLE;
	if (!task->policy_error.code)
		return 0;
	*err = task->policy_error;
	return -err->code;
}

static int policy_sent(struct task *task, struct network_vpc *vpc)
{
	task->policy = POLICY_SENT;
	task->next_sent = vpc->sent;
	vpc->sent = task;
	return WALK_WAIT;
}

// 1: it was missing, and is in the batch of this round.
static int set_member(struct task *task, struct network_vpc *vpc, struct error *err)
{
	struct netif_eni eni;
	struct sg_member member;

	if (eni_of(task, &eni, err) < 0)
		return -err->code;
	if (!vpc)
		return error_set(err, ENOENT, "vpc %s is not open", eni.vpc);
	member_of(task, &eni, &member);
	if (sg_member_stands(vpc->sg, &member))
		return 0;
	if (sg_member_set(vpc->sg, network_batch(vpc), &member, err) < 0)
		return -err->code;
	return 1;
}

static int set_policy(struct task *task, struct error *err)
{
	struct network_vpc *vpc = network_vpc_find(task->engine, task->status.network.vpc_id);
	int result;

	if (task->policy == POLICY_SENT)
		return WALK_WAIT;
	if (task->policy == POLICY_DONE)
		return take_policy_result(task, err);
	result = set_member(task, vpc, err);
	return result == 1 ? policy_sent(task, vpc) : result;
}

void policy_keep(struct task *task)
{
	struct network_vpc *vpc = network_vpc_find(task->engine, task->status.network.vpc_id);
	struct error ignored = {
		0}; // it is tried again when the task is ready, and when it is adopted

	if (task->status.progress[STEP_POLICY].applied)
		set_member(task, vpc, &ignored);
}

// What runs is not ended for a fault of its VPC, which others mend: without rules nothing of it
// passes.
int policy_apply(void *object, struct error *err)
{
	struct task *task = object;
	const struct log_context context = {task->id, task->status.network.eni_id};
	int result = set_policy(task, err);

	if (result >= 0)
		return result;
	if (!task->launched)
		return error_wrap(err, "ResourceInitializationError: policy");
	log_warning(&context, "step policy, tried again: %s", err->message);
	return WALK_WAIT;
}

bool task_is_of_vpc(const struct task *task, const struct network_vpc *vpc)
{
	return task->status.last_status != TASK_STOPPED &&
	       strcmp(task->status.network.vpc_id, vpc->id) == 0;
}

void policy_again(struct network_vpc *vpc)
{
	for (struct task *task = vpc->engine->tasks; task; task = task->next) {
		if (!task_is_of_vpc(task, vpc))
			continue;
		walk_look_again(&task->walk, STEP_POLICY);
		task_ready(task);
	}
}

void policy_retry(struct network_vpc *vpc)
{
	for (struct task *task = vpc->engine->tasks; task; task = task->next)
		if (task_is_of_vpc(task, vpc) && task->walk.direction == WALK_UP &&
		    task->walk.standing == STEP_POLICY)
			task_ready(task);
}

int policy_undo(void *object, struct error *err)
{
	struct task *task = object;
	const char *vpc_id = task->status.network.vpc_id;
	struct network_vpc *vpc = network_vpc_find(task->engine, vpc_id);

	if (!vpc && engine_object(task->engine, MODEL_VPC, vpc_id)) // its tables may still hold it
		return error_set(err, EAGAIN, "vpc %s is not open", vpc_id);
	if (!vpc)
		return 0; // gone with its namespace
	if (task->policy == POLICY_SENT)
		return WALK_WAIT;
	if (task->policy == POLICY_DONE)
		return take_policy_result(task, err);
	if (sg_member_remove(vpc->sg, network_batch(vpc), task->status.network.eni_id, err) < 0)
		return -err->code;
	return policy_sent(task, vpc);
}

// The interface of a task that was launched is gone: -ENOENT. A namespace that cannot be found is
// no such answer.
static int check_interface(const struct task *task, const struct netif_eni *eni, unsigned faults,
			   struct error *err)
{
	scoped_fd int namespace_fd = -1;

	if (!(faults & (NETIF_ENI_MISSING | NETIF_ENI_FOREIGN)))
		return 0;
	if (netif_vpc_open(task->engine->netif, eni->vpc, &namespace_fd, err) < 0)
		return error_set(err, EAGAIN, "vpc %s is not there", eni->vpc);
	return error_set(err, ENOENT, "The network interface %s of the task was deleted",
			 task->status.network.interface_name);
}

// Neither VMM nor container can be given another one while it runs. No target of the task can be
// reached any more: it does not drain.
static void stop_without_interface(struct task *task, const struct error *err)
{
	task->status.drain_seconds = 0;
	task_stop(task, STOP_CODE_INFRASTRUCTURE_HEALTH, err->message);
}

int eni_repair(struct task *task, unsigned *ret_faults, struct error *err)
{
	struct netif_eni eni;
	unsigned faults;
	int result;

	if (eni_of(task, &eni, err) < 0 ||
	    netif_eni_check(task->engine->netif, &eni, &faults, err) < 0)
		return -err->code;
	*ret_faults = faults;
	result = check_interface(task, &eni, faults, err);
	if (result == -ENOENT) {
		if (!task->adopting) // else the step `link` looks again once the shim speaks
			stop_without_interface(task, err);
		error_clear(err);
		return 0;
	}
	if (result < 0 || !(faults & NETIF_ENI_UNLINKED))
		return result;
	return netif_eni_link(task->engine->netif, &eni, err);
}

int link_apply(void *object, struct error *err)
{
	struct task *task = object;
	struct netif_eni eni;
	unsigned faults = 0;

	// After a restart of the agent, say, during which the interface was deleted.
	if (task->launched && eni_of(task, &eni, err) == 0 &&
	    netif_eni_check(task->engine->netif, &eni, &faults, err) == 0 &&
	    check_interface(task, &eni, faults, err) == -ENOENT) {
		stop_without_interface(task, err);
		return -err->code;
	}
	error_clear(err);
	task->may_be_linked = true;
	if (eni_of(task, &eni, err) < 0 || netif_eni_link(task->engine->netif, &eni, err) < 0)
		return error_wrap(err, "ResourceInitializationError: eni %s",
				  task->status.network.eni_id);
	return 0;
}

int link_undo(void *object, struct error *err)
{
	const struct task *task = object;
	int result = netif_eni_unlink(task->engine->netif, task->status.network.vpc_id,
				      task->status.network.eni_id, err);

	return result == -ENOENT ? 0 : result;
}
