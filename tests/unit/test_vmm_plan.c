// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "agent/base/scope.h"
#include "agent/guest/protocol.h"
#include "agent/vmm/vmm.h"

static struct vmm_request example(void)
{
	struct vmm_request request = {
		.task_id = "t-42",
		.cpu_units = 256,
		.memory_mib = 512,
		.tsc_khz = 2400000,
		.image_count = 2,
		.mac = "02:00:00:00:00:05",
		.gateway_mac = "02:00:00:00:00:01",
		.mtu = 1500,
		.program = "/usr/bin/vmm",
		.disk_path = "/var/lib/penstock/disks/t 42.img",
		.image_paths = {"/images/a", "/images/b"},
	};

	inet_pton(AF_INET, "10.0.1.5", &request.ip);
	inet_pton(AF_INET, "10.0.1.1", &request.gateway);
	return request;
}

// The word after `option`, the `nth` time it stands there; NULL when there is none.
static const char *value_of(const char *const *argv, const char *option, int nth)
{
	for (; *argv; argv++)
		if (strcmp(*argv, option) == 0 && nth-- == 0)
			return argv[1];
	return NULL;
}

static int number_of(const struct vmm_launch *launch, enum vmm_attachment attachment,
		     unsigned index)
{
	for (uint32_t i = 0; i < launch->fd_count; i++)
		if (launch->fds[i].attachment == attachment && launch->fds[i].index == index)
			return launch->fds[i].number;
	return -1;
}

static void test_qemu_plan(void **state)
{
	const struct vmm_request request = example();
	const char *argv[VMM_ARGUMENTS_MAX + 1];
	static struct vmm_launch launch;
	struct error err = {0};
	char expected[128];

	(void)state;
	assert_int_equal(vmm_find("qemu")->plan(&request, &launch, &err), 0);
	assert_int_equal(vmm_launch_argv(&launch, argv, &err), 0);
	assert_string_equal(argv[0], "/usr/bin/vmm");
	assert_string_equal(value_of(argv, "-m", 0), "512");
	assert_string_equal(value_of(argv, "-smp", 0), "1");
	assert_string_equal(value_of(argv, "-accel", 0), "tcg,tb-size=64");
	assert_string_equal(
		value_of(argv, "-sandbox", 0),
		"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	assert_string_equal(value_of(argv, "-device", 1),
			    "virtio-blk-device,drive=disk,werror=report,rerror=report,"
			    "serial=" GUEST_SERIAL_EPHEMERAL);
	snprintf(expected, sizeof(expected), "tap,id=link,fd=%d",
		 number_of(&launch, VMM_ATTACH_LINK, 0));
	assert_string_equal(value_of(argv, "-netdev", 0), expected);
	snprintf(expected, sizeof(expected), "/proc/self/fd/%d",
		 number_of(&launch, VMM_ATTACH_KERNEL, 0));
	assert_string_equal(value_of(argv, "-kernel", 0), expected);
	assert_non_null(strstr(value_of(argv, "-append", 0), " tsc_early_khz=2400000 "));
	assert_non_null(strstr(value_of(argv, "-append", 0),
			       " penstock.ip=10.0.1.5 penstock.gateway=10.0.1.1 "
			       "penstock.gateway_mac=02:00:00:00:00:01 penstock.mtu=1500"));
	assert_non_null(strstr(value_of(argv, "-append", 0), " nfs.nfs4_unique_id=t-42 "));
	assert_true(launch.wants_qmp && launch.drop_identity && !launch.enter_link);
	assert_int_equal(launch.namespaces, 0);
}

static void test_qemu_descriptors(void **state)
{
	struct vmm_request request = example();
	static struct vmm_launch launch;
	const char *argv[VMM_ARGUMENTS_MAX + 1];
	struct error err = {0};
	char expected[64];

	(void)state;
	request.image_count = VMM_IMAGES_MAX;
	assert_int_equal(vmm_find("qemu")->plan(&request, &launch, &err), 0);
	assert_int_equal(vmm_launch_argv(&launch, argv, &err), 0);
	assert_int_equal(launch.fd_count, 6 + VMM_IMAGES_MAX);
	for (uint32_t i = 0; i < launch.fd_count; i++)
		assert_int_equal(launch.fds[i].number, VMM_FD_FIRST + (int)i);
	// The writable disk has two in one set, each image one in a set of its own.
	snprintf(expected, sizeof(expected), "fd=%d,set=1",
		 number_of(&launch, VMM_ATTACH_DISK_READ, 0));
	assert_string_equal(value_of(argv, "-add-fd", 0), expected);
	snprintf(expected, sizeof(expected), "fd=%d,set=1",
		 number_of(&launch, VMM_ATTACH_DISK_WRITE, 0));
	assert_string_equal(value_of(argv, "-add-fd", 1), expected);
	snprintf(expected, sizeof(expected), "fd=%d,set=11",
		 number_of(&launch, VMM_ATTACH_IMAGE, 9));
	assert_string_equal(value_of(argv, "-add-fd", 11), expected);
}

