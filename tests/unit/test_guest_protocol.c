// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/scope.h"
#include "agent/guest/protocol.h"

#define HEAD "penstock-manifest 1\ntask id=t hostname=h domain=\n"
#define CONTAINER(name)                                                                            \
	"container name=" name " id=0 image=0 essential=1 user= directory= read-only-root=0 "      \
	"start-timeout=1 stop-timeout=1 stop-signal=15 memory-mib=0\nargument value=sh\n"
#define VOLUME "volume name=d kind=directory server= port=0 path= deadline-ms=0\n"

static const char *arguments[] = {"sh", "-c", "echo 100% \"done\"\n", "", "\xc3\xa9\x01\x7f", NULL};
static const char *environment[] = {"A=b c", "EMPTY=", NULL};
static const char *check[] = {"true", NULL};

static struct guest_manifest example(void)
{
	return (struct guest_manifest){
		.task_id = "t-42",
		.hostname = "ip-10-0-1-5",
		.domain = "",
		.nameservers = {"10.0.0.2"},
		.nameserver_count = 1,
		.volumes = {{.name = "data", .server = "", .path = ""},
			    {.name = "shared",
			     .kind = GUEST_VOLUME_NFS,
			     .server = "10.0.9.2",
			     .port = 2049,
			     .path = "/fs-1/my app",
			     .deadline_ms = 30000}},
		.volume_count = 2,
		.containers = {{.name = "web",
				.id = "0f",
				.essential = true,
				.user = "nobody:nogroup",
				.directory = "/srv",
				.read_only_root = true,
				.start_timeout_s = 180,
				.stop_timeout_s = 30,
				.stop_signal = 3,
				.memory_mib = 64,
				.arguments = arguments,
				.argument_count = 5,
				.environment = environment,
				.environment_count = 2,
				.mounts = {{.volume = 1,
					    .path = "/data",
					    .read_only = true,
					    .copy_image = true}},
				.mount_count = 1,
				.health = {.arguments = check,
					   .argument_count = 1,
					   .interval_s = 5,
					   .timeout_s = 2,
					   .retries = 3,
					   .start_period_s = 10}},
			       {.name = "side",
				.id = "1f",
				.image = 3,
				.user = "",
				.directory = "",
				.arguments = arguments,
				.argument_count = 1,
				.environment = environment,
				.dependencies = {{.container = 0,
						  .condition = GUEST_CONDITION_HEALTHY}},
				.dependency_count = 1}},
		.container_count = 2,
	};
}

static void test_manifest_comes_back(void **state)
{
	scoped(buffer_release) struct buffer first = {0}, second = {0};
	scoped(arena_release) struct arena arena = {0};
	struct guest_manifest manifest = example(), found;
	struct error err = {0};

	(void)state;
	assert_int_equal(guest_manifest_encode(&manifest, &first, &err), 0);
	assert_int_equal(guest_manifest_decode(first.data, first.length, &arena, &found, &err), 0);
	assert_int_equal(found.container_count, 2);
	assert_int_equal(found.containers[0].argument_count, 5);
	for (int i = 0; i < 5; i++)
		assert_string_equal(found.containers[0].arguments[i], arguments[i]);
	assert_null(found.containers[0].arguments[5]);
	assert_string_equal(found.containers[0].environment[0], "A=b c");
	assert_string_equal(found.volumes[1].path, "/fs-1/my app");
	assert_true(found.containers[0].mounts[0].read_only);
	assert_true(found.containers[0].mounts[0].copy_image);
	assert_int_equal(found.containers[0].stop_signal, 3);
	assert_int_equal(found.containers[0].memory_mib, 64);
	assert_int_equal(found.containers[1].dependencies[0].condition, GUEST_CONDITION_HEALTHY);
	assert_int_equal(guest_manifest_encode(&found, &second, &err), 0);
	assert_string_equal(first.data, second.data);
}

// Cut anywhere, the document is refused: `end` proves that all of it came.
static void test_manifest_cut_anywhere(void **state)
{
	scoped(buffer_release) struct buffer document = {0};
	struct guest_manifest manifest = example(), found;
	struct error err = {0};

	(void)state;
	assert_int_equal(guest_manifest_encode(&manifest, &document, &err), 0);
	for (size_t length = 0; length < document.length; length++) {
		scoped(arena_release) struct arena arena = {0};

		assert_int_equal(guest_manifest_decode(document.data, length, &arena, &found, &err),
				 -EBADMSG);
	}
}

