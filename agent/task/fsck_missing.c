// SPDX-License-Identifier: Apache-2.0
// What a record owns and the host lacks.
//
// While the records are read, each says what is expected of it: under which kind and name, or for
// nftables under which owner, a collector will list it. When all collectors are done, what was
// expected and not listed is missing. Routes and neighbours, which are too many to list, are looked
// at here.
//
// Of a task only those steps count that its record says are applied, and none once it is to stop:
// the agent commits that before it undoes the first of them. What is missing in one look may have
// been between two steps; fsck_run() looks twice.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "agent/model/status.h"
#include "agent/task/fsck_internal.h"
#include "sg/sg.h"

struct expected {
	struct expected *next;
	const char *kind, *name, *owner;
	bool by_owner; // is enough to be found; the collector lists it by a name of its own
};

struct expected_eni {
	struct expected_eni *next;
	const char *task_id;
	struct netif_eni eni;
};

struct expected_vpc {
	struct expected_vpc *next;
	const char *id;
	struct ipv4_cidr block;
};

struct expected_subnet {
	struct expected_subnet *next;
	const char *id, *vpc_id;
	struct ipv4_cidr block;
};

static void expect(struct check *check, const char *kind, const char *name, const char *owner)
{
	struct expected *expected = arena_new(check->arena, struct expected);

	*expected = (struct expected){check->expected, kind, name, owner, false};
	check->expected = expected;
}

static void expect_by_owner(struct check *check, const char *kind, const char *name,
			    const char *owner)
{
	expect(check, kind, name, owner);
	check->expected->by_owner = true;
}

// --- Of the records ---

static void expect_vpc(struct check *check, const struct model_object *object)
{
	const struct vpc_spec *spec = object->vpc;
	struct expected_vpc *vpc = arena_new(check->arena, struct expected_vpc);
	const char *id = arena_strdup(check->arena, object->id);

	*vpc = (struct expected_vpc){check->expected_vpcs, id, spec->cidr_block};
	check->expected_vpcs = vpc;
	expect(check, netif_object_kind_name(NETIF_OBJECT_VPC),
	       arena_printf(check->arena, "penstock-%s-%s", check->config->install, id), id);
	for (uint32_t i = 0; i < spec->attachment_count; i++)
		expect(check, netif_object_kind_name(NETIF_OBJECT_ATTACHMENT),
		       arena_printf(check->arena, "%s in %s", spec->attachments[i].interface, id),
		       id);
}

static void expect_subnet(struct check *check, const struct model_object *object)
{
	const struct subnet_spec *spec = object->subnet;
	struct expected_subnet *subnet = arena_new(check->arena, struct expected_subnet);
	char block[IPV4_CIDR_TEXT_SIZE];

	*subnet = (struct expected_subnet){
		check->expected_subnets,
		arena_printf(check->arena, "subnet %s", object->id),
		arena_strdup(check->arena, spec->vpc_id),
		spec->cidr_block,
	};
	check->expected_subnets = subnet;
	expect(check, netif_object_kind_name(NETIF_OBJECT_SUBNET),
	       arena_printf(check->arena, "%s in %s", ipv4_cidr_format(&spec->cidr_block, block),
			    spec->vpc_id),
	       subnet->id);
}

// `object` lives in the arena of the check.
void fsck_expect_object(struct check *check, const struct model_object *object)
{
	if (object->kind == MODEL_VPC)
		expect_vpc(check, object);
	else if (object->kind == MODEL_SUBNET)
		expect_subnet(check, object);
	else if (object->kind == MODEL_SECURITY_GROUP)
		expect_by_owner(check, sg_object_kind_name(SG_OBJECT_GROUP), object->id,
				arena_printf(check->arena, "%s in vpc %s", object->id,
					     object->security_group->vpc_id));
}

void fsck_expect_balancer(struct check *check, const char *id, const char *vpc_id, uint32_t address)
{
	char text[IPV4_TEXT_SIZE];

	expect(check, netif_object_kind_name(NETIF_OBJECT_ADDRESS),
	       arena_printf(check->arena, "%s in %s", ipv4_format(address, text), vpc_id),
	       arena_printf(check->arena, "load-balancer %s", id));
	expect_by_owner(check, sg_object_kind_name(SG_OBJECT_BALANCER), id,
			arena_printf(check->arena, "%s in vpc %s", id, vpc_id));
}

