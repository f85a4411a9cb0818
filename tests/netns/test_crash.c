// SPDX-License-Identifier: Apache-2.0
// Death between any two system calls. A child performs one effect and is killed before its
// first, second, third … system call until it gets through. Each time what it left
// must either be completed by the same call again, or be found by the inventory and removed.
#include "tests/netns/harness.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "netif/link.h"
#include "netif/rtnl.h"

static const struct ipv4_cidr block = {0x0a000100, 24};
static const struct netif_route route = {.destination = {0xac100000, 12}, .via = 0xc0a80702};
static const struct netif_attachment uplink = {
	.vpc = "prod",
	.interface = "uplink",
	.address = 0xc0a80701,
	.prefix = 24,
	.routes = &route,
	.route_count = 1,
};

typedef int effect_fn(struct netif *netif, struct error *err);

static int no_effect(struct netif *netif, struct error *err)
{
	(void)netif;
	(void)err;
	return 0;
}

static int make_vpc(struct netif *netif, struct error *err)
{
	if (netif_vpc_create(netif, "prod", err) < 0)
		return -err->code;
	return netif_subnet_ensure(netif, "prod", &block, err);
}

static int delete_vpc(struct netif *netif, struct error *err)
{
	return netif_vpc_delete(netif, "prod", err);
}

static int make_eni(struct netif *netif, enum netif_eni_kind kind, struct error *err)
{
	struct netif_eni eni = eni_of(kind, "eni-1", 0x0a000105);
	held_fd int fd = -1;

	if (netif_eni_create(netif, &eni, &fd, err) < 0)
		return -err->code;
	return netif_eni_link(netif, &eni, err);
}

static int make_tap(struct netif *netif, struct error *err)
{
	return make_eni(netif, NETIF_ENI_TAP, err);
}

static int make_veth(struct netif *netif, struct error *err)
{
	return make_eni(netif, NETIF_ENI_VETH, err);
}

static int retire_eni(struct netif *netif, struct error *err)
{
	if (netif_eni_retire(netif, "prod", "eni-1", err) < 0)
		return -err->code;
	return netif_reap(netif, "prod", err);
}

static int attach(struct netif *netif, struct error *err)
{
	return netif_attachment_ensure(netif, &uplink, err);
}

static int detach(struct netif *netif, struct error *err)
{
	return netif_attachment_remove(netif, "prod", "uplink", err);
}

static int child(effect_fn *effect)
{
	struct netif *netif;
	struct error err = {0};

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	return netif_open("blue", &netif, &err) < 0 || effect(netif, &err) < 0;
}

// Runs the effect and kills it before its call number `calls`. False: it was through before.
static bool run_and_kill(effect_fn *effect, int calls)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child(effect));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	for (int stops = 0; stops < 2 * calls - 1; stops++) { // each call stops twice
		ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status)) {
			assert_int_equal(WEXITSTATUS(status), 0);
			return false;
		}
		assert_true(WIFSTOPPED(status));
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return true;
}

static void remove_everything(struct netif *netif)
{
	struct netif_object *objects;
	struct error err = {0};
	size_t count;

	assert_ok(netif_inventory(netif, &objects, &count, &err), &err);
	for (size_t i = count; i-- > 0;)
		assert_ok(netif_object_delete(netif, &objects[i], &err), &err);
	free(objects);
	assert_ok(netif_inventory(netif, &objects, &count, &err), &err);
	assert_int_equal(count, 0);
	free(objects);
}

static void assert_interface_is_back(void)
{
	__attribute__((cleanup(rtnl_close))) struct nl_sock *socket = NULL;
	struct link_info link;
	struct error err = {0};

	assert_ok(rtnl_open(&socket, &err), &err);
	assert_int_equal(link_find(socket, "uplink", LINK_WITHOUT_STATS, &link, &err), 1);
	assert_string_equal(link.alias, "");
}

// `before` are the effects that stand when `effect` begins.
static void crash_everywhere(effect_fn *const before[2], effect_fn *effect)
{
	for (int repair = 0; repair < 2; repair++) {
		bool killed = true;

		for (int calls = 1; killed; calls++) {
			struct netif *netif;
			struct error err = {0};

			assert_ok(netif_open("blue", &netif, &err), &err);
			assert_ok(before[0](netif, &err), &err);
			assert_ok(before[1](netif, &err), &err);
			netif_close(netif);
			killed = run_and_kill(effect, calls);
			assert_ok(netif_open("blue", &netif, &err), &err);
			if (!repair)
				assert_ok(effect(netif, &err), &err);
			remove_everything(netif);
			netif_close(netif);
			assert_interface_is_back();
		}
	}
}

static void test_make_vpc(void **state)
{
	(void)state;
	crash_everywhere((effect_fn *[]){no_effect, no_effect}, make_vpc);
}

static void test_delete_vpc(void **state)
{
	(void)state;
	crash_everywhere((effect_fn *[]){make_vpc, no_effect}, delete_vpc);
}

static void test_make_tap(void **state)
{
	(void)state;
	crash_everywhere((effect_fn *[]){make_vpc, no_effect}, make_tap);
}

static void test_make_veth(void **state)
{
	(void)state;
	crash_everywhere((effect_fn *[]){make_vpc, no_effect}, make_veth);
}

static void test_retire_eni(void **state)
{
	(void)state;
	crash_everywhere((effect_fn *[]){make_vpc, make_tap}, retire_eni);
}

static void test_attach(void **state)
{
	(void)state;
	crash_everywhere((effect_fn *[]){make_vpc, no_effect}, attach);
}

static void test_detach(void **state)
{
	(void)state;
	crash_everywhere((effect_fn *[]){make_vpc, attach}, detach);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_make_vpc),   cmocka_unit_test(test_delete_vpc),
		cmocka_unit_test(test_make_tap),   cmocka_unit_test(test_make_veth),
		cmocka_unit_test(test_retire_eni), cmocka_unit_test(test_attach),
		cmocka_unit_test(test_detach),
	};

	sandbox_enter();
	cable_create("uplink", "client");
	return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
