// SPDX-License-Identifier: Apache-2.0
// Statuses, and the documents around objects.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/clock.h"
#include "agent/base/json.h"
#include "agent/base/scope.h"
#include "agent/model/image_config.h"
#include "agent/model/metadata.h"
#include "agent/model/model.h"
#include "agent/model/stop.h"

static const char task_text[] =
	"{\"cpu\":\"0.5 vCPU\",\"memory\":\"1 GB\",\"containerDefinitions\":["
	"{\"name\":\"web\",\"image\":\"busybox\",\"environment\":[{\"name\":\"KEY\",\"value\":"
	"\"tops3cret\"}],\"portMappings\":[{\"containerPort\":80},{\"containerPortRange\":"
	"\"8000-8009\"}]},"
	"{\"name\":\"init\",\"image\":\"busybox\",\"essential\":false}],"
	"\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":[\"subnet-a\"],"
	"\"securityGroups\":[\"sg-1\"]}}}";

static struct model_object parse_good(enum model_kind kind, const char *id, const char *text,
				      struct arena *arena)
{
	struct fault_list faults = {.arena = arena};
	struct model_object object;

	if (model_parse(kind, id, text, strlen(text), arena, &object, &faults) < 0)
		fail_msg("%s: %s", faults.faults[0].pointer, faults.faults[0].message);
	return object;
}

static cJSON *parse_json(const char *text)
{
	struct json_fault fault;
	cJSON *value;

	if (json_read(text, strlen(text), &json_limits_api, &value, &fault) < 0)
		fail_msg("%s: %s in %s", fault.pointer, fault.message, text);
	return value;
}

static const char *text_at(const cJSON *object, const char *name)
{
	const cJSON *member = json_member(object, name);

	assert_non_null(member);
	return cJSON_GetStringValue(member);
}

// ---------------------------------------------------------------- status

static struct task_status example_status(struct container_status containers[2], const char **groups)
{
	groups[0] = "sg-1";
	containers[0] = (struct container_status){.name = "web",
						  .image = "busybox",
						  .last_status = CONTAINER_RUNNING,
						  .exit_code = CONTAINER_EXIT_NONE,
						  .started_ms = 1769850487654};
	containers[1] = (struct container_status){.name = "init",
						  .image = "busybox",
						  .index = 1,
						  .last_status = CONTAINER_STOPPED,
						  .exit_code = 0,
						  .reason = "bad \xff byte \"and\" \x01"};
	container_docker_id("t-1", 1769850487000, 0, containers[0].docker_id);
	container_docker_id("t-1", 1769850487000, 1, containers[1].docker_id);
	return (struct task_status){
		.last_status = TASK_RUNNING,
		.desired_status = TASK_RUNNING,
		.health = HEALTH_HEALTHY,
		.created_ms = 1769850487000,
		.containers = containers,
		.container_count = 2,
		.network = {.vpc_id = "vpc-1",
			    .subnet_id = "subnet-a",
			    .eni_id = "eni-1",
			    .security_groups = groups,
			    .security_group_count = 1,
			    .private_ipv4_address = 0x0a000105,
			    .gateway = 0x0a000101,
			    .prefix = 24,
			    .mac_address = "02:00:00:00:00:01",
			    .interface_name = "ps0123456789abc"},
		.driver = "netns",
		.uid = 4294967295,
		.shim = {.pid = 4711, .start_time = 123456789012},
		.progress = {[STEP_ENI] = {true, 1500, 900, 40}},
		.drain_seconds = TASK_DRAIN_DEFAULT,
		.version = 7,
	};
}

static void test_status(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer first = {0};
	scoped(buffer_release) struct buffer second = {0};
	struct container_status containers[2];
	const char *groups[1];
	struct task_status status = example_status(containers, groups), again;
	struct error err = {0};

	(void)state;
	task_status_render(&status, &first);
	if (task_status_parse(first.data, first.length, &arena, &again, &err) < 0)
		fail_msg("%s", err.message);
	task_status_render(&again, &second);
	assert_string_equal(first.data, second.data);
	assert_int_equal(again.last_status, TASK_RUNNING);
	assert_int_equal(again.created_ms, 1769850487000);
	assert_int_equal(again.stopped_ms, 0);
	assert_int_equal(again.containers[0].started_ms, 1769850487654);
	assert_int_equal(again.containers[0].exit_code, CONTAINER_EXIT_NONE);
	assert_int_equal(again.containers[1].exit_code, 0);
	assert_string_equal(again.containers[1].reason, "bad ? byte \"and\" \x01");
	assert_string_equal(again.containers[1].docker_id, containers[1].docker_id);
	assert_int_equal(again.network.private_ipv4_address, 0x0a000105);
	assert_string_equal(again.network.interface_name, "ps0123456789abc");
	assert_string_equal(again.network.security_groups[0], "sg-1");
	assert_null(again.boot_id);
	assert_true(again.uid == 4294967295);
	assert_true(again.drain_seconds == TASK_DRAIN_DEFAULT);
	assert_true(again.shim.start_time == 123456789012);
	assert_true(again.progress[STEP_ENI].applied);
	assert_int_equal(again.progress[STEP_ENI].duration_us, 900);
	assert_int_equal(again.progress[STEP_ENI].own_us, 40);
	assert_false(again.progress[STEP_LINK].applied);
}

// A record that cannot be read back is a task that cannot be deleted.
static void test_times_without_a_format(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer text = {0};
	struct task_status status = {.started_ms = CLOCK_WALL_MS_MAX + 1,
				     .stopping_ms = INT64_MIN,
				     .stopped_ms = INT64_MAX},
			   again;
	struct error err = {0};

	(void)state;
	task_status_render(&status, &text);
	if (task_status_parse(text.data, text.length, &arena, &again, &err) < 0)
		fail_msg("%s", err.message);
	assert_true(again.started_ms == CLOCK_WALL_MS_MAX);
	assert_true(again.stopping_ms == 0);
	assert_true(again.stopped_ms == CLOCK_WALL_MS_MAX);
}

static void test_bad_status(void **state)
{
	static const char *const texts[] = {
		"{",
		"[]",
		"{\"lastStatus\":\"RUNNING\"}",
		"{\"lastStatus\":\"GONE\",\"desiredStatus\":\"RUNNING\",\"healthStatus\":"
		"\"HEALTHY\"}",
		"{\"lastStatus\":\"RUNNING\",\"desiredStatus\":\"RUNNING\",\"healthStatus\":"
		"\"HEALTHY\",\"createdAt\":\"yesterday\"}",
		"{\"lastStatus\":\"RUNNING\",\"desiredStatus\":\"RUNNING\",\"healthStatus\":"
		"\"HEALTHY\",\"createdAt\":\"1969-12-31T23:59:59.999Z\"}",
		"{\"lastStatus\":\"RUNNING\",\"desiredStatus\":\"RUNNING\",\"healthStatus\":"
		"\"HEALTHY\",\"createdAt\":\"9999-12-31T23:59:60.000Z\"}",
	};
	scoped(arena_release) struct arena arena = {0};
	struct task_status status;
	struct error err = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(texts); i++)
		assert_int_equal(
			task_status_parse(texts[i], strlen(texts[i]), &arena, &status, &err),
			-EBADMSG);
}