static void expect_eni(struct check *check, const char *task_id, const struct task_network *network)
{
	struct expected_eni *expected = arena_new(check->arena, struct expected_eni);
	struct error ignored = {0};

	*expected = (struct expected_eni){
		.task_id = arena_strdup(check->arena, task_id),
		.eni = {.vpc = network->vpc_id,
			.eni_id = network->eni_id,
			.address = network->private_ipv4_address,
			.gateway = network->gateway},
	};
	if (mac_parse(network->mac_address, &expected->eni.mac, &ignored) < 0)
		return;
	expected->next = check->expected_enis;
	check->expected_enis = expected;
}

// A task of an earlier boot lost everything with it, and its record does not say so yet.
static bool is_of_this_boot(const struct check *check, const struct task_status *status)
{
	return status->boot_id && strcmp(status->boot_id, check->boot_id) == 0;
}

void fsck_expect_task(struct check *check, const char *task_id, const struct task_status *status)
{
	const char *id = arena_strdup(check->arena, task_id);
	const struct task_progress *progress = status->progress;
	const struct task_network *network = &status->network;
	const char *owner = arena_printf(check->arena, "task %s", id);

	if (status->desired_status == TASK_STOPPED || !is_of_this_boot(check, status))
		return;
	if (progress[STEP_CELL].applied) {
		expect_by_owner(check, "cell directory", id, owner);
		if (check->tree.mode != CGROUP_MODE_NONE) {
			expect_by_owner(check, "cgroup", id, owner);
			expect(check, "process", arena_printf(check->arena, "%d", status->shim.pid),
			       owner);
		}
	}
	if (progress[STEP_DISK].applied)
		expect_by_owner(check, "disk", id, owner);
	if (progress[STEP_ENI].applied)
		expect(check, netif_object_kind_name(NETIF_OBJECT_ENI),
		       arena_printf(check->arena, "%s in %s", network->interface_name,
				    network->vpc_id),
		       owner);
	if (progress[STEP_POLICY].applied)
		expect_by_owner(check, sg_object_kind_name(SG_OBJECT_MEMBER),
				network->interface_name,
				arena_printf(check->arena, "%s in vpc %s", network->eni_id,
					     network->vpc_id));
	if (progress[STEP_LINK].applied)
		expect_eni(check, id, network);
}

// --- Compared with what was found ---

static int compare_names(const void *left, const void *right)
{
	const struct fsck_finding *one = *(struct fsck_finding *const *)left;
	const struct fsck_finding *other = *(struct fsck_finding *const *)right;
	int order = strcmp(one->kind, other->kind);

	return order ? order : strcmp(one->name, other->name);
}

static int compare_owners(const void *left, const void *right)
{
	const struct fsck_finding *one = *(struct fsck_finding *const *)left;
	const struct fsck_finding *other = *(struct fsck_finding *const *)right;
	int order = strcmp(one->kind, other->kind);

	return order ? order : strcmp(one->owner, other->owner);
}

// The findings in both orders, of which a quick search needs one each.
struct order {
	struct fsck_finding **by_name, **by_owner;
	size_t count;
};

static void order_findings(const struct check *check, struct order *order)
{
	struct fsck_report *report = check->report;

	order->count = report->count;
	order->by_name = arena_array(check->arena, struct fsck_finding *, report->count + 1);
	order->by_owner = arena_array(check->arena, struct fsck_finding *, report->count + 1);
	for (size_t i = 0; i < report->count; i++)
		order->by_name[i] = order->by_owner[i] = &report->findings[i];
	qsort(order->by_name, order->count, sizeof(*order->by_name), compare_names);
	qsort(order->by_owner, order->count, sizeof(*order->by_owner), compare_owners);
}

static bool was_found(const struct order *order, const struct expected *expected)
{
	struct fsck_finding key = {.kind = expected->kind}, *wanted = &key;

	snprintf(key.name, sizeof(key.name), "%s", expected->name);
	snprintf(key.owner, sizeof(key.owner), "%s", expected->owner);
	return bsearch(&wanted, expected->by_owner ? order->by_owner : order->by_name, order->count,
		       sizeof(wanted), expected->by_owner ? compare_owners : compare_names);
}

