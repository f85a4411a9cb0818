// SPDX-License-Identifier: Apache-2.0
// Names inside a cell's directory and the descriptors penstock-shim starts with:
// what the agent's side (cell*.c) and the shim agree on besides protocol.h.
#pragma once

#include <limits.h>
#include <stdbool.h>

#define CELL_MANIFEST_FILE      "manifest"
#define CELL_RECORD_FILE        "record"
#define CELL_METADATA_DIRECTORY "metadata"
#define CELL_METADATA_TASK      "task"
#define CELL_SHIM_DIRECTORY     "shim"
#define CELL_STATUS_FILE        "status"
#define CELL_CONSOLE_LOG        "console"
#define CELL_SHIM_LOG           "shim.log"
#define CELL_LOGS_DIRECTORY     "logs"
#define CELL_SOCKET_FILE        "shim.sock"

enum {
	CELL_CONTAINER_ID_MAX = 64,
	CELL_CONTAINER_NAME_MAX = 255,
	CELL_METADATA_MAX = 256 * 1024,
	CELL_RECORD_MAX = 4 * 1024 * 1024,
};

#define SHIM_ACCELERATOR_KVM "kvm"
#define SHIM_ACCELERATOR_TCG "tcg"

// penstock-shim TASK UID GID LOG_MAX_MIB ACCELERATOR, with these descriptors; 0 and 1 are
// /dev/null, 2 is shim.log.
enum shim_fd {
	SHIM_FD_CHANNEL = 3, // the agent that started it
	SHIM_FD_LISTENER,    // shim.sock
	SHIM_FD_CELL,        // the cell's directory
};

// ^[0-9a-f-]{1,64}$
bool cell_container_id_is_valid(const char *id);
// ^[A-Za-z0-9_-]{1,255}$: a file name without dots
bool cell_container_name_is_valid(const char *name);
// The file of a container's log, or (`rotated`) of the part before: <name>.log, <name>.log.1. A
// name that leaves no room for that is cut, and its hash stands behind a dot.
void cell_log_file(const char *name, bool rotated, char ret_file[NAME_MAX + 1]);
