// SPDX-License-Identifier: Apache-2.0
// What the table of documents does not show: the structs themselves, references, links
// and differences.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/scope.h"
#include "agent/model/model.h"

static const char task_text[] =
	"{\"cpu\":\"0.5 vCPU\",\"memory\":\"1 GB\",\"containerDefinitions\":["
	"{\"name\":\"web\",\"image\":\"busybox\",\"environment\":[{\"name\":\"KEY\",\"value\":"
	"\"tops3cret\"}],\"portMappings\":[{\"containerPort\":80}],"
	"\"mountPoints\":[{\"sourceVolume\":\"shared\",\"containerPath\":\"/shared\"}],"
	"\"dependsOn\":[{\"containerName\":\"init\",\"condition\":\"SUCCESS\"},"
	"{\"containerName\":\"log\",\"condition\":\"HEALTHY\"}]},"
	"{\"name\":\"log\",\"image\":\"busybox\",\"dependsOn\":[{\"containerName\":\"init\","
	"\"condition\":\"COMPLETE\"}],\"healthCheck\":{\"command\":[\"CMD-SHELL\",\"true\"]}},"
	"{\"name\":\"init\",\"image\":\"busybox\",\"essential\":false}],"
	"\"volumes\":[{\"name\":\"scratch\"},{\"name\":\"shared\",\"efsVolumeConfiguration\":"
	"{\"fileSystemId\":\"fs-1\"}}],"
	"\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":[\"subnet-a\",\"subnet-b\"]"
	","
	"\"securityGroups\":[\"sg-1\"]}},\"loadBalancers\":[{\"targetGroup\":\"tg-1\","
	"\"containerName\":\"web\",\"containerPort\":80}]}";

static struct model_object parse_good(enum model_kind kind, const char *id, const char *text,
				      struct arena *arena)
{
	struct fault_list faults = {.arena = arena};
	struct model_object object;

	if (model_parse(kind, id, text, strlen(text), arena, &object, &faults) < 0)
		fail_msg("%s: %s", faults.faults[0].pointer, faults.faults[0].message);
	return object;
}

// ---------------------------------------------------------------- tasks

static void test_task_struct(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	struct model_object object = parse_good(MODEL_TASK, "t-1", task_text, &arena);
	const struct task_spec *task = object.task;

	(void)state;
	assert_string_equal(object.id, "t-1");
	assert_string_equal(task->family, "t-1");
	assert_int_equal(task->cpu_units, 512);
	assert_int_equal(task->memory_mib, 1024);
	assert_int_equal(task->ephemeral_storage_gib, 20);
	assert_int_equal(task->container_count, 3);
	assert_true(task->containers[0].essential);
	assert_int_equal(task->containers[0].mounts[0].volume, 1);
	assert_int_equal(task->containers[0].depends_on[1].container, 1);
	assert_int_equal(task->containers[0].ports[0].last_port, 80);
	assert_int_equal(task->containers[0].stop_timeout_seconds, 30);
	assert_null(task->containers[0].health_check);
	assert_string_equal(task->containers[0].user, "");
	assert_true(task->containers[1].health_check->shell);
	assert_int_equal(task->containers[1].health_check->argument_count, 1);
	assert_string_equal(task->containers[1].health_check->arguments[0], "true");
	assert_int_equal(task->volumes[0].kind, VOLUME_EPHEMERAL);
	assert_int_equal(task->volumes[1].kind, VOLUME_FILE_SYSTEM);
	assert_string_equal(task->volumes[1].efs->root_directory, "/");
	assert_int_equal(task->targets[0].container, 0);
	assert_int_equal(task->start_order[0], 2);
	assert_int_equal(task->start_order[1], 1);
	assert_int_equal(task->start_order[2], 0);
}

static void test_redaction(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer plain = {0};
	scoped(buffer_release) struct buffer redacted = {0};
	struct model_object object = parse_good(MODEL_TASK, "t-1", task_text, &arena);

	(void)state;
	model_render(&object, MODEL_RENDER_PLAIN, &plain);
	model_render(&object, MODEL_RENDER_REDACTED, &redacted);
	assert_non_null(strstr(plain.data, "tops3cret"));
	assert_null(strstr(redacted.data, "tops3cret"));
	assert_non_null(strstr(redacted.data, "{\"name\":\"KEY\",\"value\":\"<redacted>\"}"));
	assert_non_null(strstr(plain.data, "\"command\":[\"CMD-SHELL\",\"true\"]"));
	assert_null(strstr(redacted.data, "\"true\""));
	assert_non_null(strstr(redacted.data, "\"command\":[\"<redacted>\",\"<redacted>\"]"));
}

static void test_bad_id(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	struct fault_list faults = {.arena = &arena};
	struct model_object object;

	(void)state;
	assert_int_equal(model_parse(MODEL_TASK, "T 1", task_text, strlen(task_text), &arena,
				     &object, &faults),
			 -EINVAL);
	assert_int_equal(faults.count, 1);
	assert_string_equal(faults.faults[0].pointer, "");
}

static void test_too_large(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer text = {0};
	struct fault_list faults = {.arena = &arena};
	struct model_object object;

	(void)state;
	buffer_adds(&text, "{\"family\":\"");
	while (text.length < 1024 * 1024)
		buffer_adds(&text, "xxxxxxxxxxxxxxxx");
	buffer_adds(&text, "\"}");
	assert_int_equal(
		model_parse(MODEL_TASK, "t-1", text.data, text.length, &arena, &object, &faults),
		-EFBIG);
	assert_int_equal(faults.count, 1);
}

static void test_faults_are_capped(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer text = {0};
	struct fault_list faults = {.arena = &arena};
	struct model_object object;

	(void)state;
	buffer_adds(&text, "{\"x\":0");
	for (int i = 0; i < 100; i++)
		buffer_addf(&text, ",\"y%d\":0", i);
	buffer_adds(&text, "}");
	assert_int_equal(
		model_parse(MODEL_TASK, "t-1", text.data, text.length, &arena, &object, &faults),
		-EINVAL);
	assert_int_equal(faults.count, FAULTS_MAX);
	text.length = 0;
	model_error_render("InvalidParameter", "", &faults, &text);
	assert_non_null(
		strstr(text.data, "\"/y62\",\"message\":\"unknown field\"}],\"more\":true}"));
}

// What a task may say must fit the guest's manifest.
static void test_manifest_budget(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer text = {0};
	struct fault_list faults = {.arena = &arena};
	struct model_object object;

	(void)state;
	buffer_adds(&text, "{\"cpu\":\"256\",\"memory\":\"512\",\"networkConfiguration\":"
			   "{\"awsvpcConfiguration\":{\"subnets\":[\"a\"],\"securityGroups\":"
			   "[\"b\"]}},\"containerDefinitions\":[{\"name\":\"a\",\"image\":\"b\","
			   "\"command\":[\"0\"");
	for (int i = 0; i < 16; i++)
		buffer_addf(&text, ",\"%0*d\"", 20000, i);
	buffer_adds(&text, "]}]}");
	assert_int_equal(
		model_parse(MODEL_TASK, "t-1", text.data, text.length, &arena, &object, &faults),
		-EINVAL);
	assert_string_equal(faults.faults[0].pointer, "/containerDefinitions");
}

// ---------------------------------------------------------------- references and links

static void test_references(void **state)
{
	static const struct {
		enum model_kind kind;
		const char *id, *pointer;
	} expected[] = {
		{MODEL_FILE_SYSTEM, "fs-1", "/volumes/1/efsVolumeConfiguration/fileSystemId"},
		{MODEL_SUBNET, "subnet-a", "/networkConfiguration/awsvpcConfiguration/subnets/0"},
		{MODEL_SUBNET, "subnet-b", "/networkConfiguration/awsvpcConfiguration/subnets/1"},
		{MODEL_SECURITY_GROUP, "sg-1",
		 "/networkConfiguration/awsvpcConfiguration/securityGroups/0"},
		{MODEL_TARGET_GROUP, "tg-1", "/loadBalancers/0/targetGroup"},
	};
	scoped(arena_release) struct arena arena = {0};
	struct model_object object = parse_good(MODEL_TASK, "t-1", task_text, &arena);
	const struct model_reference *references;
	size_t count;

	(void)state;
	model_references(&object, &arena, &references, &count);
	assert_int_equal(count, ARRAY_LENGTH(expected));
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(references[i].kind, expected[i].kind);
		assert_string_equal(references[i].id, expected[i].id);
		assert_string_equal(references[i].pointer, expected[i].pointer);
	}
}

