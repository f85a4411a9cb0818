// SPDX-License-Identifier: Apache-2.0
// The pure parts of a cell: message checks, merging of what a guest says, log files.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/base/buffer.h"
#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "agent/cell/protocol.h"
#include "agent/cell/shim_log.h"
#include "agent/cell/shim_merge.h"

static struct shim_request launch_request(void)
{
	struct shim_request request = {.version = SHIM_PROTOCOL_VERSION, .kind = SHIM_LAUNCH};

	memcpy(request.launch.arguments, "/bin/sleep\0001", 13);
	request.launch.argument_bytes = 13;
	request.launch.argument_count = 2;
	return request;
}

static void test_requests(void **state)
{
	struct shim_request request = {.version = SHIM_PROTOCOL_VERSION, .kind = SHIM_ATTACH};
	struct error err = {0};

	(void)state;
	request.attach.count = 1;
	request.attach.slots[0] = (struct shim_slot){VMM_ATTACH_IMAGE, VMM_IMAGES_MAX - 1};
	assert_int_equal(shim_request_check(&request, 1, &err), 0);
	assert_int_equal(shim_request_check(&request, 0, &err), -EBADMSG);
	assert_int_equal(shim_request_check(&request, 2, &err), -EBADMSG);
	request.attach.slots[0].index = VMM_IMAGES_MAX;
	assert_int_equal(shim_request_check(&request, 1, &err), -EBADMSG);
	request.attach.slots[0] = (struct shim_slot){VMM_ATTACH_LINK, 1};
	assert_int_equal(shim_request_check(&request, 1, &err), -EBADMSG);
	request.attach.slots[0] = (struct shim_slot){VMM_ATTACH_QMP, 0};
	assert_int_equal(shim_request_check(&request, 1, &err), -EBADMSG);
	request.attach.slots[0] = (struct shim_slot){VMM_ATTACH_COUNT, 0};
	assert_int_equal(shim_request_check(&request, 1, &err), -EBADMSG);
	request = (struct shim_request){.version = SHIM_PROTOCOL_VERSION, .kind = SHIM_STOP};
	assert_int_equal(shim_request_check(&request, 0, &err), 0);
	assert_int_equal(shim_request_check(&request, 1, &err), -EBADMSG);
	request.kind = SHIM_REQUEST_KIND_END;
	assert_int_equal(shim_request_check(&request, 0, &err), -EBADMSG);
	request = (struct shim_request){.version = SHIM_PROTOCOL_VERSION + 1, .kind = SHIM_STOP};
	assert_int_equal(shim_request_check(&request, 0, &err), -EBADMSG);
}

static void refuse_launch(const struct shim_request *request)
{
	struct error err = {0};

	assert_int_equal(shim_request_check(request, 0, &err), -EBADMSG);
}

static void test_launches(void **state)
{
	struct shim_request good = launch_request(), bad;
	struct error err = {0};

	(void)state;
	good.launch.fd_count = 2;
	good.launch.fds[0] = (struct vmm_fd){VMM_ATTACH_DISK_READ, 0, 3};
	good.launch.fds[1] = (struct vmm_fd){VMM_ATTACH_QMP, 0, 4};
	assert_int_equal(shim_request_check(&good, 0, &err), 0);
	bad = good;
	bad.launch.fds[1].number = 3; // twice
	refuse_launch(&bad);
	bad.launch.fds[1].number = 2; // the console's
	refuse_launch(&bad);
	bad = good;
	bad.launch.fds[1].attachment = VMM_ATTACH_LISTENER; // stays in the shim
	refuse_launch(&bad);
	bad = good;
	bad.launch.fd_count = VMM_FDS_MAX + 1;
	refuse_launch(&bad);
	bad = good;
	bad.launch.namespaces = CLONE_NEWUSER;
	refuse_launch(&bad);
	bad = good;
	memset(&bad.launch.wants_qmp, 7, 1);
	refuse_launch(&bad);
	bad = good;
	bad.launch.arguments[0] = 'x'; // no absolute path
	refuse_launch(&bad);
	bad = good;
	bad.launch.argument_count = 3; // more words than there are
	refuse_launch(&bad);
	bad = good;
	bad.launch.argument_bytes = VMM_ARGUMENT_BYTES + 1;
	refuse_launch(&bad);
}

static struct cell_status empty_status(void)
{
	return (struct cell_status){.magic = CELL_STATUS_MAGIC,
				    .version = SHIM_PROTOCOL_VERSION,
				    .vmm_started_ms = 1000};
}

static void refuse_status(const struct cell_status *status)
{
	struct error err = {0};

	assert_int_equal(cell_status_check(status, &err), -EBADMSG);
}

