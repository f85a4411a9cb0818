// SPDX-License-Identifier: Apache-2.0
// The document of a task: its fields. What must hold between them is in task_check.c.
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/model/fields.h"
#include "agent/model/task_check.h"
#include "nfs/nfs.h"

// ---------------------------------------------------------------- CPU and memory

// "1", "0.25", ".5" times 1024, when that is a whole number.
static bool decimal_times_1024(const char *text, size_t length, uint32_t *ret_value)
{
	uint64_t digits = 0, divisor = 1;
	bool point = false;

	if (length == 0 || length > 9)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '.' && !point && i + 1 < length) {
			point = true;
			continue;
		}
		if (!isdigit((unsigned char)text[i]))
			return false;
		digits = digits * 10 + (uint64_t)(text[i] - '0');
		divisor *= point ? 10 : 1;
	}
	if (digits * 1024 % divisor != 0 || digits * 1024 / divisor > UINT32_MAX)
		return false;
	*ret_value = (uint32_t)(digits * 1024 / divisor);
	return true;
}

// "1024", or "1 vCPU" / "2 GB" with the suffix, with or without a space, in any case.
static bool quantity_from_text(const char *text, const char *suffix, uint32_t *ret_value)
{
	size_t length = strlen(text), suffix_length = strlen(suffix);
	uint32_t scaled;

	if (length <= suffix_length || strcasecmp(text + length - suffix_length, suffix) != 0)
		return parse_u32(text, UINT32_MAX, ret_value) == 0;
	length -= suffix_length;
	if (text[length - 1] == ' ')
		length--;
	if (!decimal_times_1024(text, length, &scaled))
		return false;
	*ret_value = scaled;
	return true;
}

// The field's `expected` is the suffix, its `text` an example.
static void parse_quantity(struct parse *parse, const struct place *place,
			   const struct field *field, const cJSON *value, void *target)
{
	const char *text = value ? parse_text(parse, place, value) : NULL;

	*(uint32_t *)target = 0;
	if (text &&
	    (!quantity_from_text(text, field->expected, target) || *(uint32_t *)target == 0))
		parse_fault(parse, place, "must be a text such as %s", field->text);
}

static void render_quantity(struct json_writer *writer, const struct field *field,
			    const void *source)
{
	char text[12];

	snprintf(text, sizeof(text), "%u", *(const uint32_t *)source);
	json_string(writer, field->name, text);
}

// ---------------------------------------------------------------- storage

struct storage_document {
	uint32_t size_gib;
};

static const struct field storage_fields[] = {
	{.name = "sizeInGiB",
	 .type = FIELD_U32,
	 .flags = FIELD_REQUIRED,
	 .min = 21,
	 .max = 200,
	 FIELD_AT(storage_document, size_gib)},
};
static const struct field_table storage_table = {FIELD_TABLE(storage_document, storage_fields)};

static void parse_storage(struct parse *parse, const struct place *place, const struct field *field,
			  const cJSON *value, void *target)
{
	struct storage_document storage = {.size_gib = EPHEMERAL_DEFAULT_GIB};

	(void)field;
	if (value)
		fields_parse(parse, place, &storage_table, value, &storage);
	*(uint32_t *)target = storage.size_gib;
}

// 20 GiB is what a task has without the field; the field itself begins at 21.
static void render_storage(struct json_writer *writer, const struct field *field,
			   const void *source)
{
	struct storage_document storage = {.size_gib = *(const uint32_t *)source};

	if (storage.size_gib != EPHEMERAL_DEFAULT_GIB)
		fields_render(writer, field->name, &storage_table, &storage, 0);
}

// ---------------------------------------------------------------- volumes

static const struct field efs_fields[] = {
	{.name = "fileSystemId",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 FIELD_REFERS_TO(MODEL_FILE_SYSTEM),
	 FIELD_AT(efs_volume, file_system_id)},
	{.name = "rootDirectory",
	 .type = FIELD_TEXT,
	 .min = 1,
	 .max = NFS_PATH_MAX - 1,
	 .text = "/",
	 .complaint = complain_path,
	 FIELD_AT(efs_volume, root_directory)},
	{.name = "transitEncryption",
	 .type = FIELD_CONSTANT,
	 .flags = FIELD_SPARSE,
	 .expected = "DISABLED",
	 .text = "transit encryption is not built yet"},
	FIELD_REFUSE("transitEncryptionPort", "transit encryption is not built yet"),
	FIELD_REFUSE("authorizationConfig", "access points and IAM are not built yet"),
};
static const struct field_table efs_table = {FIELD_TABLE(efs_volume, efs_fields)};

