// SPDX-License-Identifier: Apache-2.0
// Balancers and groups of several VPCs, and tables that are damaged or cannot be written.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "netif/nft.h"
#include "tests/netns/lb_fixture.h"

// Somebody else deletes the table: the next change does not fit any more, is told as an
// error, and a second later everything is made anew.
static void test_foreign_deletion(void **state)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	int socket_fd;

	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(1);
	assert_ok(netif_netfilter_socket(netif, "prod", &socket_fd, &err), &err);
	nft_table_delete(batch, "penstock_lb");
	assert_ok(nft_batch_send(batch, socket_fd, &err), &err);
	assert_int_equal(ask(client_fd, NULL), -1);
	register_task(1);
	await(LB_EVENT_TARGET_STATE, "healthy", 1);
	while (lb_next_deadline_us(lb) != INT64_MAX)
		turn(1000000, NULL, NULL);
	for (int i = 0; i < 4; i++)
		assert_in_range(ask(client_fd, NULL), 0, 1);
}

static size_t count_services(const char *vpc_id)
{
	scoped_free struct lb_object *objects = NULL;
	size_t count, services = 0;

	lb_flush(lb);
	assert_ok(lb_inventory(netif, vpc_id, &objects, &count, &err), &err);
	for (size_t i = 0; i < count; i++)
		services += objects[i].kind == LB_OBJECT_SERVICE;
	return services;
}

// Deleted and made anew before anybody looked: nothing of them stays in the VPC that they left.
static void test_moved_to_another_vpc(void **state)
{
	struct lb_balancer balancer = front();
	struct lb_group group = group_of(LB_PROTOCOL_TCP, PATIENT_MS);

	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(1);
	assert_int_equal(count_services("prod"), 1);
	assert_ok(netif_vpc_create(netif, "dev", &err), &err);
	assert_ok(lb_vpc_ensure(lb, "dev", &err), &err);

	snprintf(balancer.vpc_id, sizeof(balancer.vpc_id), "dev");
	assert_ok(lb_balancer_ensure(lb, &balancer, &err), &err);
	assert_int_equal(count_services("prod"), 0);
	assert_int_equal(status_of(0).state, LB_STATE_UNUSED);

	snprintf(group.vpc_id, sizeof(group.vpc_id), "dev");
	assert_ok(lb_group_ensure(lb, &group, &err), &err);
	assert_int_equal(count_services("dev"), 1);
	lb_vpc_remove(lb, "dev");
	assert_ok(netif_vpc_delete(netif, "dev", &err), &err);
}

static unsigned count_errors(int64_t duration_us)
{
	int64_t end_us = clock_monotonic_us() + duration_us;
	struct lb_event event;
	unsigned errors = 0;

	while (clock_monotonic_us() < end_us) {
		if (lb_dispatch(lb, &event, 1) == 0)
			usleep(20000);
		else
			errors += event.kind == LB_EVENT_ERROR;
	}
	return errors;
}

// It is tried again each second; that it failed is told once, and again after a success.
static void test_a_lasting_failure_is_told_once(void **state)
{
	scoped_fd int broken = open("/dev/null", O_RDWR | O_CLOEXEC), kept = -1;
	int socket_fd;

	(void)state;
	configure(LB_PROTOCOL_TCP);
	await_healthy(1);
	assert_ok(netif_netfilter_socket(netif, "prod", &socket_fd, &err), &err);
	kept = fcntl(socket_fd, F_DUPFD_CLOEXEC, 0);
	for (int round = 0; round < 2; round++) {
		dup3(broken, socket_fd, O_CLOEXEC);
		lb_vpc_resync(lb, "prod");
		assert_int_equal(count_errors(2500000), 1);
		assert_non_null(lb_vpc_failure(lb, "prod"));
		dup3(kept, socket_fd, O_CLOEXEC);
		while (lb_vpc_failure(lb, "prod"))
			turn(1000000, NULL, NULL);
	}
}

#define LB_TEST(name) cmocka_unit_test_setup_teardown(name, lb_setup, lb_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LB_TEST(test_foreign_deletion),
		LB_TEST(test_moved_to_another_vpc),
		LB_TEST(test_a_lasting_failure_is_told_once),
	};

	signal(SIGPIPE, SIG_IGN);
	sandbox_enter();
	return cmocka_run_group_tests(tests, house_build, house_raze);
}