struct world {
	struct model_object objects[16];
	size_t count;
};

static const struct model_object *lookup(void *context, enum model_kind kind, const char *id)
{
	const struct world *world = context;

	for (size_t i = 0; i < world->count; i++)
		if (world->objects[i].kind == kind && strcmp(world->objects[i].id, id) == 0)
			return &world->objects[i];
	return NULL;
}

static void world_add(struct world *world, enum model_kind kind, const char *id, const char *text,
		      struct arena *arena)
{
	world->objects[world->count++] = parse_good(kind, id, text, arena);
}

static struct world world_make(struct arena *arena)
{
	struct world world = {.count = 0};

	world_add(&world, MODEL_VPC, "vpc-1", "{\"cidrBlock\":\"10.0.0.0/16\"}", arena);
	world_add(&world, MODEL_VPC, "vpc-2", "{\"cidrBlock\":\"10.0.0.0/16\"}", arena);
	world_add(&world, MODEL_SUBNET, "subnet-a",
		  "{\"vpcId\":\"vpc-1\",\"cidrBlock\":\"10.0.1.0/24\"}", arena);
	world_add(&world, MODEL_SUBNET, "subnet-b",
		  "{\"vpcId\":\"vpc-1\",\"cidrBlock\":\"10.0.2.0/24\"}", arena);
	world_add(&world, MODEL_SECURITY_GROUP, "sg-1", "{\"vpcId\":\"vpc-1\"}", arena);
	world_add(&world, MODEL_SECURITY_GROUP, "sg-2", "{\"vpcId\":\"vpc-2\"}", arena);
	world_add(&world, MODEL_TARGET_GROUP, "tg-1", "{\"vpcId\":\"vpc-1\",\"port\":80}", arena);
	world_add(&world, MODEL_FILE_SYSTEM, "fs-1", "{\"mountTargets\":[{\"ip\":\"192.0.2.1\"}]}",
		  arena);
	return world;
}

