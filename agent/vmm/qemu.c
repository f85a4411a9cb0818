// SPDX-License-Identifier: Apache-2.0
// QEMU's microvm machine type. Every file is a descriptor handed over: QEMU
// opens nothing by name but /proc/self/fd/N (kernel and initramfs, which must be readable for
// the task's uid) and its own firmware in /usr/share.
//
// Memory beyond the guest's: QEMU's code and heap, the translation buffer of TCG (bounded by
// tb-size), the kernel and initramfs it mapped, page tables, I/O buffers. Measured for a busy guest
// of 512 MiB: 122 MiB resident, a part of it page cache shared with other VMs.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/guest/protocol.h"
#include "agent/vmm/plan.h"

enum {
	CPUS_MAX = 16,
	TRANSLATION_BUFFER_MIB = 64,
	PROCESS_MIB = 72,
	MEMORY_MIN_MIB = 128,
	BOOT_TIMEOUT_MS = 20 * 1000, // with a whole CPU
};

static uint32_t translation_buffer_mib(const struct vmm_request *request)
{
	return request->accelerator == VMM_ACCELERATOR_TCG ? TRANSLATION_BUFFER_MIB : 0;
}

// 2 MiB per GiB for the page tables that map the guest, on top of the fixed parts.
static uint32_t qemu_overhead_mib(const struct vmm_request *request)
{
	return PROCESS_MIB + translation_buffer_mib(request) + request->memory_mib / 512;
}

static uint32_t vcpus(const struct vmm_request *request)
{
	uint32_t count = (request->cpu_units + 1023) / 1024;

	return count ? count : 1;
}

// A share of a CPU boots so much more slowly.
static uint32_t boot_timeout_ms(const struct vmm_request *request)
{
	uint32_t units = request->cpu_units < 1024 ? request->cpu_units : 1024;

	return BOOT_TIMEOUT_MS * 1024 / (units < 64 ? 64 : units);
}

static int check(const struct vmm_request *request, struct error *err)
{
	if (vcpus(request) > CPUS_MAX)
		return error_set(err, EINVAL, "qemu: %u CPU units, at most %d fit",
				 request->cpu_units, CPUS_MAX * 1024);
	if (request->memory_mib < MEMORY_MIN_MIB || request->memory_mib > VMM_MEMORY_MIB_MAX)
		return error_set(err, EINVAL, "qemu: memory of %u MiB, %d to %d fit",
				 request->memory_mib, MEMORY_MIN_MIB, VMM_MEMORY_MIB_MAX);
	if (request->image_count > VMM_IMAGES_MAX)
		return error_set(err, EINVAL, "qemu: %u images, at most %d fit",
				 request->image_count, VMM_IMAGES_MAX);
	if (request->accelerator == VMM_ACCELERATOR_TCG && !request->tsc_khz)
		return error_set(err, EINVAL, "qemu: the TSC's rate is not known");
	return 0;
}

