// SPDX-License-Identifier: Apache-2.0
// The agent's configuration file: `key = value` lines, `#` starts a comment.
//
//     # /etc/penstock/penstock.conf
//     install = main
//     driver = qemu
//     memory_mib = 16384
//
// Every key is optional; agent/model/config.c holds the one table of keys, defaults and
// bounds. Errors name file, line and what would be right. No key may stand twice.
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "agent/base/error.h"
#include "agent/base/log.h"

enum { CONFIG_PATH_MAX = 256, CONFIG_NAME_MAX = 64 };

#define CONFIG_DEFAULT_FILE "/etc/penstock/penstock.conf"

struct config {
	char install[CONFIG_NAME_MAX]; // names everything of this agent; an id of <= 24 characters
	char state_directory[CONFIG_PATH_MAX];   // database, cells, disks, templates, metering
	char runtime_directory[CONFIG_PATH_MAX]; // lock
	char image_directory[CONFIG_PATH_MAX];   // <name>.squashfs, <name>.json
	char guest_directory[CONFIG_PATH_MAX];   // vmlinux, initramfs.cpio
	char program_directory[CONFIG_PATH_MAX]; // penstock-shim, penstock-probe, penstock-init
	char socket[CONFIG_PATH_MAX];            // the API
	char writer_group[CONFIG_NAME_MAX];      // may change, besides root; "" nobody
	char reader_group[CONFIG_NAME_MAX];      // may read; "" nobody
	char driver[CONFIG_NAME_MAX];            // qemu | netns
	char accel[CONFIG_NAME_MAX];             // auto | tcg | kvm
	char log_to[CONFIG_NAME_MAX];            // auto | stderr
	char log_level[CONFIG_NAME_MAX];         // debug | info | warning | error
	uint32_t uid_first, uid_count;           // one uid (and gid) per task
	uint32_t cpu_units;                      // capacity to promise; 0: what the host has
	uint32_t memory_mib;                     // 0: 90 % of what the host has
	uint32_t disk_gib;                       // 0: the file system's size
	uint32_t disk_headroom_gib;
	uint32_t stopped_retention_seconds;
	uint32_t event_retention_count;
	uint32_t cooldown_seconds;      // a released address rests so long
	uint32_t watchdog_seconds;      // a turn of the loop that takes longer ends the agent
	uint32_t guest_silence_seconds; // a guest that has not spoken for so long is reported
	uint32_t log_file_mib;          // a container's log is rotated at this size
};

void config_defaults(struct config *config);

// Reads `path` over the defaults. -EINVAL with "FILE:LINE: ..." for a bad line, -ENOENT
// when there is no such file.
int config_read(const char *path, struct config *ret_config, struct error *err);
// The same for the file that somebody named, or (NULL) CONFIG_DEFAULT_FILE. -ENOENT only for the
// latter: it need not be there, and *ret_config has the defaults.
int config_load(const char *path, struct config *ret_config, struct error *err);

// Writes the keys with their defaults and meanings, as a file to start from.
void config_explain(FILE *out);

enum log_level config_log_level(const struct config *config);