static const struct {
	const char *document, *message;
} bad_manifests[] = {
	{"", "line 1: not \"penstock-manifest 1\""},
	{"penstock-manifest 2\nend\n", "line 1: not \"penstock-manifest 1\""},
	{"penstock-manifest 1\nend\n", "no task or no container"},
	{HEAD "end\n", "no task or no container"},
	{"penstock-manifest 1\n" CONTAINER("a") "end\n", "no task or no container"},
	{HEAD "task id=t hostname=h domain=\nend\n", "line 3: a second task line"},
	{HEAD "what\nend\n", "line 3: unknown keyword"},
	{HEAD "\nend\n", "line 3: unknown keyword"},
	{HEAD "argument value=a\nend\n", "line 3: argument before any container"},
	{HEAD CONTAINER("a") "end\nmore\n", "line 5: something follows \"end\""},
	{HEAD CONTAINER("a") "argument\nend\n", "line 5: argument: value is missing"},
	{HEAD CONTAINER("a") "argument value=a value=b\nend\n",
	 "line 5: argument: value stands twice"},
	{HEAD CONTAINER("a") "argument  value=a\nend\n", "line 5: argument has no such field"},
	{HEAD CONTAINER("a") "argument value=a b=c\nend\n", "line 5: argument has no such field"},
	{HEAD CONTAINER("a") "argument value=%\nend\n", "line 5: argument: bad value of value"},
	{HEAD CONTAINER("a") "argument value=%4\nend\n", "line 5: argument: bad value of value"},
	{HEAD CONTAINER("a") "argument value=%4g\nend\n", "line 5: argument: bad value of value"},
	{HEAD CONTAINER("a") "argument value=%00\nend\n", "line 5: argument: bad value of value"},
	{HEAD CONTAINER("a") "argument value=\xc3\xa9\nend\n",
	 "line 5: argument: bad value of value"},
	{HEAD CONTAINER("a") "mount volume=0 path=/x read-only=0 copy-image=0\nend\n",
	 "container a: bad mount 0"},
	{HEAD VOLUME CONTAINER("a") "mount volume=0 path=x read-only=0 copy-image=0\nend\n",
	 "container a: bad mount 0"},
	{HEAD VOLUME CONTAINER("a") "mount volume=0 path=/x read-only=2 copy-image=0\nend\n",
	 "line 6: mount: bad value of read-only"},
	{HEAD CONTAINER("a") "dependency container=0 condition=START\nend\n",
	 "container a: bad dependency 0"},
	{HEAD CONTAINER("a") "dependency container=1 condition=START\nend\n",
	 "container a: bad dependency 0"},
	{HEAD CONTAINER("a") "dependency container=10 condition=START\nend\n",
	 "line 5: dependency: bad value of container"},
	{HEAD CONTAINER("a") "dependency container=1 condition=SOON\nend\n",
	 "line 5: dependency: bad value of condition"},
	{HEAD "nameserver address=1\nnameserver address=2\nnameserver address=3\n"
	      "nameserver address=4\nend\n",
	 "line 6: more than 3 nameserver lines"},
};

static void test_manifest_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(bad_manifests); i++) {
		scoped(arena_release) struct arena arena = {0};
		struct guest_manifest found;
		struct error err = {0};
		const char *document = bad_manifests[i].document;

		assert_int_equal(
			guest_manifest_decode(document, strlen(document), &arena, &found, &err),
			-EBADMSG);
		assert_string_equal(err.message, bad_manifests[i].message);
	}
}

static void test_manifest_too_much(void **state)
{
	scoped(buffer_release) struct buffer document = {0};
	scoped(arena_release) struct arena arena = {0};
	struct guest_manifest manifest = example();
	struct error err = {0};
	char *long_text = arena_alloc(&arena, GUEST_MANIFEST_MAX);

	(void)state;
	manifest.container_count = GUEST_CONTAINERS_MAX + 1;
	assert_int_equal(guest_manifest_encode(&manifest, &document, &err), -E2BIG);
	manifest = example();
	manifest.containers[1].mount_count = GUEST_MOUNTS_MAX + 1;
	assert_int_equal(guest_manifest_encode(&manifest, &document, &err), -E2BIG);
	memset(long_text, 'x', GUEST_MANIFEST_MAX - 1);
	manifest = example();
	manifest.containers[0].user = long_text;
	assert_int_equal(guest_manifest_encode(&manifest, &document, &err), -E2BIG);
}

static void test_status_comes_back(void **state)
{
	scoped(buffer_release) struct buffer document = {0};
	struct guest_status status = {
		.phase = GUEST_PHASE_STOPPING,
		.disk_size_bytes = 21474836480,
		.disk_used_bytes = UINT64_MAX,
		.failure = "ResourceInitializationError: 100 %",
		.container_count = 2,
		.containers = {{.state = GUEST_CONTAINER_STOPPED,
				.health = GUEST_HEALTH_UNHEALTHY,
				.exit_code = 137,
				.started_ms = 1,
				.finished_ms = INT64_MAX,
				.reason = "killed"},
			       {.exit_code = GUEST_EXIT_NONE}},
	};
	struct guest_status found;
	struct error err = {0};

	(void)state;
	assert_int_equal(guest_status_encode(&status, &document, &err), 0);
	assert_int_equal(guest_status_decode(document.data, document.length, &found, &err), 0);
	assert_memory_equal(&status, &found, sizeof(status));
}