__attribute__((format(printf, 4, 5))) static void
missing(struct check *check, const char *kind, const char *owner, const char *format, ...)
{
	char name[FSCK_TEXT_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	fsck_find(check, kind, name, "%s", owner)->missing = true;
}

static void compare_listed(struct check *check)
{
	struct order order;
	// New findings go behind the ordered ones, which may move: names are compared first.
	const struct expected **absent;
	size_t count = 0, capacity = 1;

	for (const struct expected *e = check->expected; e; e = e->next)
		capacity++;
	absent = arena_array(check->arena, const struct expected *, capacity);
	order_findings(check, &order);
	for (const struct expected *e = check->expected; e; e = e->next)
		if (!was_found(&order, e))
			absent[count++] = e;
	for (size_t i = 0; i < count; i++)
		missing(check, absent[i]->kind, absent[i]->owner, "%s", absent[i]->name);
}

// --- Addresses, routes and neighbours ---

static int look_all(struct netif *netif, const char *vpc, struct netif_look **ret_look,
		    struct error *err)
{
	struct netif_look *look;
	bool done = false;
	int result = netif_look_start(netif, vpc, &look, err);

	if (result < 0)
		return result;
	while (result == 0 && !done) {
		struct pollfd readable = {.fd = netif_look_fd(look), .events = POLLIN};

		poll(&readable, 1, -1);
		result = netif_look_step(look, &done, err);
	}
	if (result < 0)
		netif_look_free(look);
	else
		*ret_look = look;
	return result;
}

static int compare_eni(struct check *check, const struct expected_eni *expected, struct error *err)
{
	const struct netif_eni *eni = &expected->eni;
	const char *owner = arena_printf(check->arena, "task %s", expected->task_id);
	char address[IPV4_TEXT_SIZE];
	unsigned faults;

	if (netif_eni_check(check->netif, eni, &faults, err) < 0)
		return -err->code;
	ipv4_format(eni->address, address);
	if (faults & NETIF_ENI_DOWN)
		missing(check, "link", owner, "of %s in %s", eni->eni_id, eni->vpc);
	if (faults & NETIF_ENI_NO_ROUTE)
		missing(check, "route", owner, "%s in %s", address, eni->vpc);
	if (faults & NETIF_ENI_NO_NEIGHBOUR)
		missing(check, "neighbour", owner, "%s in %s", address, eni->vpc);
	return 0;
}

static int compare_vpc(struct check *check, const struct expected_vpc *vpc,
		       const struct netif_look *look, struct error *err)
{
	char text[IPV4_CIDR_TEXT_SIZE];

	if (!netif_look_has_address(look, NETIF_METADATA_ADDRESS))
		missing(check, netif_object_kind_name(NETIF_OBJECT_ADDRESS), vpc->id, "%s in %s",
			ipv4_format(NETIF_METADATA_ADDRESS, text), vpc->id);
	else if (!netif_look_has_vpc(look, &vpc->block))
		missing(check, "route", vpc->id, "%s in %s", ipv4_cidr_format(&vpc->block, text),
			vpc->id);
	for (struct expected_subnet *s = check->expected_subnets; s; s = s->next)
		if (strcmp(s->vpc_id, vpc->id) == 0 &&
		    !netif_look_has_address(look, ipv4_subnet_router(&s->block)))
			missing(check, netif_object_kind_name(NETIF_OBJECT_ADDRESS), s->id,
				"%s in %s", ipv4_format(ipv4_subnet_router(&s->block), text),
				vpc->id);
	for (struct expected_eni *e = check->expected_enis; e; e = e->next)
		if (strcmp(e->eni.vpc, vpc->id) == 0 && !netif_look_has_eni(look, &e->eni) &&
		    compare_eni(check, e, err) < 0)
			return -err->code;
	return 0;
}

static int look_at_vpc(struct check *check, const struct expected_vpc *vpc, struct error *err)
{
	struct netif_look *look = NULL;
	int result = look_all(check->netif, vpc->id, &look, err);

	if (result == -ENOENT) { // the namespace itself is missing
		error_clear(err);
		return 0;
	}
	if (result == 0)
		result = compare_vpc(check, vpc, look, err);
	netif_look_free(look);
	return result;
}

int fsck_collect_missing(struct check *check, struct error *err)
{
	// An install without a VPC takes its table away when it is shut down.
	if (check->agent_runs || check->expected_vpcs)
		expect_by_owner(check, sg_object_kind_name(SG_OBJECT_HOST_TABLE),
				check->config->install,
				arena_printf(check->arena, "install %s", check->config->install));
	compare_listed(check);
	for (struct expected_vpc *vpc = check->expected_vpcs; vpc; vpc = vpc->next)
		if (look_at_vpc(check, vpc, err) < 0)
			return -err->code;
	return 0;
}
