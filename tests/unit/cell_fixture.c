// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cell_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/scope.h"

const char *const fixture_sleeper[] = {"/bin/sleep", "1000", NULL};

#define ok(expression) fixture_check((expression), &err, #expression)

static void fixture_check(int result, const struct error *err, const char *expression)
{
	if (result < 0)
		fail_msg("%s: %s", expression, err->message);
}

static int bring_up_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	scoped_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &request);
}

bool fixture_possible(void)
{
	static int possible = -1;
	struct cgroup_tree tree;
	struct error err = {0};

	if (possible >= 0)
		return possible;
	possible = geteuid() == 0 && cgroup_tree_find("probe", &tree, &err) == 0 &&
		   tree.mode != CGROUP_MODE_NONE && unshare(CLONE_NEWNET) == 0 &&
		   bring_up_loopback() == 0;
	if (!possible)
		print_message("SKIPPED: needs root, cgroups and a network namespace: %s\n",
			      err.code ? err.message : strerror(errno));
	return possible;
}

struct fixture *fixture_of(void **state)
{
	if (!*state)
		skip();
	return *state;
}

void fixture_open(struct fixture *fixture, const char *name)
{
	struct cgroup_limits limits = {.cpu_units = 512, .memory_bytes = 256U << 20, .pids = 64};
	struct error err = {0};

	*fixture = (struct fixture){.channel_fd = -1, .shim = PROCESS_NONE};
	snprintf(fixture->install, sizeof(fixture->install), "test-%s-%d", name, getpid());
	snprintf(fixture->state_directory, sizeof(fixture->state_directory),
		 "/tmp/penstock-XXXXXX");
	assert_non_null(mkdtemp(fixture->state_directory));
	ok(cgroup_tree_find(fixture->install, &fixture->tree, &err));
	fixture->cell = (struct cell){.tree = &fixture->tree,
				      .state_directory = fixture->state_directory,
				      .task = "t-1",
				      .uid = FIXTURE_UID,
				      .gid = FIXTURE_UID};
	ok(cgroup_ensure(&fixture->tree, fixture->cell.task, &limits, &err));
	ok(cell_directory_ensure(&fixture->cell, &err));
}

const char *fixture_console(const struct fixture *fixture)
{
	static char text[65536];
	scoped_fd int console = -1;
	struct error err = {0};
	ssize_t count;

	assert_int_equal(cell_log_open(&fixture->cell, NULL, false, &console, &err), 0);
	count = read(console, text, sizeof(text) - 1);
	text[count < 0 ? 0 : count] = '\0';
	return text;
}

void fixture_wait_fd(int fd, short events)
{
	struct pollfd polled = {.fd = fd, .events = events};

	if (poll(&polled, 1, FIXTURE_WAIT_MS) != 1)
		fail_msg("nothing happened within %d ms", FIXTURE_WAIT_MS);
}

void fixture_wait_closed(int channel_fd)
{
	struct cell_status status;
	struct error err = {0};
	int result;

	while ((result = cell_status_receive(channel_fd, &status, &err)) != 0) {
		if (result == -EAGAIN)
			fixture_wait_fd(channel_fd, POLLIN);
		else
			ok(result);
	}
}

void fixture_kill(struct fixture *fixture)
{
	struct error err = {0};

	ok(cgroup_kill(&fixture->tree, fixture->cell.task, &err));
	fixture_wait_empty(fixture);
}

void fixture_wait_empty(struct fixture *fixture)
{
	scoped_fd int watch = -1;
	struct error err = {0};
	bool empty = false;

	ok(cgroup_watch_open(&watch, &err));
	ok(cgroup_watch_add(&fixture->tree, watch, fixture->cell.task, &err));
	for (;;) {
		ok(cgroup_is_empty(&fixture->tree, fixture->cell.task, &empty, &err));
		if (empty)
			return;
		fixture_wait_fd(watch, POLLIN);
		cgroup_watch_drain(watch);
	}
}

void fixture_close(struct fixture *fixture)
{
	struct cell_remains remains;
	struct error err = {0};

	fixture_kill(fixture);
	close_fd(&fixture->channel_fd);
	process_close(&fixture->shim);
	ok(cgroup_remove(&fixture->tree, fixture->cell.task, &err));
	ok(cgroup_remove_root(&fixture->tree, &err));
	ok(cell_directory_remove(&fixture->cell, &err));
	ok(cell_remains(&fixture->cell, &remains, &err));
	assert_false(remains.directory || remains.cgroup || remains.populated);
	ok(directory_remove(AT_FDCWD, fixture->state_directory, &err));
}