static void test_statuses(void **state)
{
	struct cell_status good = empty_status(), bad;
	struct error err = {0};

	(void)state;
	assert_int_equal(cell_status_check(&good, &err), 0);
	bad = good;
	bad.magic++;
	refuse_status(&bad);
	bad = good;
	bad.vmm = VMM_EXITED + 1;
	refuse_status(&bad);
	bad = good;
	bad.guest.container_count = GUEST_CONTAINERS_MAX + 1;
	refuse_status(&bad);
	bad = good;
	memset(bad.guest.failure, 'x', sizeof(bad.guest.failure));
	refuse_status(&bad);
	bad = good;
	memset(bad.guest.containers[9].reason, 'x', GUEST_REASON_MAX);
	refuse_status(&bad);
	bad = good;
	bad.guest.containers[0].exit_code = 256;
	refuse_status(&bad);
}

// What the agent could neither store nor print.
static void test_status_times_and_texts(void **state)
{
	const int64_t bad_times[] = {-1, CLOCK_WALL_MS_MAX + 1, INT64_MAX};
	struct cell_status good = empty_status(), bad;
	struct error err = {0};

	(void)state;
	good.vmm_exited_ms = good.guest.containers[0].finished_ms = CLOCK_WALL_MS_MAX;
	strcpy(good.vmm_failure, "start VMM: /opt/caf\u00e9: not found");
	assert_int_equal(cell_status_check(&good, &err), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(bad_times); i++) {
		bad = good;
		bad.guest.containers[9].started_ms = bad_times[i];
		refuse_status(&bad);
		bad = good;
		bad.guest_running_ms = bad_times[i];
		refuse_status(&bad);
		bad = good;
		bad.guest_silent_since_ms = bad_times[i];
		refuse_status(&bad);
	}
	bad = good;
	strcpy(bad.guest.containers[0].reason, "\x1b[2J");
	refuse_status(&bad);
	bad = good;
	strcpy(bad.vmm_failure, "two\nlines");
	refuse_status(&bad);
	bad = good;
	strcpy(bad.vmm_failure, "C1 \xc2\x9b"
				"2J"); // CSI in UTF-8
	refuse_status(&bad);
	bad = good;
	strcpy(bad.guest.failure, "C1 \x9b"
				  "2J"); // CSI as one byte
	refuse_status(&bad);
}

// Whatever it is made from, the failure is a text that the agent takes.
static void test_failure_is_text(void **state)
{
	struct cell_status status = empty_status();
	struct error err = {0};
	char name[1024];

	(void)state;
	cell_status_fail(&status, "start VMM: %s", "/opt/caf\u00e9\x9b\xc2\x9b\n: not found");
	assert_string_equal(status.vmm_failure, "start VMM: /opt/caf\u00e9????: not found");
	for (size_t offset = 0; offset < 2; offset++) { // one of them is cut within a character
		memset(name, 'x', sizeof(name));
		for (size_t i = offset; i + 2 < sizeof(name); i += 2)
			memcpy(name + i, "\u00e9", 2);
		name[sizeof(name) - 1] = '\0';
		cell_status_fail(&status, "%s", name);
		assert_int_equal(cell_status_check(&status, &err), 0);
	}
}

static struct guest_status say(enum guest_phase phase, enum guest_container_state container,
			       int exit_code)
{
	struct guest_status said = {.phase = phase, .container_count = 1};

	said.containers[0] = (struct guest_container_status){.state = container,
							     .exit_code = exit_code,
							     .started_ms = 1500,
							     .finished_ms = 1600};
	return said;
}

static void test_merge_goes_forward(void **state)
{
	struct cell_status status = empty_status();
	struct guest_container_status *container = &status.guest.containers[0];
	struct guest_status said = say(GUEST_PHASE_RUNNING, GUEST_CONTAINER_RUNNING, -1);
	bool durable;

	(void)state;
	said.containers[0].finished_ms = 0;
	assert_true(cell_status_merge(&status, &said, 2000, &durable));
	assert_true(durable);
	assert_int_equal(status.guest_running_ms, 2000);
	assert_int_equal(container->started_ms, 2000);
	assert_false(cell_status_merge(&status, &said, 2100, &durable));
	assert_false(durable);

	said = say(GUEST_PHASE_CONNECTED, GUEST_CONTAINER_STOPPED, 3);
	assert_true(cell_status_merge(&status, &said, 2200, &durable));
	assert_int_equal(status.guest.phase, GUEST_PHASE_RUNNING); // never back
	assert_int_equal(container->exit_code, 3);
	assert_int_equal(container->finished_ms, 2200);

	said = say(GUEST_PHASE_RUNNING, GUEST_CONTAINER_RUNNING, 0);
	assert_false(cell_status_merge(&status, &said, 2300, &durable)); // stopped is stopped
	assert_int_equal(container->exit_code, 3);
}

