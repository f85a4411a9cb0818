// SPDX-License-Identifier: Apache-2.0
#include "tests/netns/lb_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct shared *shared;
struct netif *netif;
struct lb *lb;
int task_fds[TASKS], client_fd;
struct error err;
static pid_t servers[TASKS];

// ---- Servers

static void answer(int fd, int task)
{
	struct sockaddr_in peer = {0};
	socklen_t size = sizeof(peer);
	char bytes[512], reply[64];
	ssize_t count = recv(fd, bytes, sizeof(bytes), 0);
	int length;

	if (count <= 0) {
		close(fd);
		return;
	}
	if (bytes[0] != 'G') { // an echo of who we are, the connection stays
		reply[0] = (char)('0' + task);
		shared->servers[task].answered++;
		send(fd, reply, 1, MSG_NOSIGNAL);
		return;
	}
	getpeername(fd, (struct sockaddr *)&peer, &size);
	shared->servers[task].asked_by = ntohl(peer.sin_addr.s_addr);
	if (shared->servers[task].status == 0)
		return;
	length = snprintf(reply, sizeof(reply), "HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n",
			  shared->servers[task].status);
	send(fd, reply, (size_t)length, MSG_NOSIGNAL);
	close(fd);
}

static _Noreturn void serve(int listener, int task)
{
	struct pollfd fds[CONNECTIONS_MAX];
	nfds_t count = 1;

	fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
	for (;;) {
		poll(fds, count, -1);
		for (nfds_t i = count; i-- > 1;) {
			if (fds[i].revents)
				answer(fds[i].fd, task);
			if (fds[i].revents && recv(fds[i].fd, &(char){0}, 1, MSG_PEEK) < 0 &&
			    errno != EAGAIN)
				fds[i] = fds[--count];
		}
		if ((fds[0].revents & POLLIN) && count < CONNECTIONS_MAX) {
			int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);

			if (fd >= 0)
				fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
		}
	}
}

pid_t fork_child(void)
{
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return child;
}

