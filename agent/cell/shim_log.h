// SPDX-License-Identifier: Apache-2.0
// Log files of a cell, rotated by size: <name>.log and the one before, <name>.log.1.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "agent/cell/shim_paths.h"

struct log_file {
	int directory_fd; // borrowed
	int fd;           // -1 until something is written
	uint64_t size_bytes, max_bytes;
	char name[CELL_CONTAINER_NAME_MAX + 1];
};

// Nothing is opened yet. `name` is a valid container name.
void log_file_open(struct log_file *log, int directory_fd, const char *name, uint64_t max_bytes);
void log_file_close(struct log_file *log);

// Both append all or nothing, and to one file: it is rotated before when they would not fit.

// Appends the bytes as they are.
int log_file_write(struct log_file *log, const void *bytes, size_t length, struct error *err);

// Appends them line by line in the CRI format, "2026-01-31T09:08:07.654Z stdout F text"; a last
// line without newline is marked P: the next one of that stream goes on with it.
int log_file_write_lines(struct log_file *log, int64_t wall_ms, const char *stream,
			 const char *bytes, size_t length, struct error *err);