static void expect_links(struct arena *arena, enum model_kind kind, const char *text,
			 const char *pointer, const char *message)
{
	struct world world = world_make(arena);
	struct fault_list faults = {.arena = arena};
	struct model_object object = parse_good(kind, "x-1", text, arena);

	model_check_links(&object, lookup, &world, &faults);
	assert_int_equal(faults.count, pointer ? 1 : 0);
	if (!pointer)
		return;
	assert_string_equal(faults.faults[0].pointer, pointer);
	assert_string_equal(faults.faults[0].message, message);
}

static void test_links(void **state)
{
	scoped(arena_release) struct arena arena = {0};

	(void)state;
	expect_links(&arena, MODEL_TASK, task_text, NULL, NULL);
	expect_links(&arena, MODEL_SUBNET, "{\"vpcId\":\"vpc-9\",\"cidrBlock\":\"10.0.1.0/24\"}",
		     "/vpcId", "there is no vpc \"vpc-9\"");
	expect_links(&arena, MODEL_SUBNET, "{\"vpcId\":\"vpc-1\",\"cidrBlock\":\"10.1.0.0/24\"}",
		     "/cidrBlock", "must be in the VPC's block 10.0.0.0/16");
	expect_links(&arena, MODEL_LOAD_BALANCER,
		     "{\"subnetId\":\"subnet-a\",\"securityGroups\":[\"sg-1\",\"sg-2\"]}",
		     "/securityGroups/1",
		     "security-group \"sg-2\" is of VPC \"vpc-2\", not of \"vpc-1\"");
	expect_links(&arena, MODEL_SECURITY_GROUP,
		     "{\"vpcId\":\"vpc-1\",\"ipPermissions\":[{\"ipProtocol\":\"-1\","
		     "\"userIdGroupPairs\":[{\"groupId\":\"x-1\"},{\"groupId\":\"sg-7\"}]}]}",
		     "/ipPermissions/0/userIdGroupPairs/1/groupId",
		     "there is no security-group \"sg-7\"");
}