static void test_merge_goes_by_the_hosts_clock(void **state)
{
	struct cell_status status = empty_status();
	struct guest_status said = say(GUEST_PHASE_RUNNING, GUEST_CONTAINER_STOPPED, 0);
	bool durable;

	(void)state;
	said.containers[0].started_ms = 999;        // before its VMM
	said.containers[0].finished_ms = INT64_MAX; // in the future
	cell_status_merge(&status, &said, 2000, &durable);
	assert_int_equal(status.guest.containers[0].started_ms, 2000);
	assert_int_equal(status.guest.containers[0].finished_ms, 2000);
}

static void test_merge_keeps_the_first_failure(void **state)
{
	struct cell_status status = empty_status();
	struct guest_status said = {.failure = "ResourceInitializationError: mount"};
	bool durable;

	(void)state;
	assert_true(cell_status_merge(&status, &said, 2000, &durable));
	assert_true(durable);
	strcpy(said.failure, "other");
	assert_false(cell_status_merge(&status, &said, 2000, &durable));
	assert_string_equal(status.guest.failure, "ResourceInitializationError: mount");
}

struct log_test {
	char path[32];
	int directory_fd;
	struct log_file log;
};

static int open_log(void **state)
{
	static struct log_test test;

	strcpy(test.path, "/tmp/penstock-log-XXXXXX");
	assert_non_null(mkdtemp(test.path));
	test.directory_fd = open(test.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	log_file_open(&test.log, test.directory_fd, "web", 4096);
	*state = &test;
	return 0;
}

static int close_log(void **state)
{
	struct log_test *test = *state;
	struct error err = {0};

	log_file_close(&test->log);
	close_fd(&test->directory_fd);
	return directory_remove(AT_FDCWD, test->path, &err);
}

static char *read_log(const struct log_test *test, const char *file)
{
	struct error err = {0};
	char *text;

	if (file_read(test->directory_fd, file, 1 << 20, &text, NULL, &err) < 0)
		fail_msg("%s", err.message);
	return text;
}

static void test_log_lines(void **state)
{
	struct log_test *test = *state;
	struct error err = {0};
	const int64_t time = 1769850487654; // 2026-01-31T09:08:07.654Z

	assert_int_equal(log_file_write_lines(&test->log, time, "stdout", "one\n\ntw", 7, &err), 0);
	assert_int_equal(log_file_write_lines(&test->log, time, "stdout", "o\n", 2, &err), 0);
	scoped_free char *text = read_log(test, "web.log");

	assert_string_equal(text, "2026-01-31T09:08:07.654Z stdout F one\n"
				  "2026-01-31T09:08:07.654Z stdout F \n"
				  "2026-01-31T09:08:07.654Z stdout P tw\n"
				  "2026-01-31T09:08:07.654Z stdout F o\n");
}

static void test_log_rotates(void **state)
{
	struct log_test *test = *state;
	struct error err = {0};
	char block[1500];

	memset(block, 'a', sizeof(block));
	for (int i = 0; i < 10; i++) {
		memset(block, 'a' + i, sizeof(block));
		assert_int_equal(log_file_write(&test->log, block, sizeof(block), &err), 0);
	}
	scoped_free char *current = read_log(test, "web.log");
	scoped_free char *old = read_log(test, "web.log.1");

	assert_int_equal(strlen(current), 3000);
	assert_int_equal(strlen(old), 3000);
	assert_int_equal(current[0], 'i');
	assert_int_equal(old[0], 'g');
	assert_int_equal(faccessat(test->directory_fd, "web.log.2", F_OK, 0), -1);
}

static void test_log_goes_on_when_its_file_was_taken_away(void **state)
{
	struct log_test *test = *state;
	struct error err = {0};
	char block[1500] = "a";

	for (int i = 0; i < 2; i++)
		assert_int_equal(log_file_write(&test->log, block, sizeof(block), &err), 0);
	assert_int_equal(unlinkat(test->directory_fd, "web.log", 0), 0);
	assert_int_equal(log_file_write(&test->log, block, sizeof(block), &err), 0);
	assert_int_equal(faccessat(test->directory_fd, "web.log", F_OK, 0), 0);
}

static void test_log_goes_on_after_restart(void **state)
{
	struct log_test *test = *state;
	struct error err = {0};

	assert_int_equal(log_file_write(&test->log, "one", 3, &err), 0);
	log_file_close(&test->log);
	log_file_open(&test->log, test->directory_fd, "web", 4);
	assert_int_equal(log_file_write(&test->log, "two", 3, &err), 0);
	scoped_free char *current = read_log(test, "web.log");
	scoped_free char *old = read_log(test, "web.log.1");

	assert_string_equal(current, "two");
	assert_string_equal(old, "one");
}

// Two containers whose names differ in the last character alone, and have no room for ".log.1".
static void test_log_of_the_longest_name(void **state)
{
	struct log_test *test = *state;
	struct error err = {0};
	char name[CELL_CONTAINER_NAME_MAX + 1] = "", one[NAME_MAX + 1], other[NAME_MAX + 1];

	memset(name, 'n', CELL_CONTAINER_NAME_MAX - 6);
	cell_log_file(name, true, one);
	assert_int_equal(strlen(one), NAME_MAX);
	assert_memory_equal(one, name, strlen(name));
	memset(name, 'n', CELL_CONTAINER_NAME_MAX);
	assert_true(cell_container_name_is_valid(name));
	cell_log_file(name, false, one);
	log_file_close(&test->log);
	log_file_open(&test->log, test->directory_fd, name, 4);
	assert_int_equal(log_file_write(&test->log, "one", 3, &err), 0);
	assert_int_equal(log_file_write(&test->log, "two", 3, &err), 0);
	scoped_free char *current = read_log(test, one);

	assert_string_equal(current, "two");
	name[CELL_CONTAINER_NAME_MAX - 1] = 'm';
	cell_log_file(name, false, other);
	assert_string_not_equal(one, other);
}

// The guest repeats what was not taken: no line of it may be there twice.
static void test_log_takes_a_chunk_whole_or_not_at_all(void **state)
{
	enum { CHUNK_BYTES = 32768, FULL_BYTES = 20000 };
	struct log_test *test = *state;
	struct rlimit before, full;
	scoped_free char *bytes = malloc(CHUNK_BYTES);
	struct error err = {0};

	memset(bytes, 'x', CHUNK_BYTES);
	log_file_open(&test->log, test->directory_fd, "web", 1 << 20);
	assert_int_equal(log_file_write_lines(&test->log, 0, "stdout", "one\n", 4, &err), 0);
	scoped_free char *one = read_log(test, "web.log");

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	full = (struct rlimit){FULL_BYTES, before.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
	assert_int_equal(log_file_write_lines(&test->log, 0, "stdout", bytes, CHUNK_BYTES, &err),
			 -EFBIG);
	assert_int_equal(log_file_write(&test->log, bytes, CHUNK_BYTES, &err), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	scoped_free char *after = read_log(test, "web.log");

	assert_string_equal(one, after);
	assert_int_equal(log_file_write_lines(&test->log, 0, "stdout", "two\n", 4, &err), 0);
	scoped_free char *two = read_log(test, "web.log");

	assert_string_equal(strstr(two, " F two"), " F two\n");
}

static void test_log_lines_longer_than_the_buffer(void **state)
{
	struct log_test *test = *state;
	scoped_free char *bytes = malloc(32768);
	struct error err = {0};
	size_t letters = 0;

	memset(bytes, 'x', 32768);
	log_file_open(&test->log, test->directory_fd, "web", 1 << 20);
	assert_int_equal(log_file_write_lines(&test->log, 0, "stderr", bytes, 32768, &err), 0);
	scoped_free char *text = read_log(test, "web.log");

	for (const char *c = text; *c; c++)
		letters += *c == 'x';
	assert_int_equal(letters, 32768);
	assert_null(strstr(text, " F "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_launches),
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_status_times_and_texts),
		cmocka_unit_test(test_failure_is_text),
		cmocka_unit_test(test_merge_goes_forward),
		cmocka_unit_test(test_merge_goes_by_the_hosts_clock),
		cmocka_unit_test(test_merge_keeps_the_first_failure),
		cmocka_unit_test_setup_teardown(test_log_lines, open_log, close_log),
		cmocka_unit_test_setup_teardown(test_log_rotates, open_log, close_log),
		cmocka_unit_test_setup_teardown(test_log_goes_on_after_restart, open_log,
						close_log),
		cmocka_unit_test_setup_teardown(test_log_of_the_longest_name, open_log, close_log),
		cmocka_unit_test_setup_teardown(test_log_goes_on_when_its_file_was_taken_away,
						open_log, close_log),
		cmocka_unit_test_setup_teardown(test_log_lines_longer_than_the_buffer, open_log,
						close_log),
		cmocka_unit_test_setup_teardown(test_log_takes_a_chunk_whole_or_not_at_all,
						open_log, close_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
