// SPDX-License-Identifier: Apache-2.0
// Members and their meaning: Amazon ECS developer guide, "Task metadata endpoint
// version 4 for tasks on Fargate". What is not known is left out, as there.
#include "agent/model/metadata.h"

#include <inttypes.h>
#include <stdio.h>

#include "agent/model/writer.h"
#include "netif/netif.h"

enum { NAME_SIZE = 512 };

// Shaped as AWS's, in a partition of its own: nothing there can be taken for an AWS resource.
static void write_arn(struct json_writer *writer, const char *name,
		      const struct metadata_context *context, const char *type, const char *id)
{
	char arn[NAME_SIZE];

	snprintf(arn, sizeof(arn), "arn:penstock:ecs:local:000000000000:%s/%s/%s%s%s", type,
		 context->cluster, context->task_id, id ? "/" : "", id ? id : "");
	json_string(writer, name, arn);
}

static void write_time(struct json_writer *writer, const char *name, int64_t wall_ms)
{
	if (wall_ms != 0)
		json_time(writer, name, wall_ms);
}

// Limits: CPU in vCPU, with its fraction, and MiB.
static void write_limits(struct json_writer *writer, const struct task_spec *spec)
{
	char cpu[32];

	snprintf(cpu, sizeof(cpu), "%u.%02u", spec->cpu_units / 1024,
		 spec->cpu_units % 1024 * 100 / 1024);
	json_object_begin(writer, "Limits");
	json_raw(writer, "CPU", cpu);
	json_number(writer, "Memory", spec->memory_mib);
	json_object_end(writer);
}

static void write_network(struct json_writer *writer, const struct metadata_context *context,
			  const struct task_network *network)
{
	uint32_t base = network->private_ipv4_address & ipv4_mask(network->prefix);
	struct ipv4_cidr block = {.base = base, .prefix = network->prefix};
	char text[IPV4_CIDR_TEXT_SIZE], address[IPV4_TEXT_SIZE], gateway[IPV4_CIDR_TEXT_SIZE + 8];

	json_object_begin(writer, NULL);
	json_string(writer, "NetworkMode", "awsvpc");
	json_array_begin(writer, "IPv4Addresses");
	json_address(writer, NULL, network->private_ipv4_address);
	json_array_end(writer);
	json_number(writer, "AttachmentIndex", 0);
	json_string(writer, "MACAddress", network->mac_address);
	json_string(writer, "IPv4SubnetCIDRBlock", ipv4_cidr_format(&block, text));
	json_array_begin(writer, "DomainNameServers");
	for (uint32_t i = 0; i < context->dns_server_count; i++)
		json_address(writer, NULL, context->dns_servers[i]);
	json_array_end(writer);
	snprintf(gateway, sizeof(gateway), "%s/%u", ipv4_format(network->gateway, address),
		 network->prefix);
	json_string(writer, "SubnetGatewayIpv4Address", gateway);
	json_object_end(writer);
}

static void write_ports(struct json_writer *writer, const struct container_spec *container)
{
	if (container->port_count == 0)
		return;
	json_array_begin(writer, "Ports");
	for (uint32_t i = 0; i < container->port_count; i++) {
		json_object_begin(writer, NULL);
		if (container->ports[i].container_port_range[0])
			json_string(writer, "ContainerPortRange",
				    container->ports[i].container_port_range);
		else
			json_number(writer, "ContainerPort", container->ports[i].first_port);
		json_string(writer, "Protocol", "tcp");
		json_object_end(writer);
	}
	json_array_end(writer);
}

static void write_volumes(struct json_writer *writer, const struct container_spec *container)
{
	if (container->mount_count == 0)
		return;
	json_array_begin(writer, "Volumes");
	for (uint32_t i = 0; i < container->mount_count; i++) {
		json_object_begin(writer, NULL);
		json_string(writer, "DockerName", container->mounts[i].source_volume);
		json_string(writer, "Destination", container->mounts[i].container_path);
		json_object_end(writer);
	}
	json_array_end(writer);
}

static void write_health(struct json_writer *writer, const struct container_status *status)
{
	json_object_begin(writer, "Health");
	json_string(writer, "status", health_state_name(status->health));
	json_object_end(writer);
}

