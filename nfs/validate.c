// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <string.h>

#include "nfs/nfs.h"

static int validate_component(const char *what, const char *path, const char *component,
			      size_t length, struct error *err)
{
	if (length == 0)
		return error_set(err, EINVAL, "%s \"%s\": \"//\" is not allowed", what, path);
	if ((length == 1 && component[0] == '.') ||
	    (length == 2 && component[0] == '.' && component[1] == '.'))
		return error_set(err, EINVAL, "%s \"%s\": \"%.*s\" is not allowed", what, path,
				 (int)length, component);
	if (length > 255)
		return error_set(err, EINVAL, "%s: a name of %zu bytes, at most 255 are allowed",
				 what, length);
	return 0;
}

static int validate_bytes(const char *what, const char *path, struct error *err)
{
	for (const char *byte = path; *byte; byte++)
		if ((unsigned char)*byte < 0x20 || *byte == 0x7f)
			return error_set(err, EINVAL, "%s: control character 0x%02x at byte %zu",
					 what, (unsigned)*byte, (size_t)(byte - path));
	return 0;
}

int nfs_path_validate(const char *what, const char *path, struct error *err)
{
	const char *component = path + 1;

	if (path[0] != '/')
		return error_set(err, EINVAL, "%s \"%.100s\": must begin with \"/\"", what, path);
	if (strlen(path) >= NFS_PATH_MAX)
		return error_set(err, EINVAL, "%s: %zu bytes, at most %d are allowed", what,
				 strlen(path), NFS_PATH_MAX - 1);
	if (validate_bytes(what, path, err) < 0)
		return -err->code;
	while (*component) { // a trailing "/" leaves an empty rest, which is fine
		size_t length = strcspn(component, "/");

		if (validate_component(what, path, component, length, err) < 0)
			return -err->code;
		component += length;
		if (*component)
			component++;
	}
	return 0;
}
