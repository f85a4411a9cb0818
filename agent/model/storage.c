// SPDX-License-Identifier: Apache-2.0
// The document of a file system.
#include "agent/model/fields.h"
#include "nfs/nfs.h"

static const struct field mount_target_fields[] = {
	{.name = "ip", .type = FIELD_ADDRESS, .flags = FIELD_REQUIRED, FIELD_AT(mount_target, ip)},
	{.name = "port",
	 .type = FIELD_U32,
	 .min = 1,
	 .max = 65535,
	 .number = 2049,
	 FIELD_AT(mount_target, port)},
};
static const struct field_table mount_target_table = {
	FIELD_TABLE(mount_target, mount_target_fields)};

static const struct field file_system_fields[] = {
	{.name = "mountTargets",
	 .type = FIELD_LIST,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = MOUNT_TARGETS_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &mount_target_table},
	 FIELD_LIST_AT(file_system_spec, mount_targets, mount_target_count)},
	{.name = "exportPath",
	 .type = FIELD_TEXT,
	 .min = 1,
	 .max = NFS_PATH_MAX - 1,
	 .text = "/",
	 .complaint = complain_path,
	 FIELD_AT(file_system_spec, export_path)},
	FIELD_REFUSE("accessPoints", "access points are not built yet"),
};

const struct field_table file_system_table = {FIELD_TABLE(file_system_spec, file_system_fields)};

const struct mount_target *mount_target_for(const struct file_system_spec *file_system,
					    const struct ipv4_cidr *subnet)
{
	for (uint32_t i = 0; i < file_system->mount_target_count; i++)
		if (ipv4_cidr_contains(subnet, file_system->mount_targets[i].ip))
			return &file_system->mount_targets[i];
	return &file_system->mount_targets[0];
}
