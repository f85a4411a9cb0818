// SPDX-License-Identifier: Apache-2.0
// What the guest is told: the manifest (spec and image configurations merged, identities
// filled in) and the ECS metadata documents.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/guest/protocol.h"
#include "agent/model/metadata.h"
#include "agent/task/internal.h"
#include "nfs/nfs.h"

enum { NFS_MOUNT_DEADLINE_MS = 30000, HOSTNAME_BYTES = 64 };

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *or_image(const char *own, const char *image)
{
	return *own ? own : image;
}

// As with docker: an entry point of the task's own makes the image's command void.
static void merge_arguments(const struct container_spec *spec, const struct image_config *image,
			    struct arena *arena, struct guest_container *container)
{
	bool own_entry = spec->entry_point_count > 0;
	const char **entry = own_entry ? spec->entry_point : image->entry_point;
	uint32_t entry_count = own_entry ? spec->entry_point_count : image->entry_point_count;
	const char **command = spec->command_count > 0 ? spec->command : image->command;
	uint32_t command_count = spec->command_count > 0 ? spec->command_count
				 : own_entry             ? 0
							 : image->command_count;

	container->arguments = arena_array(arena, const char *, entry_count + command_count + 1);
	for (uint32_t i = 0; i < entry_count; i++)
		container->arguments[container->argument_count++] = entry[i];
	for (uint32_t i = 0; i < command_count; i++)
		container->arguments[container->argument_count++] = command[i];
}

static bool names_same(const char *assignment, const char *name)
{
	size_t length = strlen(name);

	return strncmp(assignment, name, length) == 0 && assignment[length] == '=';
}

static bool is_overridden(const struct container_spec *spec, const char *assignment)
{
	for (uint32_t i = 0; i < spec->environment_count; i++)
		if (names_same(assignment, spec->environment[i].name))
			return true;
	return false;
}

static void merge_environment(const struct container_spec *spec, const struct image_config *image,
			      struct arena *arena, struct guest_container *container)
{
	uint32_t most = spec->environment_count + image->environment_count + 1;
	const char **merged = arena_array(arena, const char *, most);
	bool has_path = is_overridden(spec, DEFAULT_PATH);
	uint32_t count = 0;

	for (uint32_t i = 0; i < image->environment_count; i++) {
		if (is_overridden(spec, image->environment[i]))
			continue;
		has_path = has_path || names_same(image->environment[i], "PATH");
		merged[count++] = image->environment[i];
	}
	for (uint32_t i = 0; i < spec->environment_count; i++)
		merged[count++] = arena_printf(arena, "%s=%s", spec->environment[i].name,
					       spec->environment[i].value);
	if (!has_path)
		merged[count++] = DEFAULT_PATH;
	container->environment = merged;
	container->environment_count = count;
}

static void health_of(const struct container_spec *spec, struct arena *arena,
		      struct guest_health_check *health)
{
	const struct container_health_check *check = spec->health_check;
	uint32_t count = 0;

	if (!check)
		return;
	health->arguments = arena_array(arena, const char *, check->argument_count + 3);
	if (check->shell) {
		health->arguments[count++] = "/bin/sh";
		health->arguments[count++] = "-c";
	}
	for (uint32_t i = 0; i < check->argument_count; i++)
		health->arguments[count++] = check->arguments[i];
	health->argument_count = count;
	health->interval_s = check->interval_seconds;
	health->timeout_s = check->timeout_seconds;
	health->retries = check->retries;
	health->start_period_s = check->start_period_seconds;
}

static enum guest_condition condition_of(enum container_condition condition)
{
	static const enum guest_condition conditions[] = {
		[CONDITION_START] = GUEST_CONDITION_START,
		[CONDITION_COMPLETE] = GUEST_CONDITION_COMPLETE,
		[CONDITION_SUCCESS] = GUEST_CONDITION_SUCCESS,
		[CONDITION_HEALTHY] = GUEST_CONDITION_HEALTHY,
	};

	return conditions[condition];
}

static int compare_mounts(const void *one, const void *other)
{
	return strcmp(((const struct guest_mount *)one)->path,
		      ((const struct guest_mount *)other)->path);
}

