// SPDX-License-Identifier: Apache-2.0
// How drivers write a launch: bounded, with the first overflow remembered until
// plan_finish(). Private to agent/vmm.
#pragma once

#include "agent/vmm/vmm.h"

struct plan {
	struct vmm_launch *launch;
	bool overflow;
};

__attribute__((format(printf, 2, 3))) void plan_argument(struct plan *plan, const char *format,
							 ...);
// "-name" and its value.
__attribute__((format(printf, 3, 4))) void plan_option(struct plan *plan, const char *name,
						       const char *format, ...);
// Gives the attachment the next number in the child and returns that.
int plan_fd(struct plan *plan, enum vmm_attachment attachment, unsigned index);
int plan_finish(const struct plan *plan, struct error *err);

// "penstock.ip=... penstock.gateway=... ...": what penstock-init reads, see agent/guest/init.h.
void plan_network(char *text, size_t size, const struct vmm_request *request);

extern const struct vmm_ops vmm_qemu, vmm_netns;
