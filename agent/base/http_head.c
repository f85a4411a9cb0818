// SPDX-License-Identifier: Apache-2.0
#include "agent/base/http_head.h"

#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"

size_t http_head_find(const char *text, size_t length, size_t *scanned)
{
	size_t from = *scanned > 3 ? *scanned - 3 : 0;
	const char *found =
		length > from ? memmem(text + from, length - from, "\r\n\r\n", 4) : NULL;

	*scanned = length;
	return found ? (size_t)(found - text) + 4 : 0;
}

// Cuts the next line off *at: NUL instead of its CRLF. A line with other control characters is
// NULL.
static char *cut_line(char **at)
{
	char *line = *at;
	char *end = strstr(line, "\r\n");

	if (!end)
		return NULL;
	*end = '\0';
	*at = end + 2;
	for (const char *byte = line; *byte; byte++)
		if (((unsigned char)*byte < 0x20 && *byte != '\t') || *byte == 0x7f)
			return NULL;
	return line;
}

static bool is_token(const char *name)
{
	for (const char *byte = name; *byte; byte++)
		if (!strchr("!#$%&'*+-.^_`|~", *byte) && !(*byte >= '0' && *byte <= '9') &&
		    !((*byte | 0x20) >= 'a' && (*byte | 0x20) <= 'z'))
			return false;
	return *name != '\0';
}

// Splits "Name: value" and trims the value. False for a line that is none.
static bool split_field(char *line, struct http_field *field)
{
	char *value = strchr(line, ':');
	char *end;

	if (!value)
		return false;
	*value++ = '\0';
	if (!is_token(line))
		return false;
	value += strspn(value, " \t");
	end = value + strlen(value);
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	*field = (struct http_field){line, value};
	return true;
}

static unsigned parse_fields(char *at, struct http_head *head)
{
	for (;;) {
		char *line = cut_line(&at);

		if (!line)
			return 400;
		if (!*line)
			return 0;
		if (head->count == HTTP_FIELDS_MAX)
			return 431;
		if (!split_field(line, &head->fields[head->count++]))
			return 400;
	}
}

// "GET /path?query HTTP/1.1"
static unsigned parse_request_line(char *line, struct http_head *head)
{
	char *target = strchr(line, ' ');
	char *version = target ? strchr(target + 1, ' ') : NULL;

	if (!version || version == target + 1 || strchr(version + 1, ' '))
		return 400;
	*target++ = '\0';
	*version++ = '\0';
	if (!is_token(line))
		return 400;
	if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
		return 505;
	head->method = line;
	head->target = target;
	head->minor = (unsigned)(version[7] - '0');
	return 0;
}

// "HTTP/1.1 204 No Content"
static unsigned parse_status_line(char *line, struct http_head *head)
{
	char digits[4] = {0};
	uint32_t status;

	if (strncmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') ||
	    line[8] != ' ')
		return 400;
	strncpy(digits, line + 9, 3);
	if (parse_u32(digits, 599, &status) < 0 || status < 100 ||
	    (line[12] != ' ' && line[12] != '\0'))
		return 400;
	head->status = status;
	head->minor = (unsigned)(line[7] - '0');
	return 0;
}

static unsigned head_parse(char *text, size_t length, struct http_head *ret_head,
			   unsigned (*parse_first)(char *line, struct http_head *head))
{
	char *at = text;
	char *line;
	unsigned status;

	ret_head->method = "";
	ret_head->target = NULL;
	ret_head->status = ret_head->minor = ret_head->count = 0;
	if (length < 4 || memcmp(text + length - 4, "\r\n\r\n", 4) != 0 ||
	    memchr(text, '\0', length))
		return 400;
	line = cut_line(&at);
	if (!line)
		return 400;
	status = parse_first(line, ret_head);
	return status ? status : parse_fields(at, ret_head);
}

unsigned http_request_head_parse(char *text, size_t length, struct http_head *ret_head)
{
	return head_parse(text, length, ret_head, parse_request_line);
}

unsigned http_response_head_parse(char *text, size_t length, struct http_head *ret_head)
{
	return head_parse(text, length, ret_head, parse_status_line);
}

static const struct {
	unsigned status;
	const char *reason;
} reasons[] = {
	{200, "OK"},
	{201, "Created"},
	{202, "Accepted"},
	{204, "No Content"},
	{400, "Bad Request"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{409, "Conflict"},
	{410, "Gone"},
	{412, "Precondition Failed"},
	{413, "Content Too Large"},
	{414, "URI Too Long"},
	{417, "Expectation Failed"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{503, "Service Unavailable"},
	{505, "HTTP Version Not Supported"},
	{507, "Insufficient Storage"},
};

const char *http_reason(unsigned status)
{
	for (size_t i = 0; i < ARRAY_LENGTH(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}