// By path, so that what is mounted inside another one comes after it, and is not hidden.
static void mounts_of(const struct task_spec *task, const struct container_spec *spec,
		      const struct image_config *image, struct guest_container *container)
{
	container->mount_count = spec->mount_count;
	for (uint32_t i = 0; i < spec->mount_count; i++) {
		const struct mount_point *mount = &spec->mounts[i];

		container->mounts[i] = (struct guest_mount){
			.volume = mount->volume,
			.path = mount->container_path,
			.read_only = mount->read_only,
			.copy_image = task->volumes[mount->volume].kind == VOLUME_EPHEMERAL &&
				      image_config_has_volume(image, mount->container_path),
		};
	}
	qsort(container->mounts, container->mount_count, sizeof(*container->mounts),
	      compare_mounts);
}

static int container_of_spec(struct task *task, uint32_t index, struct arena *arena,
			     struct guest_container *container, struct error *err)
{
	const struct container_spec *spec = &task->spec->containers[index];
	const struct image_config *image = &task->images[task->image_of[index]].config;

	*container = (struct guest_container){
		.name = spec->name,
		.id = task->status.containers[index].docker_id,
		.image = task->image_of[index],
		.essential = spec->essential,
		.user = or_image(spec->user, image->user),
		.directory = or_image(spec->working_directory, image->working_directory),
		.read_only_root = spec->read_only_root,
		.start_timeout_s = spec->start_timeout_seconds,
		.stop_timeout_s = spec->stop_timeout_seconds,
		.stop_signal = (uint32_t)image_config_stop_signal(image),
		.memory_mib = spec->memory_mib,
		.dependency_count = spec->depends_on_count,
	};
	merge_arguments(spec, image, arena, container);
	if (container->argument_count == 0)
		return error_set(err, EINVAL,
				 "CannotCreateContainerError: container %s: neither the task nor "
				 "image %s says what to run (entryPoint, command)",
				 spec->name, spec->image);
	merge_environment(spec, image, arena, container);
	health_of(spec, arena, &container->health);
	mounts_of(task->spec, spec, image, container);
	for (uint32_t i = 0; i < spec->depends_on_count; i++)
		container->dependencies[i] = (struct guest_dependency){
			spec->depends_on[i].container, condition_of(spec->depends_on[i].condition)};
	return 0;
}

static int nfs_volume_of(struct task *task, const struct efs_volume *efs, struct arena *arena,
			 struct guest_volume *volume, struct error *err)
{
	const struct model_object *object =
		engine_object(task->engine, MODEL_FILE_SYSTEM, efs->file_system_id);
	const struct task_network *network = &task->status.network;
	const struct ipv4_cidr subnet = {network->private_ipv4_address & ipv4_mask(network->prefix),
					 network->prefix};
	const struct mount_target *target;
	char server[IPV4_TEXT_SIZE], client[IPV4_TEXT_SIZE];
	struct nfs_mount mount;
	struct nfs_volume plan;

	if (!object)
		return error_set(err, ENOENT, "file system %s is not there", efs->file_system_id);
	target = mount_target_for(object->file_system, &subnet);
	plan = (struct nfs_volume){
		.server = ipv4_format(target->ip, server),
		.port = (uint16_t)target->port,
		.export_path = object->file_system->export_path,
		.root_directory = efs->root_directory,
		.client_address = ipv4_format(network->private_ipv4_address, client),
	};
	if (nfs_mount_plan(&plan, &mount, err) < 0)
		return -err->code;
	volume->kind = GUEST_VOLUME_NFS;
	volume->server = arena_strdup(arena, server);
	volume->port = plan.port;
	volume->path = arena_strdup(arena, strchr(mount.source, ':') + 1);
	volume->deadline_ms = NFS_MOUNT_DEADLINE_MS;
	return 0;
}

