// SPDX-License-Identifier: Apache-2.0
// What the agent and a cell's shim say to each other: two fixed-size structs
// over a SOCK_SEQPACKET socket, one per direction. Native byte order, same host, same build.
//
// Agent -> shim: struct shim_request. Every request may be repeated: attaching a
// slot again replaces it, launching what was launched is ignored, stopping what is
// stopped too. A request of another size, kind or form is refused: the shim closes
// that connection and goes on.
//
// Shim -> agent: struct cell_status, all that is known of the cell, sent on connect
// and whenever something changed. A slow reader gets the latest, not every one.
// The same struct lies in <cell>/shim/status, so that it survives the shim.
//
// Both directions are validated by the pure functions at the end: the agent does not
// trust a shim (it parses what a guest says), nor the shim a stray client.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/base/message.h"
#include "agent/guest/protocol.h"
#include "agent/vmm/vmm.h"

enum { SHIM_PROTOCOL_VERSION = 1 };

enum shim_request_kind {
	SHIM_ATTACH = 1,
	SHIM_LAUNCH, // start the VMM, once; a boot that hangs past its boot_timeout_ms is started
		     // once more
	SHIM_STOP, // tell the guest to stop its containers and power off; press its power button if
		   // it never spoke
	SHIM_KILL, // SIGKILL to the VMM, and no other launch
	SHIM_EXIT, // the shim ends; the VMM, if any, dies with it
	SHIM_REQUEST_KIND_END,
};

// What the shim holds for the VMM: an attachment of vmm.h, and which image.
struct shim_slot {
	uint32_t attachment; // enum vmm_attachment, but VMM_ATTACH_QMP
	uint32_t index;      // of an image, else 0
};

// The descriptors travel beside the message (SCM_RIGHTS): descriptor i is for slots[i].
struct shim_attach {
	uint32_t count; // 1..MESSAGE_FDS_MAX
	struct shim_slot slots[MESSAGE_FDS_MAX];
};

struct shim_request {
	uint32_t version; // SHIM_PROTOCOL_VERSION
	uint32_t kind;    // enum shim_request_kind
	union {
		struct shim_attach attach;
		struct vmm_launch launch;
	};
};

enum vmm_state { VMM_NOT_STARTED, VMM_RUNNING, VMM_EXITED };

#define CELL_STATUS_MAGIC 0x4c4c4543u // "CELL"

struct cell_status {
	uint32_t magic;    // CELL_STATUS_MAGIC
	uint32_t version;  // SHIM_PROTOCOL_VERSION
	uint64_t revision; // one more with every change
	uint64_t attached; // bits of shim_slot_bit()

	uint32_t vmm;            // enum vmm_state
	int32_t vmm_pid;         // as the shim sees it; 0: never started
	uint64_t vmm_start_time; // clock ticks since boot
	int32_t vmm_exit_code;   // valid when VMM_EXITED: 0-255, or 128 + signal
	uint32_t boots;          // launches so far: 2 after a boot that hung
	int64_t vmm_started_ms;  // wall clock of the host; 0: not yet, as below
	int64_t vmm_exited_ms;
	char vmm_failure[GUEST_FAILURE_MAX]; // why the VMM could not be started, or ""

	int64_t guest_connected_ms; // the guest took its session; 0: it has not spoken yet
	int64_t guest_running_ms;   // phase RUNNING was reached
	// When the guest spoke last, if that is longer ago than the launch's silence_timeout_ms; 0:
	// it speaks. A guest asks for commands again and again, so silence means that it hangs: out
	// of memory, stopped, in its kernel's hands.
	int64_t guest_silent_since_ms;
	uint32_t stop_requested; // 0 or 1
	uint32_t spare;
	// The last word of the guest, merged so that phases and states never go back and an exit
	// code never changes. Its times are the host's: when the shim heard of it. Zero until the
	// guest has spoken.
	struct guest_status guest;

	// clock_boot(): what durations are computed from.
	struct boot_time vmm_exited_at; // vmm_exited_ms; 0: not yet
	struct boot_time changed_at;    // of this revision: the cell's last sign of life

	uint64_t requests;  // guest HTTP requests answered with 2xx or 404
	uint64_t refused;   // answered with another 4xx, cut at a deadline or turned away
	uint64_t log_bytes; // taken into container logs
};

// Pure. The bit of cell_status.attached for a slot.
uint64_t shim_slot_bit(enum vmm_attachment attachment, unsigned index);

// Pure validation. -EBADMSG with what is wrong. `fd_count` is what came beside the request.
int shim_request_check(const struct shim_request *request, size_t fd_count, struct error *err);

// Pure validation: every enum, count and time in range, every text terminated and free of control
// characters. -EBADMSG.
int cell_status_check(const struct cell_status *status, struct error *err);
// Sets vmm_failure, in characters that cell_status_check() takes.
__attribute__((format(printf, 2, 3))) void cell_status_fail(struct cell_status *status,
							    const char *format, ...);

// "RUNNING" and the like.
const char *vmm_state_name(uint32_t state);