void end_child(pid_t child)
{
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

// ---- Clients

// One connection from a namespace to the VIP; who answered, or -1. *ret_fd: left open there.
int ask(int namespace_fd, int *ret_fd)
{
	scoped_fd int fd = socket_inside(namespace_fd, SOCK_STREAM);
	const struct linger reset = {.l_onoff = 1};
	char byte = 'x';

	// Closed by reset: no port stays occupied.
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (connect_to(fd, VIP, VIP_PORT) < 0 || send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
		return -1;
	wait_for(fd, POLLIN);
	if (recv(fd, &byte, 1, 0) != 1)
		return -1;
	if (ret_fd)
		*ret_fd = take_fd(&fd);
	return byte - '0';
}

pid_t load_start(void)
{
	const struct sockaddr_in vip = {
		.sin_family = AF_INET, .sin_port = htons(VIP_PORT), .sin_addr.s_addr = htonl(VIP)};
	const struct timeval patience = {.tv_sec = DEADLINE_US / 1000000};
	const struct linger reset = {.l_onoff = 1};
	pid_t child;

	shared->stop = 0;
	shared->succeeded = shared->failed = 0;
	child = fork_child();
	if (child > 0)
		return child;
	if (setns(client_fd, CLONE_NEWNET) < 0)
		_exit(1);
	while (!shared->stop) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		char byte = 'x';

		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		if (connect(fd, (const struct sockaddr *)&vip, sizeof(vip)) == 0 &&
		    send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && recv(fd, &byte, 1, 0) == 1)
			shared->succeeded++;
		else
			shared->failed++;
		close(fd);
	}
	_exit(0);
}

void load_end(pid_t child)
{
	int status;

	shared->stop = 1;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

// ---- Driving the loop

static bool is_wanted(const struct lb_event *event, const struct wanted *wanted)
{
	return event->kind == wanted->kind && event->target.address == TASK(wanted->task) &&
	       (!wanted->state || strcmp(lb_state_name(event->state), wanted->state) == 0) &&
	       (wanted->reason == LB_REASON_NONE || event->reason == wanted->reason);
}

// Turns the loop once, waits for at most `wait_us`; true when the event came.
bool turn(int64_t wait_us, const struct wanted *wanted, struct lb_event *ret_event)
{
	struct pollfd fd = {.fd = lb_poll_fd(lb), .events = POLLIN};
	int64_t until_us = lb_next_deadline_us(lb) - clock_monotonic_us();
	struct lb_event events[8];
	bool found = false;
	size_t count;

	if (until_us < wait_us)
		wait_us = until_us < 0 ? 0 : until_us;
	poll(&fd, 1, (int)((wait_us + 999) / 1000));
	do {
		count = lb_dispatch(lb, events, ARRAY_LENGTH(events));
		for (size_t i = 0; i < count; i++) {
			if (events[i].kind == LB_EVENT_ERROR)
				print_message("error event: %s\n", events[i].message);
			if (wanted && !found && is_wanted(&events[i], wanted)) {
				*ret_event = events[i];
				found = true;
			}
		}
	} while (count == ARRAY_LENGTH(events));
	return found;
}

static struct lb_event await_wanted(const struct wanted *wanted)
{
	int64_t deadline_us = clock_monotonic_us() + DEADLINE_US;
	struct lb_event event;

	while (!turn(100000, wanted, &event))
		if (clock_monotonic_us() > deadline_us)
			fail_msg("no event %d %s of task %d", (int)wanted->kind,
				 wanted->state ? wanted->state : "", wanted->task);
	return event;
}

struct lb_event await(enum lb_event_kind kind, const char *state, int task)
{
	return await_wanted(&(struct wanted){.kind = kind, .state = state, .task = task});
}

void await_unhealthy(int task, enum lb_reason reason)
{
	await_wanted(&(struct wanted){LB_EVENT_TARGET_STATE, "unhealthy", task, reason});
}

// Goes on for a while; what happens meanwhile is not waited for.
void run_for(int64_t duration_us)
{
	int64_t end_us = clock_monotonic_us() + duration_us;

	while (clock_monotonic_us() < end_us)
		turn(end_us - clock_monotonic_us(), NULL, NULL);
}

void run_until(volatile unsigned *counter, unsigned count)
{
	int64_t deadline_us = clock_monotonic_us() + DEADLINE_US;
	unsigned before = *counter;

	while (*counter - before < count) {
		turn(10000, NULL, NULL);
		if (clock_monotonic_us() > deadline_us)
			fail_msg("only %u of %u happened", *counter - before, count);
	}
}

struct lb_target target_of(int task)
{
	struct lb_target target = {.address = TASK(task), .port = PORT};

	snprintf(target.task_id, sizeof(target.task_id), "task-%d", task);
	return target;
}

void register_task(int task)
{
	struct lb_target target = target_of(task);

	assert_ok(lb_target_register(lb, "web", &target, &err), &err);
}

void deregister_task(int task, int64_t delay_ms)
{
	struct lb_target target = target_of(task);

	assert_ok(lb_target_deregister(lb, "web", &target, (struct lb_drain){.delay_ms = delay_ms},
				       &err),
		  &err);
	lb_flush(lb);
}

struct lb_target_status status_of(int task)
{
	struct lb_target target = target_of(task);
	struct lb_target_status status;

	assert_ok(lb_target_status(lb, "web", &target, &status, &err), &err);
	return status;
}

void await_state(int task, enum lb_state state)
{
	int64_t deadline_us = clock_monotonic_us() + DEADLINE_US;

	while (status_of(task).state != state) {
		turn(100000, NULL, NULL);
		if (clock_monotonic_us() > deadline_us)
			fail_msg("task %d is %s, not %s", task,
				 lb_state_name(status_of(task).state), lb_state_name(state));
	}
}

struct lb_group group_of(enum lb_protocol protocol, uint32_t interval_ms)
{
	struct lb_group group = {.id = "web",
				 .vpc_id = "prod",
				 .drain_seconds = 600, // longer than any test waits
				 .check = {.protocol = protocol,
					   .path = "/health",
					   .interval_ms = interval_ms,
					   .timeout_ms = interval_ms,
					   .healthy_threshold = 2,
					   .unhealthy_threshold = 2}};

	lb_matcher_add(group.check.matcher, 200, 299);
	return group;
}

void open_lb(void)
{
	const struct lb_options options = {.netif = netif,
					   .install = "lb",
					   .probe_path = PENSTOCK_PROBE,
					   .probe_uid = 65534,
					   .probe_gid = 65534};

	assert_ok(lb_open(&options, &lb, &err), &err);
	assert_ok(lb_vpc_ensure(lb, "prod", &err), &err);
}

struct lb_balancer front(void)
{
	return (struct lb_balancer){.id = "front",
				    .vpc_id = "prod",
				    .address = VIP,
				    .listeners = {{.port = VIP_PORT, .group_id = "web"}},
				    .listener_count = 1};
}

void configure(enum lb_protocol protocol)
{
	struct lb_balancer balancer = front();
	struct lb_group group = group_of(protocol, PATIENT_MS);

	assert_ok(lb_group_ensure(lb, &group, &err), &err);
	assert_ok(lb_balancer_ensure(lb, &balancer, &err), &err);
}

int lb_setup(void **state)
{
	(void)state;
	for (int i = 0; i < TASKS; i++)
		shared->servers[i].status = 200;
	open_lb();
	return 0;
}

int lb_teardown(void **state)
{
	(void)state;
	lb_group_remove(lb, "web");
	lb_balancer_remove(lb, "front");
	lb_flush(lb);
	lb_close(lb);
	return 0;
}

void await_healthy(int tasks)
{
	for (int i = 0; i < tasks; i++)
		register_task(i);
	lb_flush(lb);
	for (int i = 0; i < tasks; i++)
		await_state(i, LB_STATE_HEALTHY);
}

// ---- The house

static int attach(const char *id, uint32_t address)
{
	struct netif_eni eni = {.vpc = "prod",
				.eni_id = id,
				.kind = NETIF_ENI_VETH,
				.address = address,
				.gateway = 0x0a000101,
				.mac = mac_from_eni(id),
				.mtu = 1500};
	int fd;

	assert_ok(netif_eni_create(netif, &eni, &fd, &err), &err);
	assert_ok(netif_eni_link(netif, &eni, &err), &err);
	task_configure(fd, &eni);
	return fd;
}

int house_build(void **state)
{
	const struct ipv4_cidr block = {0x0a000100, 24};
	char id[16];

	(void)state;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	assert_ok(netif_open("blue", &netif, &err), &err);
	assert_ok(netif_vpc_create(netif, "prod", &err), &err);
	assert_ok(netif_subnet_ensure(netif, "prod", &block, &err), &err);
	assert_ok(netif_address_ensure(netif, "prod", VIP, &err), &err);
	client_fd = attach("eni-client", CLIENT);
	for (int i = 0; i < TASKS; i++) {
		int listener;

		snprintf(id, sizeof(id), "eni-%d", i);
		task_fds[i] = attach(id, TASK(i));
		listener = server_inside(task_fds[i], SOCK_STREAM, PORT);
		servers[i] = fork_child();
		if (servers[i] == 0)
			serve(listener, i);
		close(listener);
	}
	return 0;
}

int house_raze(void **state)
{
	(void)state;
	for (int i = 0; i < TASKS; i++) {
		end_child(servers[i]);
		close(task_fds[i]);
	}
	close(client_fd);
	netif_close(netif);
	return 0;
}