static int volumes_of(struct task *task, struct arena *arena, struct guest_manifest *manifest,
		      struct error *err)
{
	manifest->volume_count = task->spec->volume_count;
	for (uint32_t i = 0; i < task->spec->volume_count; i++) {
		const struct task_volume *volume = &task->spec->volumes[i];

		manifest->volumes[i] = (struct guest_volume){.name = volume->name,
							     .kind = GUEST_VOLUME_DIRECTORY,
							     .server = "",
							     .path = ""};
		if (volume->kind == VOLUME_FILE_SYSTEM &&
		    nfs_volume_of(task, volume->efs, arena, &manifest->volumes[i], err) < 0)
			return error_wrap(err, "ResourceInitializationError: volume %s",
					  volume->name);
	}
	return 0;
}

static const char *hostname_of(const struct task *task, struct arena *arena)
{
	uint32_t address = task->status.network.private_ipv4_address;

	return arena_printf(arena, "ip-%u-%u-%u-%u", address >> 24, (address >> 16) & 255,
			    (address >> 8) & 255, address & 255);
}

static void resolvers_of(struct task *task, struct arena *arena, struct guest_manifest *manifest)
{
	const struct model_object *vpc =
		engine_object(task->engine, MODEL_VPC, task->status.network.vpc_id);
	char text[IPV4_TEXT_SIZE];

	for (uint32_t i = 0; vpc && i < vpc->vpc->dns_server_count && i < GUEST_NAMESERVERS_MAX;
	     i++)
		manifest->nameservers[manifest->nameserver_count++] =
			arena_strdup(arena, ipv4_format(vpc->vpc->dns_servers[i], text));
}

int manifest_write(struct task *task, struct error *err)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer text = {0};
	struct guest_manifest *manifest = arena_new(&arena, struct guest_manifest);
	struct cell cell = task_cell(task);

	manifest->task_id = task->id;
	manifest->hostname = hostname_of(task, &arena);
	manifest->domain = "";
	manifest->container_count = task->spec->container_count;
	resolvers_of(task, &arena, manifest);
	if (volumes_of(task, &arena, manifest, err) < 0)
		return -err->code;
	for (uint32_t i = 0; i < task->spec->container_count; i++)
		if (container_of_spec(task, i, &arena, &manifest->containers[i], err) < 0)
			return -err->code;
	if (guest_manifest_encode(manifest, &text, err) < 0 ||
	    cell_manifest_write(&cell, text.data, text.length, err) < 0)
		return error_wrap(err, "ResourceInitializationError: manifest");
	return 0;
}

static struct metadata_context metadata_context_of(const struct task *task, const char *host)
{
	const struct model_object *vpc =
		engine_object(task->engine, MODEL_VPC, task->status.network.vpc_id);

	return (struct metadata_context){
		.cluster = task->engine->config->install,
		.task_id = task->id,
		.availability_zone = host,
		.dns_servers = vpc ? vpc->vpc->dns_servers : NULL,
		.dns_server_count = vpc ? vpc->vpc->dns_server_count : 0,
		.ephemeral_utilized_mib = task->cell.guest.disk_used_bytes >> 20,
		.ephemeral_reserved_mib = (uint64_t)task->spec->ephemeral_storage_gib << 10,
	};
}

static int metadata_write_all(struct task *task, struct error *err)
{
	char host[HOSTNAME_BYTES] = "";
	struct metadata_context context;
	struct cell cell = task_cell(task);
	scoped(buffer_release) struct buffer text = {0};

	gethostname(host, sizeof(host) - 1);
	context = metadata_context_of(task, host);
	metadata_task_render(&context, task->spec, &task->status, &text);
	if (cell_metadata_write(&cell, "task", buffer_text(&text), text.length, err) < 0)
		return -err->code;
	for (uint32_t i = 0; i < task->spec->container_count; i++) {
		text.length = 0;
		metadata_container_render(&context, task->spec, &task->status, i, &text);
		if (cell_metadata_write(&cell, task->status.containers[i].docker_id,
					buffer_text(&text), text.length, err) < 0)
			return -err->code;
	}
	return 0;
}

void metadata_write(struct task *task)
{
	const struct log_context context = {task->id, task->status.network.eni_id};
	struct error err = {0};

	if (metadata_write_all(task, &err) < 0)
		log_warning(&context, "metadata: %s", err.message);
}

void metadata_refresh(struct task *task)
{
	if (task->launched && task->status.last_status != TASK_STOPPED)
		metadata_write(task);
}