static const struct field volume_fields[] = {
	{.name = "name",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = CONTAINER_NAME_MAX,
	 .text = "",
	 .complaint = complain_name,
	 FIELD_AT(task_volume, name)},
	{.name = "efsVolumeConfiguration",
	 .type = FIELD_POINTER,
	 .table = &efs_table,
	 FIELD_AT(task_volume, efs)},
	FIELD_REFUSE("host", "Fargate refuses host bind mounts, and so does penstock"),
	FIELD_REFUSE("configuredAtLaunch", "EBS volumes are refused"),
	FIELD_FARGATE_REFUSES("dockerVolumeConfiguration"),
	FIELD_REFUSE("fsxWindowsFileServerVolumeConfiguration", "Windows is refused"),
};

static void finish_volume(struct parse *parse, const struct place *place, void *target)
{
	struct task_volume *volume = target;

	(void)parse;
	(void)place;
	volume->kind = volume->efs ? VOLUME_FILE_SYSTEM : VOLUME_EPHEMERAL;
}

static const struct field_table volume_table = {FIELD_TABLE(task_volume, volume_fields),
						.finish = finish_volume};

// ---------------------------------------------------------------- network and targets

static const struct field awsvpc_fields[] = {
	{.name = "subnets",
	 .type = FIELD_LIST,
	 .flags = FIELD_REQUIRED | FIELD_UNIQUE,
	 .min = 1,
	 .max = TASK_SUBNETS_MAX,
	 .element = &(const struct field){.type = FIELD_TEXT, FIELD_REFERS_TO(MODEL_SUBNET)},
	 FIELD_LIST_AT(task_spec, subnets, subnet_count)},
	{.name = "securityGroups",
	 .type = FIELD_LIST,
	 .flags = FIELD_REQUIRED | FIELD_UNIQUE | FIELD_SET,
	 .min = 1,
	 .max = TASK_SECURITY_GROUPS_MAX,
	 .element =
		 &(const struct field){.type = FIELD_TEXT, FIELD_REFERS_TO(MODEL_SECURITY_GROUP)},
	 FIELD_LIST_AT(task_spec, security_groups, security_group_count)},
	{.name = "assignPublicIp",
	 .type = FIELD_CONSTANT,
	 .flags = FIELD_SPARSE,
	 .expected = "DISABLED",
	 .text = "public addresses are not built yet"},
};
// Its structs are parts of the task's: offsets count from there.
static const struct field_table awsvpc_table = {FIELD_TABLE(task_spec, awsvpc_fields)};

static const struct field network_fields[] = {
	{.name = "awsvpcConfiguration",
	 .type = FIELD_OBJECT,
	 .flags = FIELD_REQUIRED,
	 .table = &awsvpc_table},
};
static const struct field_table network_table = {FIELD_TABLE(task_spec, network_fields)};

static const struct field target_fields[] = {
	{.name = "targetGroup",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 FIELD_REFERS_TO(MODEL_TARGET_GROUP),
	 FIELD_AT(task_target, target_group)},
	{.name = "containerName",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = CONTAINER_NAME_MAX,
	 .text = "",
	 FIELD_AT(task_target, container_name)},
	{.name = "containerPort",
	 .type = FIELD_U32,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = 65535,
	 FIELD_AT(task_target, container_port)},
};
static const struct field_table target_table = {FIELD_TABLE(task_target, target_fields)};

// ---------------------------------------------------------------- platform and tags

struct nothing {
	char unused;
};

static const struct field platform_fields[] = {
	{.name = "operatingSystemFamily",
	 .type = FIELD_CONSTANT,
	 .expected = "LINUX",
	 .text = "Windows is refused"},
	{.name = "cpuArchitecture",
	 .type = FIELD_CONSTANT,
	 .expected = "X86_64",
	 .text = "other architectures are not built yet"},
};
static const struct field_table platform_table = {FIELD_TABLE(nothing, platform_fields)};

static void parse_platform(struct parse *parse, const struct place *place,
			   const struct field *field, const cJSON *value, void *target)
{
	(void)field;
	(void)target;
	if (value)
		fields_parse(parse, place, &platform_table, value, &(struct nothing){0});
}