static void test_status_texts_are_bounded_and_printable(void **state)
{
	scoped(buffer_release) struct buffer document = {0};
	struct guest_status status = {.container_count = 1}, found;
	struct error err = {0};

	(void)state;
	memset(status.failure, '\n', GUEST_FAILURE_MAX - 1);
	memset(status.containers[0].reason, '\x1b', GUEST_REASON_MAX - 1);
	assert_int_equal(guest_status_encode(&status, &document, &err), 0);
	assert_int_equal(guest_status_decode(document.data, document.length, &found, &err), 0);
	assert_int_equal(strlen(found.failure), GUEST_FAILURE_MAX - 1);
	assert_int_equal(strspn(found.failure, "?"), GUEST_FAILURE_MAX - 1);
	assert_int_equal(strspn(found.containers[0].reason, "?"), GUEST_REASON_MAX - 1);

	buffer_release(&document);
	buffer_adds(&document,
		    "penstock-status 1\ntask phase=RUNNING disk-size=0 disk-used=0 failure=");
	for (int i = 0; i < GUEST_FAILURE_MAX; i++)
		buffer_adds(&document, "x");
	buffer_adds(&document, "\nend\n");
	assert_int_equal(guest_status_decode(document.data, document.length, &found, &err),
			 -EBADMSG);
	assert_string_equal(err.message, "line 2: task: bad value of failure");
}

static void test_status_faults(void **state)
{
	static const char *const documents[] = {
		"penstock-status 1\nend\n",
		"penstock-status 1\ntask phase=GONE disk-size=0 disk-used=0 failure=\nend\n",
		"penstock-status 1\ntask phase=ENDED disk-size=-1 disk-used=0 failure=\nend\n",
		"penstock-status 1\ntask phase=ENDED disk-size=18446744073709551616 disk-used=0 "
		"failure=\nend\n",
		"penstock-status 1\ntask phase=ENDED disk-size=0 disk-used=0 failure=\n"
		"container state=STOPPED health=UNKNOWN exit-code=-2 started-ms=0 finished-ms=0 "
		"memory-used=0 "
		"reason=\nend\n",
		"penstock-status 1\ntask phase=ENDED disk-size=0 disk-used=0 failure=\n"
		"container state=STOPPED health=UNKNOWN exit-code=256 started-ms=0 finished-ms=0 "
		"memory-used=0 "
		"reason=\nend\n",
		"penstock-status 1\ntask phase=ENDED disk-size=0 disk-used=0 failure=\n"
		"container state=STOPPED health=UNKNOWN exit-code=-0 started-ms=0 finished-ms=0 "
		"memory-used=0 "
		"reason=\nend\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(documents); i++) {
		struct guest_status found;
		struct error err = {0};

		assert_int_equal(
			guest_status_decode(documents[i], strlen(documents[i]), &found, &err),
			-EBADMSG);
	}
}

static void test_commands_come_back(void **state)
{
	scoped(buffer_release) struct buffer document = {0};
	struct guest_commands commands = {.count = 2,
					  .commands = {{.number = 1}, {.number = UINT64_MAX}}};
	struct guest_commands found;
	struct error err = {0};

	(void)state;
	assert_int_equal(guest_commands_encode(&commands, &document, &err), 0);
	assert_int_equal(guest_commands_decode(document.data, document.length, &found, &err), 0);
	assert_int_equal(found.count, 2);
	assert_true(found.commands[1].number == UINT64_MAX);
}

static void test_queries(void **state)
{
	static const char *const bad[] = {
		"",
		"container=1",
		"container=1&stream=stdout",
		"container=10&stream=stdout&sequence=1",
		"container=1&stream=stdin&sequence=1",
		"container=1&stream=stdout&sequence=-1",
		"container=1&stream=stdout&sequence=18446744073709551616",
		"container=1&stream=stdout&sequence=1&x=1",
		"stream=stdout&container=1&sequence=1",
		"container=1&stream=stdout&sequence=00000000000000000000000001",
	};
	struct guest_log_query query;
	uint64_t after;

	(void)state;
	assert_int_equal(guest_log_query_decode("container=9&stream=stderr&sequence=77", &query),
			 0);
	assert_int_equal(query.container, 9);
	assert_int_equal(query.stream, GUEST_STREAM_STDERR);
	assert_int_equal(query.sequence, 77);
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
		assert_int_equal(guest_log_query_decode(bad[i], &query), -EINVAL);
	assert_int_equal(guest_commands_query_decode("", &after), 0);
	assert_int_equal(after, 0);
	assert_int_equal(guest_commands_query_decode("after=12", &after), 0);
	assert_int_equal(after, 12);
	assert_int_equal(guest_commands_query_decode("after=", &after), -EINVAL);
	assert_int_equal(guest_commands_query_decode("after=1&", &after), 0);
	assert_int_equal(guest_commands_query_decode("before=1", &after), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_manifest_comes_back),
		cmocka_unit_test(test_manifest_cut_anywhere),
		cmocka_unit_test(test_manifest_faults),
		cmocka_unit_test(test_manifest_too_much),
		cmocka_unit_test(test_status_comes_back),
		cmocka_unit_test(test_status_texts_are_bounded_and_printable),
		cmocka_unit_test(test_status_faults),
		cmocka_unit_test(test_commands_come_back),
		cmocka_unit_test(test_queries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