// What the specification says of a container.
static void write_definition(struct json_writer *writer, const struct metadata_context *context,
			     const struct task_spec *spec, const struct container_spec *container)
{
	char docker_name[NAME_SIZE];

	snprintf(docker_name, sizeof(docker_name), "%s-%s", context->task_id, container->name);
	json_string(writer, "Name", container->name);
	json_string(writer, "DockerName", docker_name);
	json_string(writer, "Image", container->image);
	write_ports(writer, container);
	json_object_begin(writer, "Labels");
	json_string(writer, "com.amazonaws.ecs.cluster", context->cluster);
	json_string(writer, "com.amazonaws.ecs.container-name", container->name);
	write_arn(writer, "com.amazonaws.ecs.task-arn", context, "task", NULL);
	json_string(writer, "com.amazonaws.ecs.task-definition-family", spec->family);
	json_string(writer, "com.amazonaws.ecs.task-definition-version", "1");
	json_object_end(writer);
}

static void write_container(struct json_writer *writer, const char *name,
			    const struct metadata_context *context, const struct task_spec *spec,
			    const struct task_status *task, uint32_t index)
{
	const struct container_spec *container = &spec->containers[index];
	const struct container_status *status = &task->containers[index];

	json_object_begin(writer, name);
	json_string(writer, "DockerId", status->docker_id);
	write_definition(writer, context, spec, container);
	if (status->image_id)
		json_string(writer, "ImageID", status->image_id);
	json_string(writer, "DesiredStatus", task_state_name(task->desired_status));
	json_string(writer, "KnownStatus", container_state_name(status->last_status));
	if (status->exit_code != CONTAINER_EXIT_NONE)
		json_number(writer, "ExitCode", status->exit_code);
	write_time(writer, "CreatedAt", task->created_ms);
	write_time(writer, "StartedAt", status->started_ms);
	write_time(writer, "FinishedAt", status->finished_ms);
	json_string(writer, "Type", "NORMAL");
	if (container->health_check)
		write_health(writer, status);
	write_volumes(writer, container);
	json_string(writer, "LogDriver", "penstock");
	write_arn(writer, "ContainerARN", context, "container", status->docker_id);
	json_array_begin(writer, "Networks");
	if (task->network.eni_id)
		write_network(writer, context, &task->network);
	json_array_end(writer);
	json_object_end(writer);
}

void metadata_container_render(const struct metadata_context *context, const struct task_spec *spec,
			       const struct task_status *status, uint32_t container,
			       struct buffer *out)
{
	write_container(&(struct json_writer){.out = out}, NULL, context, spec, status, container);
}

static void write_storage(struct json_writer *writer, const struct metadata_context *context)
{
	json_object_begin(writer, "EphemeralStorageMetrics");
	json_number(writer, "Utilized", (int64_t)context->ephemeral_utilized_mib);
	json_number(writer, "Reserved", (int64_t)context->ephemeral_reserved_mib);
	json_object_end(writer);
}

void metadata_task_render(const struct metadata_context *context, const struct task_spec *spec,
			  const struct task_status *status, struct buffer *out)
{
	struct json_writer writer = {.out = out};

	json_object_begin(&writer, NULL);
	json_string(&writer, "Cluster", context->cluster);
	write_arn(&writer, "TaskARN", context, "task", NULL);
	json_string(&writer, "Family", spec->family);
	json_string(&writer, "Revision", "1");
	json_string(&writer, "DesiredStatus", task_state_name(status->desired_status));
	json_string(&writer, "KnownStatus", task_state_name(status->last_status));
	write_limits(&writer, spec);
	write_time(&writer, "PullStartedAt", status->pull_started_ms);
	write_time(&writer, "PullStoppedAt", status->pull_stopped_ms);
	write_time(&writer, "ExecutionStoppedAt", status->execution_stopped_ms);
	json_string(&writer, "AvailabilityZone", context->availability_zone);
	json_string(&writer, "LaunchType", "FARGATE");
	json_array_begin(&writer, "Containers");
	for (uint32_t i = 0; i < spec->container_count && i < status->container_count; i++)
		write_container(&writer, NULL, context, spec, status, i);
	json_array_end(&writer);
	if (status->network.vpc_id)
		json_string(&writer, "VPCID", status->network.vpc_id);
	write_storage(&writer, context);
	json_object_end(&writer);
}