static void test_object_status(void **state)
{
	static const char text[] =
		"{\"privateIpv4Address\":\"10.0.1.4\",\"error\":\"no \\\"x\\\"\"}";
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer out = {0}, nothing = {0};
	struct object_status status;
	struct error err = {0};

	(void)state;
	assert_int_equal(object_status_parse(text, &arena, &status, &err), 0);
	assert_int_equal(status.private_ipv4_address, 0x0a000104);
	assert_string_equal(status.error, "no \"x\"");
	object_status_render(&status, &out);
	assert_string_equal(buffer_text(&out), text);
	assert_int_equal(object_status_parse(NULL, &arena, &status, &err), 0);
	status.error = "";
	object_status_render(&status, &nothing);
	assert_string_equal(buffer_text(&nothing), "");
	assert_int_equal(object_status_parse("{\"error\":1}", &arena, &status, &err), -EBADMSG);
}

static void test_names(void **state)
{
	enum task_state found;

	(void)state;
	assert_int_equal(task_state_from_name("DEPROVISIONING", &found), 0);
	assert_int_equal(found, TASK_DEPROVISIONING);
	assert_int_equal(task_state_from_name("", &found), -EINVAL);
	assert_string_equal(task_state_name((enum task_state)99), "UNKNOWN");
	assert_string_equal(stop_code_name(STOP_CODE_USER_INITIATED), "UserInitiated");
	assert_string_equal(task_step_name(STEP_TARGETS), "targets");
}