static void plan_machine(struct plan *plan, const struct vmm_request *request)
{
	plan_argument(plan, "%s", request->program);
	plan_option(plan, "-name", "penstock-%s", request->task_id);
	plan_option(plan, "-M", "microvm,acpi=on,rtc=on,dump-guest-core=off");
	if (request->accelerator == VMM_ACCELERATOR_TCG)
		plan_option(plan, "-accel", "tcg,tb-size=%u", translation_buffer_mib(request));
	else
		plan_option(plan, "-accel", "kvm");
	plan_option(plan, "-cpu", "max");
	plan_option(plan, "-smp", "%u", vcpus(request));
	plan_option(plan, "-m", "%u", request->memory_mib);
	plan_option(plan, "-sandbox",
		    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	plan_argument(plan, "-nodefaults");
	plan_argument(plan, "-no-user-config");
	plan_argument(plan, "-nographic");
	plan_argument(plan, "-no-reboot");
	plan_option(plan, "-serial", "stdio");
}

static void plan_kernel(struct plan *plan, const struct vmm_request *request)
{
	char network[256], emulated[64] = "";

	plan_network(network, sizeof(network), request);
	// Retpolines and the like guard a CPU that speculates; the emulated one does not.
	if (request->accelerator == VMM_ACCELERATOR_TCG)
		snprintf(emulated, sizeof(emulated), " tsc_early_khz=%u mitigations=off",
			 request->tsc_khz);
	plan_option(plan, "-kernel", "/proc/self/fd/%d", plan_fd(plan, VMM_ATTACH_KERNEL, 0));
	plan_option(plan, "-initrd", "/proc/self/fd/%d", plan_fd(plan, VMM_ATTACH_INITRAMFS, 0));
	plan_option(plan, "-append",
		    "console=ttyS0 quiet reboot=t panic=-1 tsc=reliable random.trust_cpu=on "
		    "cryptomgr.notests%s nfs.nfs4_unique_id=%s %s",
		    emulated, request->task_id, network);
}

static void plan_network_card(struct plan *plan, const struct vmm_request *request)
{
	plan_option(plan, "-netdev", "tap,id=link,fd=%d", plan_fd(plan, VMM_ATTACH_LINK, 0));
	plan_option(plan, "-device", "virtio-net-device,netdev=link,mac=%s", request->mac);
}

// A writable file by descriptor needs two in its set: QEMU opens it read-only first. Its flushes
// are dropped: the disk does not outlive the host's running time, and a flush would stall the guest
// on the host's file system.
static void plan_disk(struct plan *plan)
{
	int read_fd = plan_fd(plan, VMM_ATTACH_DISK_READ, 0);
	int write_fd = plan_fd(plan, VMM_ATTACH_DISK_WRITE, 0);

	plan_option(plan, "-add-fd", "fd=%d,set=1", read_fd);
	plan_option(plan, "-add-fd", "fd=%d,set=1", write_fd);
	plan_option(plan, "-blockdev",
		    "driver=raw,node-name=disk,discard=unmap,cache.no-flush=on,file.driver=file,"
		    "file.filename=/dev/fdset/1,file.locking=off,file.discard=unmap,"
		    "file.cache.no-flush=on");
	// A host that is full is the guest's ENOSPC; by default QEMU would stop the VM, and nobody
	// would let it go on.
	plan_option(plan, "-device",
		    "virtio-blk-device,drive=disk,werror=report,rerror=report,"
		    "serial=" GUEST_SERIAL_EPHEMERAL);
}

static void plan_image(struct plan *plan, unsigned index)
{
	unsigned set = index + 2;

	plan_option(plan, "-add-fd", "fd=%d,set=%u", plan_fd(plan, VMM_ATTACH_IMAGE, index), set);
	plan_option(plan, "-blockdev",
		    "driver=raw,node-name=image%u,read-only=on,file.driver=file,"
		    "file.filename=/dev/fdset/%u,file.locking=off,file.read-only=on",
		    index, set);
	plan_option(plan, "-device", "virtio-blk-device,drive=image%u,serial=%s%u", index,
		    GUEST_SERIAL_IMAGE, index);
}

static void plan_rest(struct plan *plan)
{
	plan_option(plan, "-object", "rng-random,id=entropy,filename=/dev/urandom");
	plan_option(plan, "-device", "virtio-rng-device,rng=entropy");
	plan_option(plan, "-chardev", "socket,id=qmp,fd=%d", plan_fd(plan, VMM_ATTACH_QMP, 0));
	plan_option(plan, "-mon", "chardev=qmp,mode=control");
}

static int qemu_plan(const struct vmm_request *request, struct vmm_launch *ret_launch,
		     struct error *err)
{
	struct plan plan = {.launch = ret_launch};
	int result = check(request, err);

	if (result < 0)
		return result;
	*ret_launch = (struct vmm_launch){
		.wants_qmp = true,
		.drop_identity = true,
		.boot_timeout_ms = boot_timeout_ms(request),
	};
	plan_machine(&plan, request);
	plan_kernel(&plan, request);
	plan_network_card(&plan, request);
	plan_disk(&plan);
	for (unsigned i = 0; i < request->image_count; i++)
		plan_image(&plan, i);
	plan_rest(&plan);
	return plan_finish(&plan, err);
}

const struct vmm_ops vmm_qemu = {
	.name = "qemu",
	.program = "/usr/bin/qemu-system-x86_64",
	.link = VMM_LINK_TAP,
	.images = VMM_IMAGES_BLOCK,
	.overhead_mib = qemu_overhead_mib,
	.plan = qemu_plan,
};