// Both paths are fine alone, and together longer than a mount takes.
static void test_long_volume_path(void **state)
{
	static const char volume[] = "{\"fileSystemId\":\"fs-1\",\"rootDirectory\":\"";
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer text = {0}, path = {0};
	struct world world = world_make(&arena);
	struct fault_list faults = {.arena = &arena};
	const char *rest = strstr(task_text, "{\"fileSystemId\"");
	struct model_object object;

	(void)state;
	for (int i = 0; i < 102; i++)
		buffer_adds(&path, "/123456789");
	buffer_add(&text, task_text, (size_t)(rest - task_text));
	buffer_addf(&text, "%s%s\"}%s", volume, buffer_text(&path), strchr(rest, '}') + 1);
	object = parse_good(MODEL_TASK, "x-1", buffer_text(&text), &arena);
	model_check_links(&object, lookup, &world, &faults);
	assert_int_equal(faults.count, 0);

	world.count--; // the file system is the last
	world_add(&world, MODEL_FILE_SYSTEM, "fs-1",
		  "{\"mountTargets\":[{\"ip\":\"192.0.2.1\"}],\"exportPath\":\"/fs\"}", &arena);
	model_check_links(&object, lookup, &world, &faults);
	assert_int_equal(faults.count, 0);
	world.count--;
	world_add(&world, MODEL_FILE_SYSTEM, "fs-1",
		  "{\"mountTargets\":[{\"ip\":\"192.0.2.1\"}],\"exportPath\":\"/fs1\"}", &arena);
	model_check_links(&object, lookup, &world, &faults);
	assert_int_equal(faults.count, 1);
	assert_string_equal(faults.faults[0].pointer,
			    "/volumes/1/efsVolumeConfiguration/rootDirectory");
}

// ---------------------------------------------------------------- file systems

static void test_mount_target_for(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	struct model_object object = parse_good(
		MODEL_FILE_SYSTEM, "fs-1",
		"{\"mountTargets\":[{\"ip\":\"192.0.2.1\"},{\"ip\":\"10.0.1.9\",\"port\":2050},"
		"{\"ip\":\"10.0.2.9\"}]}",
		&arena);
	const struct mount_target *targets = object.file_system->mount_targets;

	(void)state;
	assert_ptr_equal(mount_target_for(object.file_system, &(struct ipv4_cidr){0x0a000100, 24}),
			 &targets[1]);
	assert_ptr_equal(mount_target_for(object.file_system, &(struct ipv4_cidr){0x0a000200, 24}),
			 &targets[2]);
	assert_ptr_equal(mount_target_for(object.file_system, &(struct ipv4_cidr){0x0a000300, 24}),
			 &targets[0]);
}

static void expect_faults(struct arena *arena, enum model_kind kind, const char *text,
			  const char *const *pointers)
{
	struct world world = world_make(arena);
	struct fault_list faults = {.arena = arena};
	struct model_object object;
	uint32_t count = 0;

	assert_int_equal(model_parse(kind, "x-1", text, strlen(text), arena, &object, &faults),
			 -EINVAL);
	model_check_links(&object, lookup, &world, &faults);
	for (; pointers[count]; count++) {
		assert_true(count < faults.count);
		assert_string_equal(faults.faults[count].pointer, pointers[count]);
	}
	assert_int_equal(faults.count, count);
}
#define POINTERS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_links_of_what_is_sound(void **state)
{
	scoped(arena_release) struct arena arena = {0};

	(void)state;
	expect_faults(&arena, MODEL_SUBNET, "{\"vpcId\":\"vpc-9\",\"colour\":1}",
		      POINTERS("/colour", "/cidrBlock", "/vpcId"));
	expect_faults(&arena, MODEL_SUBNET, "{\"vpcId\":\"vpc-1\",\"cidrBlock\":\"10.1.0.0/29\"}",
		      POINTERS("/cidrBlock"));
	expect_faults(&arena, MODEL_SUBNET, "{\"vpcId\":7,\"cidrBlock\":\"10.0.1.0/24\"}",
		      POINTERS("/vpcId"));
	expect_faults(&arena, MODEL_LOAD_BALANCER,
		      "{\"subnetId\":\"X\",\"securityGroups\":[\"sg-7\",\"sg-7\"]}",
		      POINTERS("/subnetId", "/securityGroups/1", "/securityGroups/0"));
	for (int kind = 0; kind < MODEL_KIND_COUNT; kind++)
		expect_faults(&arena, (enum model_kind)kind, "nothing", POINTERS(""));
}

// ---------------------------------------------------------------- rules