static void test_qemu_vcpus_and_kvm(void **state)
{
	static const struct {
		uint32_t units;
		const char *vcpus;
	} cases[] = {{256, "1"}, {512, "1"}, {1024, "1"}, {2048, "2"}, {16384, "16"}};
	struct vmm_request request = example();
	static struct vmm_launch launch;
	const char *argv[VMM_ARGUMENTS_MAX + 1];
	struct error err = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		request.cpu_units = cases[i].units;
		assert_int_equal(vmm_find("qemu")->plan(&request, &launch, &err), 0);
		assert_int_equal(vmm_launch_argv(&launch, argv, &err), 0);
		assert_string_equal(value_of(argv, "-smp", 0), cases[i].vcpus);
	}
	request.accelerator = VMM_ACCELERATOR_KVM;
	request.tsc_khz = 0;
	assert_int_equal(vmm_find("qemu")->plan(&request, &launch, &err), 0);
	assert_int_equal(vmm_launch_argv(&launch, argv, &err), 0);
	assert_string_equal(value_of(argv, "-accel", 0), "kvm");
	assert_null(strstr(value_of(argv, "-append", 0), "tsc_early_khz"));
}

static void test_qemu_refuses(void **state)
{
	struct vmm_request requests[5];
	static struct vmm_launch launch;
	struct error err = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(requests); i++)
		requests[i] = example();
	requests[0].cpu_units = 16385;
	requests[1].memory_mib = 64;
	requests[2].memory_mib = VMM_MEMORY_MIB_MAX + 1;
	requests[3].image_count = VMM_IMAGES_MAX + 1;
	requests[4].tsc_khz = 0;
	for (size_t i = 0; i < ARRAY_LENGTH(requests); i++)
		assert_int_equal(vmm_find("qemu")->plan(&requests[i], &launch, &err), -EINVAL);
}

static void test_overhead_grows_with_memory(void **state)
{
	struct vmm_request request = example();
	const struct vmm_ops *qemu = vmm_find("qemu");
	uint32_t small = qemu->overhead_mib(&request);

	(void)state;
	request.memory_mib = 30720;
	assert_true(qemu->overhead_mib(&request) > small);
	request.accelerator = VMM_ACCELERATOR_KVM;
	request.memory_mib = 512;
	assert_true(qemu->overhead_mib(&request) < small);
	assert_int_equal(vmm_find("netns")->overhead_mib(&request), 4);
}

static void test_netns_plan(void **state)
{
	static const char *const expected[] = {
		"/usr/bin/vmm",
		"penstock.driver=netns",
		"penstock.ip=10.0.1.5",
		"penstock.gateway=10.0.1.1",
		"penstock.gateway_mac=02:00:00:00:00:01",
		"penstock.mtu=1500",
		"penstock.disk=/var/lib/penstock/disks/t 42.img",
		"penstock.image0=/images/a",
		"penstock.image1=/images/b",
	};
	const struct vmm_request request = example();
	const char *argv[VMM_ARGUMENTS_MAX + 1];
	static struct vmm_launch launch;
	struct error err = {0};

	(void)state;
	assert_int_equal(vmm_find("netns")->plan(&request, &launch, &err), 0);
	assert_int_equal(vmm_launch_argv(&launch, argv, &err), 0);
	assert_int_equal(launch.argument_count, ARRAY_LENGTH(expected));
	for (size_t i = 0; i < ARRAY_LENGTH(expected); i++)
		assert_string_equal(argv[i], expected[i]);
	assert_int_equal(launch.fd_count, 0);
	assert_true(launch.enter_link && !launch.drop_identity && !launch.wants_qmp);
	assert_int_equal(launch.namespaces,
			 CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC);
}

static void test_plan_that_does_not_fit(void **state)
{
	struct vmm_request request = example();
	static struct vmm_launch launch;
	static char path[VMM_ARGUMENT_BYTES];
	struct error err = {0};

	(void)state;
	memset(path, 'a', sizeof(path) - 1);
	request.disk_path = path;
	assert_int_equal(vmm_find("netns")->plan(&request, &launch, &err), -E2BIG);
}

static void test_argv_of_a_bad_launch(void **state)
{
	static const struct {
		const char *bytes;
		uint32_t length, count;
	} cases[] = {
		{"", 0, 0},
		{"/a", 3, 0},
		{"/a", 3, 2},
		{"/a\0b", 5, 1},
		{"a", 2, 1},
		{"/a", 2, 1},
		{"/a", VMM_ARGUMENT_BYTES + 1, 1},
		{"/a", 3, VMM_ARGUMENTS_MAX + 1},
	};
	const char *argv[VMM_ARGUMENTS_MAX + 1];
	static struct vmm_launch launch;
	struct error err = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		memset(&launch, 0, sizeof(launch));
		memcpy(launch.arguments, cases[i].bytes, cases[i].length < 8 ? cases[i].length : 3);
		launch.argument_bytes = cases[i].length;
		launch.argument_count = cases[i].count;
		assert_int_equal(vmm_launch_argv(&launch, argv, &err), -EBADMSG);
	}
}

static void test_unknown_driver(void **state)
{
	(void)state;
	assert_null(vmm_find("xen"));
}

// Two measurements, taken apart, agree within 0.1 %.
static void test_tsc_is_steady(void **state)
{
	double first = vmm_tsc_measure(), second = vmm_tsc_measure();

	(void)state;
	assert_true(first > 100000);
	assert_true(first / second > 0.999 && first / second < 1.001);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_qemu_plan),
		cmocka_unit_test(test_qemu_descriptors),
		cmocka_unit_test(test_qemu_vcpus_and_kvm),
		cmocka_unit_test(test_qemu_refuses),
		cmocka_unit_test(test_overhead_grows_with_memory),
		cmocka_unit_test(test_netns_plan),
		cmocka_unit_test(test_plan_that_does_not_fit),
		cmocka_unit_test(test_argv_of_a_bad_launch),
		cmocka_unit_test(test_unknown_driver),
		cmocka_unit_test(test_tsc_is_steady),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
