// SPDX-License-Identifier: Apache-2.0
// Options of the verbs, and their help.
#include <stdio.h>
#include <string.h>

#include "agent/ctl/ctl.h"

void verb_help(const struct verb *verb)
{
	printf("usage: penstockctl %s%s%s\n\n%s\n", verb->name, verb->arguments[0] ? " " : "",
	       verb->arguments, verb->help);
}

int usage_error(const struct verb *verb, const char *message, const char *what)
{
	fprintf(stderr,
		"penstockctl %s: %s%s\nusage: penstockctl %s %s\nMore: penstockctl %s --help\n",
		verb->name, message, what, verb->name, verb->arguments, verb->name);
	return EXIT_USAGE;
}

static const struct option_value *option_find(const char *word, const struct option_value *options,
					      size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(word, options[i].name) == 0 ||
		    (options[i].short_name && strcmp(word, options[i].short_name) == 0))
			return &options[i];
	return NULL;
}

int options_take(const struct verb *verb, int argc, char **argv, const struct option_value *options,
		 size_t option_count)
{
	int kept = 0;

	for (int i = 1; i < argc; i++) {
		const struct option_value *option = option_find(argv[i], options, option_count);

		if (argv[i][0] != '-' || argv[i][1] == '\0') {
			argv[++kept] = argv[i];
		} else if (!option) {
			usage_error(verb, "unknown option ", argv[i]);
			return -1;
		} else if (option->flag) {
			*option->flag = true;
		} else if (i + 1 == argc) {
			usage_error(verb, "a value is missing behind ", argv[i]);
			return -1;
		} else {
			*option->text = argv[++i];
		}
	}
	return kept;
}
