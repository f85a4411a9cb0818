// SPDX-License-Identifier: Apache-2.0
// Theory of operation. First the records are read into lists of names that are owned. Then
// one collector per kind of thing (fsck_collect.c) walks what is really there and asks the lists.
#include "agent/task/fsck_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/scope.h"
#include "agent/cell/cell.h"
#include "agent/cell/install_lock.h"
#include "agent/store/store.h"
#include "agent/task/cell_record.h"

static void own_place(struct check *check, struct name **list, const char *text, const char *of)
{
	struct name *name = arena_new(check->arena, struct name);

	*name = (struct name){*list, arena_strdup(check->arena, text), of};
	*list = name;
}

static void own(struct check *check, struct name **list, const char *text)
{
	own_place(check, list, text, NULL);
}

static const struct name *find_name(const struct name *list, const char *text)
{
	while (list && strcmp(list->text, text) != 0)
		list = list->next;
	return list;
}

bool fsck_owns(const struct name *list, const char *text)
{
	return find_name(list, text);
}

const char *fsck_owner_of_place(const struct check *check, const char *vpc_id, const char *place)
{
	char text[FSCK_TEXT_SIZE];
	const struct name *found;

	snprintf(text, sizeof(text), "%s %s", vpc_id, place);
	found = find_name(check->owned.places, text);
	return found ? found->of : NULL;
}

// --- The records ---

// What it owns besides its own name is not known.
static int unreadable(struct check *check, const struct store_object *stored)
{
	check->unreadable = arena_printf(check->arena, "%s %s", stored->kind, stored->id);
	return 0;
}

// Cell and disk carry the task's id: they are owned whatever the record says.
static int own_task(struct check *check, const struct store_object *stored)
{
	const struct cell cell = {.tree = &check->tree,
				  .state_directory = check->config->state_directory,
				  .task = stored->id};
	struct task_status status;
	struct error err = {0};
	int result = task_status_parse(stored->status, strlen(stored->status), check->arena,
				       &status, &err);

	own(check, &check->owned.records, stored->id);
	if (result == 0 && status.last_status == TASK_STOPPED)
		return 0;
	if (result == 0 && cell_is_of_another_task(&cell, &status, check->boot_id, check->arena))
		return 0; // an old copy of the database: find_unrecorded() finds the cell
	own(check, &check->owned.kinds[MODEL_TASK], stored->id);
	if (result < 0)
		return unreadable(check, stored);
	own(check, &check->owned.enis, status.network.eni_id);
	fsck_expect_task(check, stored->id, &status);
	return 0;
}

static void own_attachments(struct check *check, const struct vpc_spec *vpc)
{
	for (uint32_t i = 0; i < vpc->attachment_count; i++)
		own(check, &check->owned.interfaces, vpc->attachments[i].interface);
}

static void own_in_vpc(struct check *check, const struct model_object *object, const char *vpc_id,
		       const char *place)
{
	own_place(check, &check->owned.places, arena_printf(check->arena, "%s %s", vpc_id, place),
		  arena_printf(check->arena, "%s %s", model_kind_name(object->kind), object->id));
}

static void own_subnet(struct check *check, const struct model_object *object)
{
	const struct ipv4_cidr *block = &object->subnet->cidr_block;
	char text[IPV4_CIDR_TEXT_SIZE];

	own_in_vpc(check, object, object->subnet->vpc_id, ipv4_cidr_format(block, text));
	// The router is listed by itself when the subnet's route is missing.
	own_in_vpc(check, object, object->subnet->vpc_id,
		   ipv4_format(ipv4_subnet_router(block), text));
	own_place(check, &check->owned.subnets, object->id, object->subnet->vpc_id);
}

static int own_balancer(struct check *check, const struct model_object *object,
			const struct store_object *stored)
{
	const struct name *subnet =
		find_name(check->owned.subnets, object->load_balancer->subnet_id);
	struct object_status status;
	char address[IPV4_TEXT_SIZE];
	struct error err = {0};

	if (!subnet || object_status_parse(stored->status, check->arena, &status, &err) < 0)
		return unreadable(check, stored);
	own_in_vpc(check, object, subnet->of, ipv4_format(status.private_ipv4_address, address));
	fsck_expect_balancer(check, object->id, subnet->of, status.private_ipv4_address);
	return 0;
}

static int own_parts(struct check *check, enum model_kind kind, const struct store_object *stored)
{
	struct fault_list faults = {.arena = check->arena};
	struct model_object object;

	if (model_parse(kind, arena_strdup(check->arena, stored->id), stored->spec,
			strlen(stored->spec), check->arena, &object, &faults) < 0)
		return unreadable(check, stored);
	fsck_expect_object(check, &object);
	if (kind == MODEL_VPC)
		own_attachments(check, object.vpc);
	else if (kind == MODEL_SUBNET)
		own_subnet(check, &object);
	else if (kind == MODEL_LOAD_BALANCER)
		return own_balancer(check, &object, stored);
	return 0;
}

static int own_object(const struct store_object *stored, void *context)
{
	struct check *check = context;
	enum model_kind kind;

	if (model_kind_from_name(stored->kind, &kind) < 0)
		return 0;
	if (kind == MODEL_TASK)
		return own_task(check, stored);
	own(check, &check->owned.kinds[kind], stored->id);
	return own_parts(check, kind, stored);
}