static void test_rules(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	struct model_object object = parse_good(
		MODEL_SECURITY_GROUP, "sg-1",
		"{\"vpcId\":\"vpc-1\",\"ipPermissions\":[{\"ipProtocol\":\"tcp\",\"fromPort\":80,"
		"\"toPort\":90,\"ipRanges\":[{\"cidrIp\":\"10.0.0.0/8\",\"description\":\"all\"}],"
		"\"userIdGroupPairs\":[{\"groupId\":\"sg-2\"}]}]}",
		&arena);
	struct sg_group group = security_group_rules("sg-1", object.security_group, &arena);
	struct sg_group other = security_group_rules("sg-3", object.security_group, &arena);
	const struct sg_rule *rules = group.rules[SG_INGRESS].rules;

	(void)state;
	assert_int_equal(group.rules[SG_INGRESS].count, 2);
	assert_int_equal(rules[0].protocol, 6);
	assert_int_equal(rules[0].from_port, 80);
	assert_int_equal(rules[0].to_port, 90);
	assert_int_equal(rules[0].cidr.base, 0x0a000000);
	assert_null(rules[0].group_id);
	assert_string_equal(rules[0].description, "all");
	assert_string_equal(rules[1].group_id, "sg-2");
	assert_int_equal(strlen(rules[0].id), strlen("sgr-") + 17);
	assert_string_not_equal(rules[0].id, rules[1].id);
	assert_string_not_equal(rules[0].id, other.rules[SG_INGRESS].rules[0].id);
	assert_int_equal(group.rules[SG_EGRESS].count, 1);
	assert_int_equal(group.rules[SG_EGRESS].rules[0].protocol, SG_PROTOCOL_ALL);
}

// What is counted for a rule, and what explains a packet, follows it through changes of its group.
static void test_rule_ids_are_stable(void **state)
{
	static const char one[] =
		"{\"vpcId\":\"vpc-1\",\"ipPermissions\":[{\"ipProtocol\":\"47\",\"ipRanges\":"
		"[{\"cidrIp\":\"10.0.0.0/8\"}]}]}";
	static const char two[] =
		"{\"vpcId\":\"vpc-1\",\"ipPermissions\":[{\"ipProtocol\":\"-1\",\"ipRanges\":"
		"[{\"cidrIp\":\"10.1.0.0/"
		"16\"}]},{\"ipProtocol\":\"47\",\"fromPort\":7,\"ipRanges\":"
		"[{\"cidrIp\":\"10.0.0.0/8\",\"description\":\"new\"}]}]}";
	scoped(arena_release) struct arena arena = {0};
	struct model_object before = parse_good(MODEL_SECURITY_GROUP, "sg-1", one, &arena);
	struct model_object after = parse_good(MODEL_SECURITY_GROUP, "sg-1", two, &arena);
	struct sg_group old = security_group_rules("sg-1", before.security_group, &arena);
	struct sg_group new = security_group_rules("sg-1", after.security_group, &arena);

	(void)state;
	assert_string_equal(old.rules[SG_INGRESS].rules[0].id, new.rules[SG_INGRESS].rules[1].id);
}

// ---------------------------------------------------------------- differences

static void test_mutable(void **state)
{
	(void)state;
	assert_false(model_field_is_mutable(MODEL_VPC, "/cidrBlock"));
	assert_true(model_field_is_mutable(MODEL_VPC, "/attachments/0/address"));
	assert_true(model_field_is_mutable(MODEL_SECURITY_GROUP, "/ipPermissions"));
	assert_false(model_field_is_mutable(MODEL_TASK, "/tags"));
	assert_false(model_field_is_mutable(MODEL_SUBNET, ""));
}

// ---------------------------------------------------------------- kinds

static void test_kinds(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MODEL_KIND_COUNT; i++) {
		enum model_kind kind;

		assert_int_equal(model_kind_from_name(model_kind_name((enum model_kind)i), &kind),
				 0);
		assert_int_equal(kind, i);
		assert_int_equal(model_kind_from_path(model_kind_path((enum model_kind)i), &kind),
				 0);
		assert_int_equal(kind, i);
	}
	assert_int_equal(model_kind_from_path("access-points", &(enum model_kind){0}), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_task_struct),
		cmocka_unit_test(test_redaction),
		cmocka_unit_test(test_bad_id),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_faults_are_capped),
		cmocka_unit_test(test_manifest_budget),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_long_volume_path),
		cmocka_unit_test(test_mount_target_for),
		cmocka_unit_test(test_links_of_what_is_sound),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_rule_ids_are_stable),
		cmocka_unit_test(test_mutable),
		cmocka_unit_test(test_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
