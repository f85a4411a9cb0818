// SPDX-License-Identifier: Apache-2.0
// The fake agent as a program, to try clients by hand: test_api_fake DIRECTORY
#include <stdio.h>

#include "tests/unit/api_fake.h"

int main(int argc, char **argv)
{
	const struct api_fake_options options = {.directory = argc > 1 ? argv[1] : ".",
						 .reader_gid = (gid_t)-1};

	return api_fake_serve(&options);
}
