// SPDX-License-Identifier: Apache-2.0
// The API over its socket, with a fake backend: requests, objects, tasks.
#include <errno.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cmocka.h>

#include "agent/base/buffer.h"
#include "agent/base/scope.h"
#include "tests/unit/api_client.h"

enum { READER_GID = 54321, STRANGER_UID = 54322 };

#define VPC    "{\"cidrBlock\":\"10.0.0.0/16\"}"
#define SUBNET "{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.1.0/24\"}"
#define GROUP  "{\"vpcId\":\"main\",\"description\":\"web\"}"
#define TASK                                                                                       \
	"{\"cpu\":\"256\",\"memory\":\"512\",\"containerDefinitions\":[{\"name\":\"web\","         \
	"\"image\":\"busybox\",\"environment\":[{\"name\":\"PASSWORD\",\"value\":\"hunter2\"}]}]," \
	"\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":[\"a\"],"                  \
	"\"securityGroups\":[\"web\"]}}}"

static int start(void **state)
{
	static struct api_test test;

	api_test_start(&test, (struct api_fake_options){.reader_gid = READER_GID,
							.fail_commit_id = "unlucky"});
	*state = &test;
	return 0;
}

static int stop(void **state)
{
	api_test_stop(*state);
	return 0;
}

static void make_network(const struct api_test *test)
{
	assert_int_equal(api_test_put(test, "/v1/vpcs/main", VPC, NULL), 201);
	assert_int_equal(api_test_put(test, "/v1/subnets/a", SUBNET, NULL), 201);
	assert_int_equal(api_test_put(test, "/v1/security-groups/web", GROUP, NULL), 201);
}

// Fails unless the answer to the request has the status and every one of the texts in it.
static void expect(const struct api_test *test, const char *method, const char *path,
		   const char *headers, const char *body, int status, const char *const *texts)
{
	scoped(api_answer_release) struct api_answer answer =
		api_test_request(test, method, path, headers, body);

	if (answer.status != status)
		fail_msg("%s %s: %d instead of %d: %s", method, path, answer.status, status,
			 answer.body);
	for (; *texts; texts++)
		if (!strstr(answer.body, *texts) && !strstr(answer.head, *texts))
			fail_msg("%s %s: no \"%s\" in %s\n%s", method, path, *texts, answer.head,
				 answer.body);
}
#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_put_creates_updates_and_refuses(void **state)
{
	const struct api_test *test = *state;

	expect(test, "PUT", "/v1/vpcs/main", "", VPC, 201,
	       TEXTS("\"kind\":\"vpc\"", "\"revision\":1,", "ETag: \"1\"", "\"mtu\":1500"));
	// Another notation of the same is the same.
	expect(test, "PUT", "/v1/vpcs/main", "", "{ \"mtu\": 1500, \"cidrBlock\":\"10.0.0.0/16\"}",
	       200, TEXTS("\"revision\":1,"));
	expect(test, "PUT", "/v1/vpcs/main", "",
	       "{\"cidrBlock\":\"10.0.0.0/16\",\"dnsServers\":[\"10.0.0.2\"]}", 200,
	       TEXTS("\"revision\":2,", "10.0.0.2"));
	expect(test, "PUT", "/v1/vpcs/main", "", "{\"cidrBlock\":\"10.1.0.0/16\",\"mtu\":1400}",
	       409, TEXTS("\"Conflict\"", "\"/cidrBlock\"", "\"/mtu\""));
	expect(test, "GET", "/v1/vpcs/main", "", "", 200, TEXTS("10.0.0.0/16"));
	expect(test, "GET", "/v1/vpcs", "", "", 200,
	       TEXTS("{\"revision\":2,\"items\":[{\"kind\":\"vpc\",\"id\":\"main\"",
		     "Penstock-Epoch: "));
	expect(test, "GET", "/v1/vpcs/other", "", "", 404, TEXTS("\"NotFound\""));
}

static void test_bad_documents_are_refused_and_leave_nothing(void **state)
{
	const struct api_test *test = *state;
	static const struct {
		const char *body, *text;
	} documents[] = {
		{"", "\"details\":[{"},
		{"not json", "\"InvalidParameter\""},
		{"[]", "\"InvalidParameter\""},
		{"{\"cidrBlock\":\"10.0.0.0/16\",\"cidrBlock\":\"10.0.0.0/16\"}", "duplicate"},
		{"{\"cidrBlock\":\"10.0.0.0/16\",\"mtu\":9007199254740993}", "\"/mtu\""},
		{"{\"cidrBlock\":\"10.0.0.0/16\",\"colour\":1}", "\"/colour\""},
		{"{\"cidrBlock\":5}", "\"/cidrBlock\""},
		{"{\"cidrBlock\":\"10.0.0.1/16\"}", "\"/cidrBlock\""},
		{"{}", "\"/cidrBlock\""},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(documents); i++)
		expect(test, "PUT", "/v1/vpcs/x", "", documents[i].body, 400,
		       TEXTS(documents[i].text));
	expect(test, "GET", "/v1/vpcs", "", "", 200, TEXTS("{\"revision\":0,\"items\":[]}"));
}

// Of form and of what the document refers to.
static void test_all_faults_are_reported_at_once(void **state)
{
	const struct api_test *test = *state;

	expect(*state, "PUT", "/v1/vpcs/x", "", "{\"cidrBlock\":\"nonsense\",\"mtu\":5}", 400,
	       TEXTS("\"pointer\":\"/cidrBlock\"", "\"pointer\":\"/mtu\""));
	expect(*state, "PUT", "/v1/subnets/x", "",
	       "{\"vpcId\":\"nowhere\",\"cidrBlock\":\"10.0.1.0/24\",\"internet\":\"nat\"}", 400,
	       TEXTS("\"/internet\"", "\"/vpcId\""));
	make_network(test);
	expect(test, "PUT", "/v1/subnets/x", "",
	       "{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.1.0/28\",\"colour\":1}", 400,
	       TEXTS("\"/colour\"", "overlaps subnet a"));
	expect(test, "PUT", "/v1/vpcs/main", "",
	       "{\"cidrBlock\":\"10.0.0.0\",\"attachments\":["
	       "{\"interface\":\"a\",\"address\":\"10.0.1.1/24\"},"
	       "{\"interface\":\"b\",\"address\":\"0.0.0.0\"}]}",
	       400,
	       TEXTS("\"/cidrBlock\"", "\"/attachments/0/address\",\"message\":\"overlaps",
		     "\"/attachments/1/address\",\"message\":\"\\\"0.0.0.0"));
	expect(test, "PUT", "/v1/tasks/t", "",
	       "{\"cpu\":256,\"memory\":\"512\",\"containerDefinitions\":[{\"name\":\"c\"}],"
	       "\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":[\"a\"],"
	       "\"securityGroups\":[\"web\",\"none\"]}}}",
	       400,
	       TEXTS("\"/cpu\"", "\"/containerDefinitions/0/image\"",
		     "no security-group \\\"none\\\""));
}

static void test_depth_and_size_are_bounded(void **state)
{
	const struct api_test *test = *state;
	static const char blank[] = "                                                        ";
	scoped(buffer_release) struct buffer deep = {0}, large = {0};

	for (int i = 0; i < 40; i++)
		buffer_adds(&deep, "[");
	expect(test, "PUT", "/v1/vpcs/x", "", buffer_text(&deep), 400, TEXTS("InvalidParameter"));
	while (large.length <= 1024 * 1024)
		buffer_adds(&large, blank);
	expect(test, "PUT", "/v1/vpcs/x", "", buffer_text(&large), 413, TEXTS("RequestTooLarge"));
	while (large.length <= 3 * 1024 * 1024)
		buffer_adds(&large, blank);
	expect(test, "PUT", "/v1/vpcs/x", "", buffer_text(&large), 413, TEXTS(NULL));
}

static void test_paths_methods_and_queries_are_strict(void **state)
{
	const struct api_test *test = *state;

	expect(test, "GET", "/v1/nothing", "", "", 404, TEXTS("\"NotFound\""));
	expect(test, "GET", "/v1/vpcs/a/b", "", "", 404, TEXTS("\"NotFound\""));
	expect(test, "PUT", "/v1/access-points/a", "", "", 404,
	       TEXTS("access points are not built yet"));
	expect(test, "GET", "/v1/vpcs/", "", "", 400, TEXTS("\"InvalidRequest\""));
	expect(test, "POST", "/v1/vpcs/a", "", "{}", 405, TEXTS("\"MethodNotAllowed\""));
	expect(test, "PATCH", "/v1/vpcs/a", "", "{}", 405, TEXTS("\"MethodNotAllowed\""));
	expect(test, "PUT", "/v1/vpcs/UPPER", "", VPC, 400, TEXTS("\"InvalidRequest\""));
	expect(test, "PUT", "/v1/vpcs/..%2f..", "", VPC, 400, TEXTS("\"InvalidRequest\""));
	expect(test, "GET", "/v1/vpcs?colour=red", "", "", 400, TEXTS("unknown query parameter"));
	expect(test, "PUT", "/v1/vpcs/a?dryRun=maybe", "", VPC, 400, TEXTS("true or false"));
	expect(test, "PUT", "/v1/vpcs/a?dryRun=true&dryRun=false", "", VPC, 400, TEXTS("twice"));
	expect(test, "PUT", "/v1/vpcs/a", "If-Match: blue\r\n", VPC, 400, TEXTS("If-Match"));
}

static void test_if_match_guards(void **state)
{
	const struct api_test *test = *state;
	const char *changed = "{\"cidrBlock\":\"10.0.0.0/16\",\"dnsServers\":[\"10.0.0.2\"]}";

	expect(test, "PUT", "/v1/vpcs/main", "If-Match: \"7\"\r\n", VPC, 412,
	       TEXTS("RevisionMismatch"));
	expect(test, "PUT", "/v1/vpcs/main", "", VPC, 201, TEXTS(NULL));
	expect(test, "PUT", "/v1/vpcs/main", "If-Match: \"2\"\r\n", changed, 412,
	       TEXTS("RevisionMismatch"));
	expect(test, "PUT", "/v1/vpcs/main", "If-Match: 1\r\n", changed, 200, TEXTS("ETag: \"2\""));
	expect(test, "DELETE", "/v1/vpcs/main", "If-Match: \"1\"\r\n", "", 412,
	       TEXTS("RevisionMismatch"));
	expect(test, "DELETE", "/v1/vpcs/main", "If-Match: \"2\"\r\n", "", 204, TEXTS(NULL));
}

static void test_dry_run_touches_nothing(void **state)
{
	const struct api_test *test = *state;

	expect(test, "PUT", "/v1/vpcs/main?dryRun=true", "", VPC, 200,
	       TEXTS("\"action\":\"create\""));
	expect(test, "GET", "/v1/vpcs/main", "", "", 404, TEXTS(NULL));
	make_network(test);
	expect(test, "PUT", "/v1/vpcs/main?dryRun=true", "",
	       "{\"cidrBlock\":\"10.0.0.0/16\",\"dnsServers\":[\"10.0.0.2\"]}", 200,
	       TEXTS("\"action\":\"update\"", "\"changes\":[\"/dnsServers"));
	expect(test, "PUT", "/v1/tasks/t?dryRun=true", "", TASK, 200,
	       TEXTS("\"action\":\"create\"", "\"plan\":{\"taskId\":\"t\""));
	expect(test, "GET", "/v1/tasks/t", "", "", 404, TEXTS(NULL));
	expect(test, "DELETE", "/v1/security-groups/web?dryRun=true", "", "", 200,
	       TEXTS("\"action\":\"delete\""));
	expect(test, "GET", "/v1/security-groups/web", "", "", 200, TEXTS("\"revision\":3,"));
}

static void test_references_are_checked_both_ways(void **state)
{
	const struct api_test *test = *state;

	expect(test, "PUT", "/v1/subnets/a", "", SUBNET, 400, TEXTS("\"/vpcId\""));
	make_network(test);
	expect(test, "PUT", "/v1/subnets/b", "",
	       "{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.1.128/25\"}", 400,
	       TEXTS("\"/cidrBlock\"", "overlaps subnet a"));
	expect(test, "PUT", "/v1/subnets/b", "",
	       "{\"vpcId\":\"main\",\"cidrBlock\":\"10.1.1.0/24\"}", 400, TEXTS("\"/cidrBlock\""));
	expect(test, "PUT", "/v1/subnets/a", "", SUBNET, 200, TEXTS(NULL));
	expect(test, "DELETE", "/v1/vpcs/main", "", "", 409,
	       TEXTS("\"InUse\"", "/v1/security-groups/web", "/v1/subnets/a"));
	expect(test, "DELETE", "/v1/subnets/a", "", "", 204, TEXTS(NULL));
	expect(test, "DELETE", "/v1/subnets/a", "", "", 404, TEXTS(NULL));
}

static void test_attachments_and_subnets_are_apart(void **state)
{
	static const char attached[] =
		"{\"cidrBlock\":\"10.0.0.0/16\",\"attachments\":["
		"{\"interface\":\"att-0\",\"address\":\"192.168.70.1/24\",\"routes\":["
		"{\"destinationCidrBlock\":\"0.0.0.0/0\",\"gateway\":\"192.168.70.2\"},"
		"{\"destinationCidrBlock\":\"10.0.0.0/8\",\"gateway\":\"192.168.70.2\"},"
		"{\"destinationCidrBlock\":\"10.0.3.0/25\",\"gateway\":\"192.168.70.2\"}]},"
		"{\"interface\":\"att-1\",\"address\":\"10.0.%s/28\"}]}";
	const struct api_test *test = *state;
	char outside[512], inside[512];

	snprintf(outside, sizeof(outside), attached, "2.17");
	snprintf(inside, sizeof(inside), attached, "1.17");
	make_network(test);
	expect(test, "PUT", "/v1/vpcs/main", "", inside, 400,
	       TEXTS("\"/attachments/1/address\"", "overlaps subnet a (10.0.1.0/24)"));
	expect(test, "PUT", "/v1/vpcs/main", "", outside, 200, TEXTS("att-1"));
	expect(test, "PUT", "/v1/subnets/b", "",
	       "{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.2.0/24\"}", 400,
	       TEXTS("\"/cidrBlock\"", "overlaps 10.0.2.16/28 of the VPC's attachment att-1"));
	expect(test, "PUT", "/v1/subnets/b", "",
	       "{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.3.0/24\"}", 400,
	       TEXTS("\"/cidrBlock\"", "overlaps 10.0.3.0/25 of the VPC's attachment att-0"));
	expect(test, "PUT", "/v1/subnets/b", "",
	       "{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.4.0/24\"}", 201, TEXTS(NULL));
	expect(test, "DELETE", "/v1/subnets/a", "", "", 204, TEXTS(NULL));
	expect(test, "PUT", "/v1/vpcs/main", "", inside, 200, TEXTS(NULL));
}

static void test_a_route_into_a_subnet_is_refused(void **state)
{
	const struct api_test *test = *state;

	make_network(test);
	expect(test, "PUT", "/v1/vpcs/main", "",
	       "{\"cidrBlock\":\"10.0.0.0/16\",\"attachments\":[{\"interface\":\"att-0\","
	       "\"address\":\"192.168.70.1/24\",\"routes\":["
	       "{\"destinationCidrBlock\":\"10.9.0.0/16\"},"
	       "{\"destinationCidrBlock\":\"10.0.1.0/24\"}]}]}",
	       400, TEXTS("\"/attachments/0/routes/1/destinationCidrBlock\"", "overlaps subnet a"));
}

static void test_a_task_of_two_vpcs_is_refused(void **state)
{
	const struct api_test *test = *state;

	make_network(test);
	assert_int_equal(api_test_put(test, "/v1/vpcs/other", VPC, NULL), 201);
	assert_int_equal(api_test_put(test, "/v1/subnets/far",
				      "{\"vpcId\":\"other\",\"cidrBlock\":\"10.0.1.0/24\"}", NULL),
			 201);
	expect(test, "PUT", "/v1/tasks/t", "",
	       "{\"cpu\":\"256\",\"memory\":\"513\",\"containerDefinitions\":[{\"name\":\"c\","
	       "\"image\":\"b\"}],\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":"
	       "[\"a\",\"far\"],\"securityGroups\":[\"web\"]}}}",
	       400, TEXTS("No Fargate configuration exists for given values"));
	expect(test, "PUT", "/v1/tasks/t", "",
	       "{\"cpu\":\"256\",\"memory\":\"512\",\"containerDefinitions\":[{\"name\":\"c\","
	       "\"image\":\"b\"}],\"networkConfiguration\":{\"awsvpcConfiguration\":{\"subnets\":"
	       "[\"a\",\"far\"],\"securityGroups\":[\"web\",\"none\"]}}}",
	       400, TEXTS("awsvpcConfiguration/subnets/1", "awsvpcConfiguration/securityGroups/1"));
	expect(test, "GET", "/v1/tasks", "", "", 200, TEXTS("\"items\":[]"));
}

static void test_backend_may_refuse(void **state)
{
	const struct api_test *test = *state;

	assert_int_equal(api_test_put(test, "/v1/vpcs/busy", VPC, NULL), 201);
	expect(test, "DELETE", "/v1/vpcs/busy", "", "", 409, TEXTS("is being emptied"));
	make_network(test);
	expect(test, "PUT", "/v1/tasks/full-1", "", TASK, 409,
	       TEXTS("\"InsufficientCapacity\"", "512 MiB wanted"));
}

static void test_task_life(void **state)
{
	const struct api_test *test = *state;

	make_network(test);
	expect(test, "PUT", "/v1/tasks/t?wait=RUNNING&timeout=10", "", TASK, 201,
	       TEXTS("\"lastStatus\":\"RUNNING\""));
	expect(test, "PUT", "/v1/tasks/t", "", TASK, 200, TEXTS("\"lastStatus\":\"RUNNING\""));
	expect(test, "PUT", "/v1/tasks/t", "",
	       "{\"cpu\":\"512\",\"memory\":\"1024\",\"containerDefinitions\":[{\"name\":\"web\","
	       "\"image\":\"busybox\"}],\"networkConfiguration\":{\"awsvpcConfiguration\":"
	       "{\"subnets\":[\"a\"],\"securityGroups\":[\"web\"]}}}",
	       409, TEXTS("\"Conflict\"", "\"/cpu\"", "\"/memory\""));
	expect(test, "DELETE", "/v1/subnets/a", "", "", 409, TEXTS("/v1/tasks/t"));
	expect(test, "DELETE", "/v1/tasks/t", "", "", 409, TEXTS("stop it first"));
	expect(test, "POST", "/v1/tasks/t/stop?wait=STOPPED&timeout=10", "",
	       "{\"reason\":\"enough\",\"drainSeconds\":0}", 200,
	       TEXTS("\"lastStatus\":\"STOPPED\"", "enough"));
	expect(test, "POST", "/v1/tasks/t/stop", "", "", 200, TEXTS("\"STOPPED\""));
	expect(test, "PUT", "/v1/tasks/t", "", TASK, 200, TEXTS("\"lastStatus\":\"STOPPED\""));
	expect(test, "DELETE", "/v1/tasks/t", "", "", 204, TEXTS(NULL));
	expect(test, "DELETE", "/v1/tasks/t", "", "", 404, TEXTS(NULL));
}

static void test_a_stopped_task_outlives_what_it_names(void **state)
{
	const struct api_test *test = *state;

	make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t", TASK, NULL), 201);
	assert_int_equal(api_test_status(test, "POST", "/v1/tasks/t/stop?wait=STOPPED"), 200);
	assert_int_equal(api_test_status(test, "DELETE", "/v1/security-groups/web"), 204);
	expect(test, "PUT", "/v1/tasks/t", "", TASK, 200, TEXTS("\"lastStatus\":\"STOPPED\""));
	expect(test, "PUT", "/v1/tasks/other", "", TASK, 400, TEXTS("no security-group"));
}

static void test_a_change_of_status_does_not_spoil_if_match(void **state)
{
	const struct api_test *test = *state;

	make_network(test);
	expect(test, "PUT", "/v1/tasks/t?wait=RUNNING", "", TASK, 201, TEXTS("\"revision\":5,"));
	expect(test, "POST", "/v1/tasks/t/stop", "If-Match: 3\r\n", "", 412,
	       TEXTS("RevisionMismatch"));
	expect(test, "POST", "/v1/tasks/t/stop?wait=STOPPED", "If-Match: 4\r\n", "", 200,
	       TEXTS("\"STOPPED\""));
	expect(test, "DELETE", "/v1/tasks/t", "If-Match: 99\r\n", "", 412,
	       TEXTS("RevisionMismatch"));
	expect(test, "DELETE", "/v1/tasks/t", "If-Match: 5\r\n", "", 204, TEXTS(NULL));
}

static void test_stop_body_is_checked(void **state)
{
	const struct api_test *test = *state;

	make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t", TASK, NULL), 201);
	expect(test, "POST", "/v1/tasks/t/stop", "",
	       "{\"reason\":5,\"drainSeconds\":-1,\"force\":true}", 400,
	       TEXTS("\"/reason\"", "\"/drainSeconds\"", "\"/force\""));
	expect(test, "POST", "/v1/tasks/none/stop", "", "", 404, TEXTS(NULL));
}

static void test_wait_ends_without_its_state(void **state)
{
	const struct api_test *test = *state;

	make_network(test);
	expect(test, "PUT", "/v1/tasks/fail-1?wait=RUNNING&timeout=10", "", TASK, 202,
	       TEXTS("\"lastStatus\":\"STOPPED\"", "ResourceInitializationError"));
	expect(test, "PUT", "/v1/tasks/stuck-1?wait=RUNNING&timeout=1", "", TASK, 202,
	       TEXTS("\"lastStatus\":\"PENDING\""));
	expect(test, "GET", "/v1/tasks/stuck-1?wait=PENDING", "", "", 200, TEXTS("PENDING"));
	expect(test, "GET", "/v1/tasks/stuck-1?wait=SLEEPING", "", "", 400, TEXTS("wait"));
	expect(test, "GET", "/v1/tasks/stuck-1?timeout=5", "", "", 400, TEXTS("timeout"));
	expect(test, "GET", "/v1/vpcs/main?wait=RUNNING", "", "", 400, TEXTS("unknown query"));
}

static void test_views(void **state)
{
	const struct api_test *test = *state;

	expect(test, "GET", "/healthz", "", "", 200, TEXTS("ok\n"));
	expect(test, "GET", "/readyz", "", "", 200, TEXTS("ready\n"));
	expect(test, "GET", "/v1/host", "", "", 200, TEXTS("\"driver\":\"netns\""));
	expect(test, "GET", "/v1/enis", "", "", 200, TEXTS("\"items\":[{\"eniId\":\"eni-1\""));
	expect(test, "GET", "/v1/enis/eni-1", "", "", 200, TEXTS("{\"eniId\":\"eni-1\""));
	expect(test, "GET", "/v1/enis/eni-2", "", "", 404, TEXTS("\"NotFound\""));
	expect(test, "GET", "/v1/target-groups/tg/targets", "", "", 404, TEXTS("\"NotFound\""));
	expect(test, "GET", "/metrics", "", "", 200,
	       TEXTS("text/plain; version=0.0.4", "fake_requests_total"));
	expect(test, "GET", "/metrics", "Accept: application/openmetrics-text\r\n", "", 200,
	       TEXTS("application/openmetrics-text", "# EOF"));
	expect(test, "GET", "/openapi.yaml", "", "", 200, TEXTS("openapi: 3.0.3", "ErrorCode"));
}

static void test_shutdown_is_answered_before_the_end(void **state)
{
	expect(*state, "POST", "/v1/shutdown?stopTasks=true", "", "", 202,
	       TEXTS("{\"stopTasks\":true}"));
}

static void test_failed_commit_is_no_promise(void **state)
{
	const struct api_test *test = *state;

	expect(test, "PUT", "/v1/vpcs/unlucky", "", VPC, 503, TEXTS("StoreUnavailable"));
	expect(test, "GET", "/v1/vpcs/unlucky", "", "", 404, TEXTS(NULL));
	expect(test, "PUT", "/v1/vpcs/main", "", VPC, 201, TEXTS("\"revision\":1,"));
}

// --- Who may do what ---

static bool become(uid_t uid, gid_t supplementary)
{
	return setgroups(1, &supplementary) == 0 && seteuid(uid) == 0;
}

static void become_root_again(void)
{
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(setgroups(0, NULL), 0);
}

static void test_credentials_decide(void **state)
{
	const struct api_test *test = *state;

	if (geteuid() != 0) {
		print_message("skipped: needs root to change identities\n");
		skip();
	}
	make_network(test);
	assert_int_equal(api_test_put(test, "/v1/tasks/t", TASK, NULL), 201);
	expect(test, "GET", "/v1/tasks/t", "", "", 200, TEXTS("hunter2"));
	assert_true(become(STRANGER_UID, READER_GID));
	expect(test, "GET", "/v1/tasks/t", "", "", 200, TEXTS("<redacted>"));
	expect(test, "GET", "/v1/tasks", "", "", 200, TEXTS("<redacted>"));
	expect(test, "GET", "/v1/events?kind=task", "", "", 200, TEXTS("<redacted>"));
	expect(test, "PUT", "/v1/vpcs/x", "", VPC, 403, TEXTS("\"AccessDenied\""));
	expect(test, "DELETE", "/v1/tasks/t", "", "", 403, TEXTS("\"AccessDenied\""));
	become_root_again();
	assert_true(become(STRANGER_UID, STRANGER_UID));
	expect(test, "GET", "/v1/tasks", "", "", 403, TEXTS("\"AccessDenied\""));
	expect(test, "GET", "/healthz", "", "", 403, TEXTS("\"AccessDenied\""));
	become_root_again();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, start, stop)
		CASE(test_put_creates_updates_and_refuses),
		CASE(test_bad_documents_are_refused_and_leave_nothing),
		CASE(test_all_faults_are_reported_at_once),
		CASE(test_depth_and_size_are_bounded),
		CASE(test_paths_methods_and_queries_are_strict),
		CASE(test_if_match_guards),
		CASE(test_dry_run_touches_nothing),
		CASE(test_references_are_checked_both_ways),
		CASE(test_attachments_and_subnets_are_apart),
		CASE(test_a_route_into_a_subnet_is_refused),
		CASE(test_a_task_of_two_vpcs_is_refused),
		CASE(test_backend_may_refuse),
		CASE(test_task_life),
		CASE(test_a_stopped_task_outlives_what_it_names),
		CASE(test_a_change_of_status_does_not_spoil_if_match),
		CASE(test_stop_body_is_checked),
		CASE(test_wait_ends_without_its_state),
		CASE(test_views),
		CASE(test_shutdown_is_answered_before_the_end),
		CASE(test_failed_commit_is_no_promise),
		CASE(test_credentials_decide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