static void test_docker_id(void **state)
{
	char one[DOCKER_ID_SIZE], again[DOCKER_ID_SIZE], other[DOCKER_ID_SIZE];

	(void)state;
	container_docker_id("t-1", 1000, 0, one);
	container_docker_id("t-1", 1000, 0, again);
	container_docker_id("t-1", 1001, 0, other);
	assert_string_equal(one, again);
	assert_string_not_equal(one, other);
	assert_int_equal(strspn(one, "0123456789abcdef"), 32);
	assert_int_equal(one[32], '-');
	assert_int_equal(strspn(one + 33, "0123456789"), 10);
	assert_int_equal(strlen(one), 43);
}

// ---------------------------------------------------------------- other documents

static void test_image_config(void **state)
{
	static const char text[] =
		"{\"architecture\":\"amd64\",\"config\":{\"Env\":[\"PATH=/bin\"],\"Cmd\":[\"sh\"],"
		"\"Entrypoint\":null,\"ExposedPorts\":{\"80/tcp\":{}},\"User\":\"1000\","
		"\"Volumes\":{\"/data/\":{},\"/var/lib\":null}},"
		"\"rootfs\":{\"type\":\"layers\"}}";
	scoped(arena_release) struct arena arena = {0};
	struct image_config config;
	struct error err = {0};

	(void)state;
	assert_int_equal(image_config_parse(text, strlen(text), &arena, &config, &err), 0);
	assert_int_equal(config.entry_point_count, 0);
	assert_string_equal(config.command[0], "sh");
	assert_string_equal(config.environment[0], "PATH=/bin");
	assert_string_equal(config.user, "1000");
	assert_string_equal(config.working_directory, "");
	assert_string_equal(config.stop_signal, "SIGTERM");
	assert_true(image_config_has_volume(&config, "/data"));
	assert_true(image_config_has_volume(&config, "/var/lib"));
	assert_false(image_config_has_volume(&config, "/var"));
	assert_int_equal(
		image_config_parse("{\"config\":{\"Cmd\":\"sh\"}}", 23, &arena, &config, &err),
		-EBADMSG);
	assert_string_equal(err.message, "/config/Cmd: must be a list, not a string");
}

static void test_stop_signals(void **state)
{
	static const struct {
		const char *name;
		int number;
	} cases[] = {
		{"SIGTERM", 15}, {"SIGQUIT", 3},    {"quit", 3},        {"WINCH", 28},
		{"9", 9},        {"64", 64},        {"SIGRTMIN+3", 37}, {"RTMIN+31", 15},
		{"0", 15},       {"65", 15},        {"SIGNOTHING", 15}, {"", 15},
		{"SIG", 15},     {"SIGSIGINT", 15},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		const struct image_config config = {.stop_signal = cases[i].name};

		assert_int_equal(image_config_stop_signal(&config), cases[i].number);
	}
}

static void test_stop_request(void **state)
{
	static const char text[] =
		"{\"reason\":\"deploy\",\"stopCode\":\"TerminationNotice\",\"drainSeconds\":0}";
	static const char wrong[] =
		"{\"drainSeconds\":-1,\"stopCode\":\"InfrastructureHealth\",\"now\":true}";
	scoped(arena_release) struct arena arena = {0};
	struct fault_list faults = {.arena = &arena};
	struct task_stop_request stop;

	(void)state;
	assert_int_equal(task_stop_parse("", 0, &arena, &stop, &faults), 0);
	assert_string_equal(stop.reason, "");
	assert_int_equal(stop.code, STOP_CODE_USER_INITIATED);
	assert_true(stop.drain_seconds == TASK_DRAIN_DEFAULT);
	assert_int_equal(task_stop_parse(text, strlen(text), &arena, &stop, &faults), 0);
	assert_string_equal(stop.reason, "deploy");
	assert_int_equal(stop.code, STOP_CODE_TERMINATION_NOTICE);
	assert_int_equal(stop.drain_seconds, 0);
	assert_int_equal(task_stop_parse(wrong, strlen(wrong), &arena, &stop, &faults), -EINVAL);
	assert_int_equal(faults.count, 3);
}

static void check_container_metadata(const cJSON *container)
{
	const cJSON *network = cJSON_GetArrayItem(json_member(container, "Networks"), 0);
	const cJSON *ports = json_member(container, "Ports");

	assert_string_equal(text_at(container, "Name"), "web");
	assert_string_equal(text_at(container, "KnownStatus"), "RUNNING");
	assert_string_equal(text_at(container, "Type"), "NORMAL");
	assert_true(json_member(cJSON_GetArrayItem(ports, 0), "ContainerPort")->valuedouble == 80);
	assert_string_equal(text_at(cJSON_GetArrayItem(ports, 1), "ContainerPortRange"),
			    "8000-8009");
	assert_string_equal(text_at(network, "NetworkMode"), "awsvpc");
	assert_string_equal(text_at(network, "IPv4SubnetCIDRBlock"), "10.0.1.0/24");
	assert_string_equal(text_at(network, "SubnetGatewayIpv4Address"), "10.0.1.1/24");
}

