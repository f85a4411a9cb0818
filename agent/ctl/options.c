// SPDX-License-Identifier: Apache-2.0
// The command line: options before and behind the verb, its arguments, its help.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

void verb_help(const struct verb *verb)
{
	printf("usage: penstockctl %s%s%s\n\n%s\n", verb->name, verb->arguments[0] ? " " : "",
	       verb->arguments, verb->help);
}

int usage_error(const struct verb *verb, const char *message, const char *what)
{
	if (verb)
		fprintf(stderr,
			"penstockctl %s: %s%s\nusage: penstockctl %s %s\n"
			"More: penstockctl %s --help\n",
			verb->name, message, what, verb->name, verb->arguments, verb->name);
	else
		fprintf(stderr, "penstockctl: %s%s\nMore: penstockctl --help\n", message, what);
	return EXIT_USAGE;
}

static bool name_is(const char *name, const char *word, size_t length)
{
	return name && strlen(name) == length && memcmp(name, word, length) == 0;
}

// Takes the option at argv[*at], with its value in the next word or behind '='. False when it is
// none of these. `taken` has a bit for each that had its value already, of which the last must not
// win silently; NULL: it may, as for what is given with every call (an alias's --socket).
static bool option_take(const struct verb *verb, char **argv, int *at,
			const struct option_value *options, size_t count, unsigned *taken)
{
	const char *word = argv[*at], *equals = strchr(word, '=');
	size_t length = equals ? (size_t)(equals - word) : strlen(word);
	const struct option_value *option = options;

	while (option < options + count && !name_is(option->name, word, length) &&
	       !name_is(option->short_name, word, length))
		option++;
	if (option == options + count || (option->flag && equals))
		return false;
	if (option->flag) {
		*option->flag = true;
		return true;
	}
	if (taken && *taken & 1U << (option - options))
		exit(usage_error(verb, "given twice: ", word));
	if (taken)
		*taken |= 1U << (option - options);
	if (equals)
		*option->text = equals + 1;
	else if (argv[*at + 1])
		*option->text = argv[++*at];
	else
		exit(usage_error(verb, "a value is missing behind ", word));
	return true;
}

int globals_take(struct globals *globals, int argc, char **argv)
{
	const char *format = "table";
	const struct option_value options[] = {
		{"--socket", NULL, &globals->ctl.socket_path, NULL},
		{"--output", "-o", &format, NULL},
		{"--help", "-h", NULL, &globals->help},
		{"--version", NULL, NULL, &globals->version},
	};
	int kept = 1, i = 1;

	for (; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (!option_take(NULL, argv, &i, options, ARRAY_LENGTH(options), NULL))
			argv[kept++] = argv[i];
	while (i < argc)
		argv[kept++] = argv[i++];
	argv[kept] = NULL;
	globals->ctl.json = strcmp(format, "json") == 0;
	if (!globals->ctl.json && strcmp(format, "table") != 0)
		exit(usage_error(NULL, "-o takes table or json, not ", format));
	return kept;
}

// "-" is a file, "-1" a number.
static bool is_option(const char *word)
{
	return word[0] == '-' && word[1] != '\0' && !isdigit((unsigned char)word[1]);
}

int options_take(const struct verb *verb, int argc, char **argv, const struct option_value *options,
		 size_t option_count)
{
	bool ended = false;
	unsigned taken = 0;
	int kept = 0;

	for (int i = 1; i < argc; i++) {
		if (ended || !is_option(argv[i]))
			argv[++kept] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			ended = true;
		else if (!option_take(verb, argv, &i, options, option_count, &taken))
			exit(usage_error(verb, "unknown option ", argv[i]));
	}
	if (kept < verb->arguments_min)
		exit(usage_error(verb, "an argument is missing", ""));
	if (kept > verb->arguments_max)
		exit(usage_error(verb, "unexpected argument ", argv[verb->arguments_max + 1]));
	return kept;
}
