// SPDX-License-Identifier: Apache-2.0
// No VM: penstock-init runs as the first process of new pid, mount, uts and ipc namespaces, in
// the task's network namespace, as root. A harness for tests and scale, not a boundary.
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "agent/vmm/plan.h"

enum { PROCESS_MIB = 4, BOOT_TIMEOUT_MS = 20 * 1000 };

static uint32_t netns_overhead_mib(const struct vmm_request *request)
{
	(void)request;
	return PROCESS_MIB;
}

static int netns_plan(const struct vmm_request *request, struct vmm_launch *ret_launch,
		      struct error *err)
{
	struct plan plan = {.launch = ret_launch};
	char network[256];

	if (request->image_count > VMM_IMAGES_MAX)
		return error_set(err, EINVAL, "netns: %u images, at most %d fit",
				 request->image_count, VMM_IMAGES_MAX);
	*ret_launch = (struct vmm_launch){
		.namespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC,
		.enter_link = true,
		.boot_timeout_ms = BOOT_TIMEOUT_MS,
	};
	plan_network(network, sizeof(network), request);
	plan_argument(&plan, "%s", request->program);
	plan_argument(&plan, "penstock.driver=netns");
	for (char *rest = network, *word = strsep(&rest, " "); word; word = strsep(&rest, " "))
		plan_argument(&plan, "%s", word);
	plan_argument(&plan, "penstock.disk=%s", request->disk_path);
	for (unsigned i = 0; i < request->image_count; i++)
		plan_argument(&plan, "penstock.image%u=%s", i, request->image_paths[i]);
	return plan_finish(&plan, err);
}

const struct vmm_ops vmm_netns = {
	.name = "netns",
	.link = VMM_LINK_NETNS,
	.images = VMM_IMAGES_DIRECTORIES,
	.overhead_mib = netns_overhead_mib,
	.plan = netns_plan,
};