static void render_nothing(struct json_writer *writer, const struct field *field,
			   const void *source)
{
	(void)writer;
	(void)field;
	(void)source;
}

static const struct field tag_fields[] = {
	{.name = "key",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 .min = 1,
	 .max = 128,
	 .text = "",
	 .complaint = complain_printable,
	 FIELD_AT(name_value, name)},
	{.name = "value",
	 .type = FIELD_TEXT,
	 .flags = FIELD_REQUIRED,
	 .max = 256,
	 .text = "",
	 .complaint = complain_printable,
	 FIELD_AT(name_value, value)},
};
static const struct field_table tag_table = {FIELD_TABLE(name_value, tag_fields)};

// ---------------------------------------------------------------- task

static const struct field task_fields[] = {
	{.name = "family",
	 .type = FIELD_TEXT,
	 .min = 1,
	 .max = 255,
	 .text = "",
	 .complaint = complain_name,
	 FIELD_AT(task_spec, family)},
	{.name = "cpu",
	 .type = FIELD_CUSTOM,
	 .flags = FIELD_REQUIRED,
	 .expected = "vCPU",
	 .text = "\"256\" or \"0.25 vCPU\"",
	 .parse = parse_quantity,
	 .render = render_quantity,
	 FIELD_AT(task_spec, cpu_units)},
	{.name = "memory",
	 .type = FIELD_CUSTOM,
	 .flags = FIELD_REQUIRED,
	 .expected = "GB",
	 .text = "\"512\" or \"0.5 GB\"",
	 .parse = parse_quantity,
	 .render = render_quantity,
	 FIELD_AT(task_spec, memory_mib)},
	{.name = "ephemeralStorage",
	 .type = FIELD_CUSTOM,
	 .parse = parse_storage,
	 .render = render_storage,
	 FIELD_AT(task_spec, ephemeral_storage_gib)},
	{.name = "containerDefinitions",
	 .type = FIELD_LIST,
	 .flags = FIELD_REQUIRED | FIELD_SET,
	 .min = 1,
	 .max = TASK_CONTAINERS_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &container_table},
	 FIELD_LIST_AT(task_spec, containers, container_count)},
	{.name = "volumes",
	 .type = FIELD_LIST,
	 .flags = FIELD_SPARSE | FIELD_SET,
	 .max = TASK_VOLUMES_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &volume_table},
	 FIELD_LIST_AT(task_spec, volumes, volume_count)},
	{.name = "networkConfiguration",
	 .type = FIELD_OBJECT,
	 .flags = FIELD_REQUIRED,
	 .table = &network_table},
	{.name = "loadBalancers",
	 .type = FIELD_LIST,
	 .flags = FIELD_SPARSE | FIELD_SET,
	 .max = TASK_LOAD_BALANCERS_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &target_table},
	 FIELD_LIST_AT(task_spec, targets, target_count)},
	{.name = "tags",
	 .type = FIELD_LIST,
	 .flags = FIELD_SPARSE | FIELD_SET,
	 .max = TASK_TAGS_MAX,
	 .element = &(const struct field){.type = FIELD_OBJECT, .table = &tag_table},
	 FIELD_LIST_AT(task_spec, tags, tag_count)},
	{.name = "networkMode",
	 .type = FIELD_CONSTANT,
	 .flags = FIELD_SPARSE,
	 .expected = "awsvpc",
	 .text = "Fargate refuses other network modes, and so does penstock"},
	{.name = "requiresCompatibilities",
	 .type = FIELD_CONSTANT,
	 .flags = FIELD_SPARSE,
	 .expected = "FARGATE",
	 .text = "that is what penstock is compatible with"},
	{.name = "runtimePlatform",
	 .type = FIELD_CUSTOM,
	 .parse = parse_platform,
	 .render = render_nothing},
	FIELD_NOT_BUILT("executionRoleArn"),
	FIELD_NOT_BUILT("taskRoleArn"),
	FIELD_NOT_BUILT("pidMode"),
	FIELD_NOT_BUILT("proxyConfiguration"),
	FIELD_NOT_BUILT("enableFaultInjection"),
	FIELD_FARGATE_REFUSES("ipcMode"),
	FIELD_FARGATE_REFUSES("inferenceAccelerators"),
	FIELD_FARGATE_REFUSES("placementConstraints"),
};

const struct field_table task_table = {FIELD_TABLE(task_spec, task_fields), .finish = task_check};
