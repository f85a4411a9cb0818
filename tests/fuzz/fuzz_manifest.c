// SPDX-License-Identifier: Apache-2.0
// The line documents between guest and shim. What decodes must encode to a document that
// decodes to the same again.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/guest/protocol.h"

static void try_manifest(const char *text, size_t size)
{
	scoped(buffer_release) struct buffer first = {0}, second = {0};
	scoped(arena_release) struct arena arena = {0};
	struct guest_manifest manifest;
	struct error err;

	if (guest_manifest_decode(text, size, &arena, &manifest, &err) < 0)
		return;
	if (guest_manifest_encode(&manifest, &first, &err) < 0 ||
	    guest_manifest_decode(first.data, first.length, &arena, &manifest, &err) < 0 ||
	    guest_manifest_encode(&manifest, &second, &err) < 0 || first.length != second.length ||
	    memcmp(first.data, second.data, first.length) != 0)
		abort();
}

static void try_status(const char *text, size_t size)
{
	scoped(buffer_release) struct buffer document = {0};
	struct guest_status status, again;
	struct error err;

	if (guest_status_decode(text, size, &status, &err) < 0)
		return;
	if (guest_status_encode(&status, &document, &err) < 0 ||
	    guest_status_decode(document.data, document.length, &again, &err) < 0 ||
	    strcmp(status.failure, again.failure) != 0 ||
	    status.container_count != again.container_count)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest_commands commands;
	struct error err;

	try_manifest((const char *)data, size);
	try_status((const char *)data, size);
	guest_commands_decode((const char *)data, size, &commands, &err);
	return 0;
}