void fixture_start(struct fixture *fixture)
{
	struct cell_shim_options options = {
		.shim_path = PENSTOCK_SHIM, .log_max_mib = 1, .kvm = fixture->kvm};
	struct error err = {0};

	ok(cell_shim_spawn(&fixture->cell, &options, &fixture->shim, &fixture->channel_fd, &err));
	ok(process_release(&fixture->shim, &err));
	ok(process_wait_exec(&fixture->shim, &err));
}

int fixture_setup(void **state)
{
	static struct fixture fixture;

	*state = NULL;
	if (!fixture_possible())
		return 0;
	fixture_open(&fixture, "shim");
	fixture_write_manifest(&fixture);
	fixture_start(&fixture);
	*state = &fixture;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *fixture = *state;

	if (!fixture)
		return 0;
	fixture_kill(fixture);
	waitpid(fixture->shim.pid, NULL, 0);
	fixture_close(fixture);
	return 0;
}

void fixture_write_manifest(struct fixture *fixture)
{
	static struct guest_manifest manifest;
	static const char *arguments[] = {"/bin/true"};
	scoped(buffer_release) struct buffer document = {0};
	struct error err = {0};
	const char *names[] = {"web", "sidecar"};
	const char *ids[] = {"0f3c-1", "0f3c-2"};

	manifest = (struct guest_manifest){
		.task_id = "t-1", .hostname = "ip-10-0-1-5", .domain = "", .container_count = 2};
	for (size_t i = 0; i < 2; i++) {
		struct guest_container *container = &manifest.containers[i];

		*container = (struct guest_container){.name = names[i],
						      .id = ids[i],
						      .user = "",
						      .directory = "",
						      .essential = true,
						      .start_timeout_s = 30,
						      .stop_timeout_s = 30,
						      .arguments = arguments,
						      .argument_count = 1};
		ok(cell_metadata_write(&fixture->cell, ids[i], "{\"DockerName\":\"c\"}", 18, &err));
	}
	ok(cell_metadata_write(&fixture->cell, "task", "{\"TaskARN\":\"t-1\"}", 17, &err));
	ok(guest_manifest_encode(&manifest, &document, &err));
	ok(cell_manifest_write(&fixture->cell, document.data, document.length, &err));
}

void fixture_attach_listener(struct fixture *fixture)
{
	scoped_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct shim_slot slot = {VMM_ATTACH_LISTENER, 0};
	socklen_t size = sizeof(address);
	struct error err = {0};

	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	fixture->port = ntohs(address.sin_port);
	ok(shim_attach(fixture->channel_fd, &slot, &fd, 1, &err));
}

void fixture_launch(struct fixture *fixture, const char *const *argv, uint32_t boot_timeout_ms)
{
	static struct vmm_launch launch;
	struct error err = {0};

	launch = (struct vmm_launch){.boot_timeout_ms = boot_timeout_ms};
	for (; *argv; argv++) {
		size_t length = strlen(*argv) + 1;

		memcpy(launch.arguments + launch.argument_bytes, *argv, length);
		launch.argument_bytes += (uint32_t)length;
		launch.argument_count++;
	}
	fixture_wait_fd(fixture->channel_fd, POLLOUT);
	ok(shim_launch(fixture->channel_fd, &launch, &err));
}

void fixture_wait(struct fixture *fixture, fixture_condition condition)
{
	struct error err = {0};

	for (;;) {
		int result = cell_status_receive(fixture->channel_fd, &fixture->status, &err);

		if (result == 0)
			fail_msg("the shim closed the connection");
		if (result == 1 && condition(&fixture->status))
			return;
		if (result == 1)
			continue;
		assert_int_equal(result, -EAGAIN);
		error_clear(&err);
		fixture_wait_fd(fixture->channel_fd, POLLIN);
	}
}

bool cell_is_anything(const struct cell_status *status)
{
	return status->revision > 0;
}

bool vmm_is_running(const struct cell_status *status)
{
	return status->vmm == VMM_RUNNING;
}

bool vmm_has_exited(const struct cell_status *status)
{
	return status->vmm == VMM_EXITED;
}

int fixture_dial(const struct fixture *fixture)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(fixture->port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {.tv_sec = FIXTURE_WAIT_MS / 1000};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

unsigned fixture_http(const struct fixture *fixture, const char *request, size_t length,
		      char ret_answer[FIXTURE_ANSWER_SIZE])
{
	scoped_fd int fd = fixture_dial(fixture);
	size_t received = 0;
	unsigned status = 0;
	ssize_t count;

	if (send(fd, request, length, MSG_NOSIGNAL) < 0)
		return 0;
	while ((count = recv(fd, ret_answer + received, FIXTURE_ANSWER_SIZE - 1 - received, 0)) > 0)
		received += (size_t)count;
	ret_answer[received] = '\0';
	return sscanf(ret_answer, "HTTP/1.1 %u", &status) == 1 ? status : 0;
}