static void test_metadata(void **state)
{
	static const uint32_t dns[] = {0x0a000002};
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer task_document = {0};
	scoped(buffer_release) struct buffer container_document = {0};
	struct model_object object = parse_good(MODEL_TASK, "t-1", task_text, &arena);
	struct container_status containers[2];
	const char *groups[1];
	struct task_status status = example_status(containers, groups);
	struct metadata_context context = {.cluster = "main",
					   .task_id = "t-1",
					   .availability_zone = "host",
					   .dns_servers = dns,
					   .dns_server_count = 1,
					   .ephemeral_reserved_mib = 20480};
	cJSON *task, *container;

	(void)state;
	metadata_task_render(&context, object.task, &status, &task_document);
	task = parse_json(task_document.data);
	assert_string_equal(text_at(task, "Cluster"), "main");
	assert_string_equal(text_at(task, "Family"), "t-1");
	assert_true(json_member(json_member(task, "Limits"), "CPU")->valuedouble == 0.5);
	assert_int_equal(cJSON_GetArraySize(json_member(task, "Containers")), 2);
	check_container_metadata(json_member(task, "Containers")->child);
	assert_null(strstr(task_document.data, "tops3cret"));
	metadata_container_render(&context, object.task, &status, 0, &container_document);
	container = parse_json(container_document.data);
	check_container_metadata(container);
	cJSON_Delete(task);
	cJSON_Delete(container);
}

static void test_error_document(void **state)
{
	scoped(arena_release) struct arena arena = {0};
	scoped(buffer_release) struct buffer out = {0};
	struct fault_list faults = {.arena = &arena};

	(void)state;
	fault_add(&faults, "/a", "is \"%s\"", "bad");
	model_error_render("InvalidParameter", "two\nlines", &faults, &out);
	assert_string_equal(out.data, "{\"code\":\"InvalidParameter\",\"message\":\"two\\nlines\","
				      "\"details\":[{\"pointer\":\"/a\",\"message\":\"is "
				      "\\\"bad\\\"\"}]}");
}

static void test_list_document(void **state)
{
	scoped(buffer_release) struct buffer out = {0};
	struct model_envelope envelope = {
		.kind = "vpc", .id = "v", .revision = 3, .created_ms = 0, .spec = "{}"};
	struct model_list list;

	(void)state;
	model_list_begin(&list, 9, &out);
	model_list_add(&list, &envelope);
	envelope.status = "{\"a\":1}";
	model_list_add(&list, &envelope);
	model_list_end(&list);
	assert_string_equal(
		out.data,
		"{\"revision\":9,\"items\":[{\"kind\":\"vpc\",\"id\":\"v\",\"revision\":3,"
		"\"createdAt\":\"1970-01-01T00:00:00.000Z\",\"changedAt\":"
		"\"1970-01-01T00:00:00.000Z\",\"spec\":{}},{\"kind\":\"vpc\",\"id\":\"v\","
		"\"revision\":3,\"createdAt\":\"1970-01-01T00:00:00.000Z\",\"changedAt\":"
		"\"1970-01-01T00:00:00.000Z\",\"spec\":{},\"status\":{\"a\":1}}]}");
}

static void test_event_document(void **state)
{
	scoped(buffer_release) struct buffer out = {0};
	struct model_envelope envelope = {.kind = "vpc", .id = "v", .spec = "{}"};
	cJSON *event;

	(void)state;
	model_event_render(&envelope, true, 12, 1769850487654, &out);
	event = parse_json(out.data);
	assert_string_equal(text_at(event, "type"), "DELETE");
	assert_string_equal(text_at(event, "time"), "2026-01-31T09:08:07.654Z");
	assert_string_equal(text_at(json_member(event, "object"), "id"), "v");
	cJSON_Delete(event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_bad_status),
		cmocka_unit_test(test_times_without_a_format),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_docker_id),
		cmocka_unit_test(test_object_status),
		cmocka_unit_test(test_image_config),
		cmocka_unit_test(test_stop_signals),
		cmocka_unit_test(test_stop_request),
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_error_document),
		cmocka_unit_test(test_list_document),
		cmocka_unit_test(test_event_document),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
