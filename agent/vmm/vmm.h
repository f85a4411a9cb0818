// SPDX-License-Identifier: Apache-2.0
// VMM drivers: what to run for a task. Planning is pure – it opens nothing and
// touches nothing: from plain values it makes the argument vector and says which attached
// descriptor the child gets under which number. The shim (agent/cell) starts it.
//
//     const struct vmm_ops *vmm = vmm_find("qemu");
//     uint32_t overhead_mib = vmm->overhead_mib(&request);    // charged with the task's memory
//     struct vmm_launch launch;
//     if (vmm->plan(&request, &launch, err) < 0) ...
//
// Drivers: "qemu" (microvm machine type, tap, block devices), "netns" (no VM: penstock-init
// in namespaces, for harnesses; a veth's network namespace, directories).
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"

enum {
	VMM_IMAGES_MAX = 10,
	VMM_ARGUMENTS_MAX = 128,        // words
	VMM_ARGUMENT_BYTES = 16 * 1024, // all words with their NULs
	VMM_FDS_MAX = 24,               // descriptors a child gets, stdio not counted
	VMM_FD_FIRST = 3,               // numbers are given from here, in order
	VMM_MAC_SIZE = 18,              // "02:00:5e:10:00:01" and NUL
	VMM_MEMORY_MIB_MAX = 122880,
};

// What the agent attaches to the shim, and what the shim makes itself.
enum vmm_attachment {
	VMM_ATTACH_LINK,       // tap, or the task's network namespace (netns)
	VMM_ATTACH_DISK_READ,  // the ephemeral disk, O_RDONLY
	VMM_ATTACH_DISK_WRITE, // the ephemeral disk, O_RDWR
	VMM_ATTACH_LISTENER,   // 169.254.170.2:80; stays in the shim
	VMM_ATTACH_IMAGE,      // with an index
	VMM_ATTACH_KERNEL,
	VMM_ATTACH_INITRAMFS,
	VMM_ATTACH_QMP, // made by the shim: the VMM's end of a socketpair(AF_UNIX, SOCK_STREAM)
	VMM_ATTACH_COUNT,
};

enum vmm_link { VMM_LINK_TAP, VMM_LINK_NETNS };
enum vmm_images { VMM_IMAGES_BLOCK, VMM_IMAGES_DIRECTORIES };
enum vmm_accelerator { VMM_ACCELERATOR_TCG, VMM_ACCELERATOR_KVM };

// Strings are borrowed for the call.
struct vmm_request {
	const char *task_id;
	uint32_t cpu_units; // 1024 is one vCPU; a share of one is held by the cgroup's quota
	uint32_t memory_mib;
	enum vmm_accelerator accelerator; // the configured one; auto is TCG
	uint32_t tsc_khz;                 // see vmm_tsc_measure
	unsigned image_count;
	struct in_addr ip, gateway; // the guest's address (a /32) and its subnet's router
	char mac[VMM_MAC_SIZE], gateway_mac[VMM_MAC_SIZE];
	uint32_t mtu;
	const char *program;   // qemu: path of the VMM; netns: path of penstock-init
	const char *disk_path; // netns: the disk image
	const char *image_paths[VMM_IMAGES_MAX]; // netns: unpacked images
};

struct vmm_fd {
	enum vmm_attachment attachment;
	unsigned index; // of an image, else 0
	int number;     // in the child
};

// Fixed size, plain values: it travels inside the shim's LAUNCH message.
struct vmm_launch {
	char arguments[VMM_ARGUMENT_BYTES]; // words, each with its NUL
	uint32_t argument_bytes, argument_count;
	struct vmm_fd fds[VMM_FDS_MAX];
	uint32_t fd_count;
	uint64_t namespaces;      // CLONE_NEW* flags for the child
	bool enter_link;          // setns() into VMM_ATTACH_LINK before exec
	bool wants_qmp;           // the shim speaks QMP to it
	bool drop_identity;       // run as the task's uid (the shim may be that already)
	uint32_t boot_timeout_ms; // no session request by then: kill, start once more
	// A guest that has a session and has not spoken for so long is reported; 0: never. Not a
	// driver's choice: the agent sets it.
	uint32_t silence_timeout_ms;
};

struct vmm_ops {
	const char *name;
	const char *program; // NULL: penstock-init, from the program directory
	enum vmm_link link;
	enum vmm_images images;
	// Memory of the VMM itself beyond the guest's, for cgroup and ledger.
	uint32_t (*overhead_mib)(const struct vmm_request *request);
	// -EINVAL when the request does not fit this driver; -E2BIG when the plan passes its
	// bounds.
	int (*plan)(const struct vmm_request *request, struct vmm_launch *ret_launch,
		    struct error *err);
};

// NULL when there is no such driver.
const struct vmm_ops *vmm_find(const char *name);

// Splits launch->arguments into a NULL-terminated vector of VMM_ARGUMENTS_MAX + 1 places.
// -EBADMSG when the bytes are no such list (a shim checks what it was sent with this).
int vmm_launch_argv(const struct vmm_launch *launch, const char **ret_argv, struct error *err);

// The TSC's rate against CLOCK_MONOTONIC_RAW, in kHz. Blocks about 20 ms: once at start.
uint32_t vmm_tsc_measure(void);
