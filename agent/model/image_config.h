// SPDX-License-Identifier: Apache-2.0
// An OCI image configuration (`<image>.json`): what the image says about running it.
// Unknown members are ignored, as the OCI image specification asks.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/arena.h"
#include "agent/base/error.h"

// Absent strings are "", absent lists have count 0.
struct image_config {
	const char **entry_point;
	uint32_t entry_point_count;
	const char **command;
	uint32_t command_count;
	const char **environment; // "NAME=value"
	uint32_t environment_count;
	const char *user;
	const char *working_directory;
	const char **volumes; // absolute, without a '/' at the end
	uint32_t volume_count;
	const char *stop_signal; // "SIGQUIT", "quit", "3", "SIGRTMIN+3"; "SIGTERM" when absent
};

// Whether the image declares the directory a volume (VOLUME in a Dockerfile).
bool image_config_has_volume(const struct image_config *config, const char *path);

// The number of its stop signal; a name that is none means SIGTERM, as with Docker.
int image_config_stop_signal(const struct image_config *config);

// What an image without a configuration file has.
void image_config_default(struct image_config *ret_config);

// -EBADMSG with the JSON pointer in the message.
int image_config_parse(const char *text, size_t length, struct arena *arena,
		       struct image_config *ret_config, struct error *err);