// Each kind after those that it names: a balancer's VPC is its subnet's.
static int read_records(struct check *check, struct error *err)
{
	char path[CONFIG_PATH_MAX + 16];
	struct store_options options = {.path = path, .read_only = true};
	scoped(store_closep) struct store *store = NULL;
	int result;

	snprintf(path, sizeof(path), "%s/penstock.db", check->config->state_directory);
	result = store_open(&options, &store, err);
	if (result == -ENOENT) {
		error_clear(err); // never started: it owns nothing
		return 0;
	}
	check->installed = result == 0;
	for (enum model_kind kind = 0; result == 0 && kind < MODEL_KIND_COUNT; kind++)
		result = store_object_each(store, model_kind_name(kind), own_object, check, err);
	return result;
}

// --- Cells that may run, and that no record speaks of: see unrecorded.c ---

static void own_unrecorded(struct check *check, const char *task)
{
	struct task_status status;
	struct error ignored = {0}; // without a readable copy its ENI is not known

	own(check, &check->owned.unrecorded, task);
	if (cell_record_parse(check->config->state_directory, task, check->arena, NULL, &status,
			      &ignored) == 0 &&
	    status.network.eni_id)
		own(check, &check->owned.unrecorded_enis, status.network.eni_id);
}

static int find_unrecorded(struct check *check, struct error *err)
{
	const char **tasks;
	size_t count;

	if (cell_list(&check->tree, check->config->state_directory, check->arena, &tasks, &count,
		      err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		const struct cell cell = {.tree = &check->tree,
					  .state_directory = check->config->state_directory,
					  .task = tasks[i]};
		struct cell_remains remains;

		if (fsck_owns(check->owned.kinds[MODEL_TASK], tasks[i]))
			continue;
		if (cell_remains(&cell, &remains, err) < 0)
			return -err->code;
		if (remains.populated || remains.record)
			own_unrecorded(check, tasks[i]);
	}
	return 0;
}

// --- Findings ---

struct fsck_finding *fsck_find(struct check *check, const char *kind, const char *name,
			       const char *owner, ...)
{
	struct fsck_report *report = check->report;
	struct fsck_finding *finding;
	va_list args;

	if (report->count == check->capacity) {
		size_t capacity = check->capacity ? check->capacity * 2 : 64;
		struct fsck_finding *larger =
			arena_array(check->arena, struct fsck_finding, capacity);

		if (report->count)
			memcpy(larger, report->findings, report->count * sizeof(*larger));
		report->findings = larger;
		check->capacity = capacity;
	}
	finding = &report->findings[report->count++];
	finding->kind = kind;
	snprintf(finding->name, sizeof(finding->name), "%s", name);
	va_start(args, owner);
	vsnprintf(finding->owner, sizeof(finding->owner), owner, args);
	va_end(args);
	return finding;
}

// --- All of it ---

static void find_agent(struct check *check)
{
	const struct config *config = check->config;
	char path[CONFIG_PATH_MAX + CONFIG_NAME_MAX + 8];
	pid_t owner;

	snprintf(path, sizeof(path), "%s/%s.lock", config->runtime_directory, config->install);

	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	scoped_fd int fd = open(path, O_RDWR | O_CLOEXEC);

	check->agent_runs = fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
	check->agent_pid = check->agent_runs ? lock.l_pid : 0;
	if (check->agent_runs)
		return;
	owner = install_lock_owner(&check->tree); // of one with other directories
	check->agent_runs = owner != 0;
	check->agent_pid = owner > 0 ? owner : 0;
}

static void count_orphans(struct fsck_report *report)
{
	for (size_t i = 0; i < report->count; i++)
		report->unrecorded += report->findings[i].unrecorded;
	for (size_t i = 0; i < report->count; i++)
		report->missing += report->findings[i].missing;
	for (size_t i = 0; i < report->count; i++)
		report->orphans += report->findings[i].orphan && !report->findings[i].repaired;
}

// The agent, which may have started since the look before; the records, then what is there.
static int look(struct check *check, struct fsck_report *report, struct error *err)
{
	*report = (struct fsck_report){0};
	check->report = report;
	check->capacity = 0;
	check->owned = (struct owned){0};
	check->unreadable = NULL;
	check->expected = NULL;
	check->expected_enis = NULL;
	check->expected_vpcs = NULL;
	check->expected_subnets = NULL;
	find_agent(check);
	if (read_records(check, err) < 0 || find_unrecorded(check, err) < 0)
		return -err->code;
	for (size_t i = 0; i < fsck_collector_count; i++)
		if (fsck_collectors[i](check, err) < 0)
			return -err->code;
	if (fsck_collect_missing(check, err) < 0)
		return -err->code;
	count_orphans(report);
	return 0;
}

// Where the agent never was, there is no pool; opening would make one.
static int open_pool(const struct config *config, struct ephemeral *pool, struct error *err)
{
	if (access(config->state_directory, F_OK) < 0 && errno == ENOENT)
		return 0;
	return ephemeral_open(config->state_directory, pool, err);
}

int fsck_run(const struct config *config, bool repair, struct arena *arena,
	     struct fsck_report *ret_report, struct error *err)
{
	struct fsck_report first = {0}, second = {0};
	struct check check = {
		.config = config, .arena = arena, .repair = repair, .pool = EPHEMERAL_NONE};
	bool again = false;
	int result = 0;

	if (boot_id_read(check.boot_id, err) < 0 ||
	    cgroup_tree_find(config->install, &check.tree, err) < 0 ||
	    netif_open(config->install, &check.netif, err) < 0 ||
	    open_pool(config, &check.pool, err) < 0)
		result = -err->code;
	if (result == 0)
		result = look(&check, &first, err);
	// What is missing may just be on its way, by the hands of a running agent.
	if (result == 0 && (repair || first.missing > 0)) {
		again = true;
		check.before = &first;
		result = look(&check, &second, err);
	}
	ephemeral_close(&check.pool);
	netif_close(check.netif);
	if (result == 0)
		*ret_report = again ? second : first;
	return result;
}
