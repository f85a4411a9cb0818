#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# penstock's main job, for real, in namespaces of its own: an agent, a VPC, two tasks in
# microVMs behind a balancer, sharing an NFS file system, guarded, measured, metered,
# stopped, and nothing left behind. Twelve checks; the last line counts them.
#
#   demo.sh            the twelve checks
#   demo.sh --shell    the same world without the checks, and a shell in it to look around
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/namespaces.sh"
. "$(dirname "$0")/lib/demo.sh"

[[ $# -eq 0 || $* == --shell ]] || die "usage: sudo tests/demo.sh [--shell]"
[[ $(id -u) -eq 0 ]] || die "needs root (namespaces, cgroups): sudo tests/demo.sh"
[[ ${PENSTOCK_INSIDE:-} == yes ]] || bash "$(dirname "$0")/setup.sh"
enter_namespaces "$@"
make_run_directory demo

check_1() {
	local name
	apply tasks
	for name in a b; do wait_status "$name" RUNNING || return 1; done
	for name in a b; do
		ctl timeline "$name"
		ADDRESS[$name]=$(task "$name" | jq -r .status.network.privateIpv4Address)
	done
	evidence "a ${ADDRESS[a]}, b ${ADDRESS[b]}, both RUNNING in microVMs"
}

check_2() {
	wait_healthy 2 || return 1
	local answers
	answers=$(for _ in {1..100}; do in_namespace client curl -sS --max-time "$PATIENCE" "http://$VIP/"; done | sort | uniq -c)
	evidence "100 requests to $VIP: $(tr -s ' \n' ' ' <<<"$answers")"
	[[ $(awk '{ n += $1 } END { print n, NR }' <<<"$answers") == "100 2" ]]
}

check_3() {
	local target=${ADDRESS[a]} before
	before=$(life_of a)
	silent client "$target" 9000 || return 1
	change security-groups/web '.ipPermissions += [{"ipProtocol": "tcp", "fromPort": 9000, "toPort": 9000,
		"ipRanges": [{"cidrIp": "192.168.70.2/32"}]}]'
	answers client "$target" 9000 || return 1
	evidence "$target:9000 closed, then one rule, then open; a runs since $before"
	[[ $before == *Z\ by\ process\ [0-9]* && $(life_of a) == "$before" ]]
}

check_4() {
	local target=${ADDRESS[b]}
	local call="wget -q -O- http://$target:9000/ && echo answered"
	[[ $(inside a "timeout 3 $call") != *answered* ]] || return 1
	change security-groups/internal '.ipPermissions += [{"ipProtocol": "tcp", "fromPort": 9000, "toPort": 9000,
		"userIdGroupPairs": [{"groupId": "callers"}]}]'
	[[ $(inside a "$call") == *answered* ]] || return 1
	[[ $(inside b "timeout 3 wget -q -O- http://${ADDRESS[a]}:9000/ && echo answered") != *answered* ]] || return 1
	evidence "a (group callers) reaches b:9000 only since group internal names callers; b does not reach a"
}

check_5() {
	inside a 'echo "written by a" >/shared/note' >/dev/null
	local read served
	read=$(inside b 'cat /shared/note')
	served=$(cat "$RUN_DIRECTORY/files/export/note")
	evidence "b reads \"$read\", the server has \"$served\""
	[[ $read == "written by a" && $served == "$read" ]]
}

check_6() {
	local size answer
	size=$(inside a 'cat /proc/partitions' | awk '$3 == 20 * 1024 * 1024 { print $4 }')
	inside a 'echo "hello from web" >/data/hello' >/dev/null
	answer=$(inside a 'until [ -s /data/answer ]; do sleep 1; done; cat /data/answer')
	evidence "$size is $((20 * 1024 * 1024)) KiB; $(inside a 'df -h /data' | awk 'END { print "df says " $2 }'); $answer"
	[[ -n $size && $answer == "the sidecar saw: hello from web" ]]
}

check_7() {
	local before after
	start_capture
	before=$(metric_sum 'penstock_task_dropped_packets_total.*reason="spoofed"')
	inside a "forge 10.0.1.77 192.168.70.2" >/dev/null
	inside a "forge ${ADDRESS[a]} 192.168.70.2" >/dev/null
	after=$(metric_sum 'penstock_task_dropped_packets_total.*reason="spoofed"')
	stop_capture "${ADDRESS[a]}"
	evidence "client saw $(captured "${ADDRESS[a]}") honest and $(captured 10.0.1.77) forged packets; spoofed drops $before -> $after"
	(($(captured "${ADDRESS[a]}") > 0 && $(captured 10.0.1.77) == 0 && after > before))
}

check_8() {
	local before_a before_b count=0 code
	before_a=$(life_of a) before_b=$(life_of b)
	end_process "$AGENT" KILL
	for _ in {1..20}; do in_namespace client curl -sSf --max-time "$PATIENCE" -o /dev/null "http://$VIP/" && count=$((count + 1)); done
	inside a 'touch /data/leave; until [ -e /data/left ]; do sleep 1; done' >/dev/null
	start_agent
	ctl ps
	code=$(wait_exit_code a sidecar)
	evidence "$count of 20 answered without an agent; started $before_a and $before_b as before; sidecar of a exited with $code"
	[[ $count == 20 && $(life_of a) == "$before_a" && $(life_of b) == "$before_b" && $code == 7 ]] &&
		is_status a RUNNING && is_status b RUNNING
}

check_9() {
	local revision failures requests states
	revision=$(api GET /v1/tasks | jq .revision)
	start_requests
	ctl stop b
	wait_status b STOPPED || return 1
	stop_requests
	requests=$(wc -l <"$RUN_DIRECTORY/requests") failures=$(grep -vc '^200$' "$RUN_DIRECTORY/requests" || true)
	states=$(api GET "/v1/events?since=$revision&kind=task&id=b" | jq -r '.object.status.lastStatus' | uniq | tr '\n' ' ')
	evidence "b: $states; $failures of $requests requests failed meanwhile"
	[[ $states == *DEACTIVATING*STOPPING*STOPPED* ]] && ((requests > 10 && failures == 0))
}

check_10() {
	local reply
	reply=$(jq '.[0].spec | .cpu = "256" | .memory = "4096"' "$PENSTOCK_ROOT/tests/demo/tasks.json" | api_status PUT /v1/tasks/c)
	evidence "$reply"
	[[ $reply == *"No Fargate configuration exists for given values."*" 400" ]]
}

check_11() {
	api GET /metrics >"$RUN_DIRECTORY/metrics"
	promtool check metrics <"$RUN_DIRECTORY/metrics" || return 1
	evidence "promtool takes $(grep -vc '^#' "$RUN_DIRECTORY/metrics") samples of $(grep -c '^# TYPE' "$RUN_DIRECTORY/metrics") metrics"
}

check_12() {
	local changed metered
	ctl stop a
	wait_status a STOPPED || return 1
	cat "$RUN_DIRECTORY"/state/metering/*
	metered=$(jq -rs 'map(select(.billedSeconds >= 60).task) | sort | join(" ")' "$RUN_DIRECTORY"/state/metering/*)
	delete_everything || return 1
	# The deletions take effect after their replies: moving an interface takes up to 0.1 s.
	for _ in {1..100}; do
		ctl fsck --config "$RUN_DIRECTORY/penstock.conf" >/dev/null && break
		pause
	done
	ctl fsck --config "$RUN_DIRECTORY/penstock.conf" || return 1
	ctl shutdown --stop-tasks
	wait "$AGENT" || return 1
	changed=$(snapshot | comm -3 "$RUN_DIRECTORY/before" - | grep -v " comm ")
	evidence "metered: $metered; fsck clean; changed on the host: ${changed:-nothing}"
	[[ $metered == "a b" && -z $changed && $(machine_snapshot) == "$MACHINE_BEFORE" ]]
}

at_exit end_demo
MACHINE_BEFORE=$(machine_snapshot)
progress "NFS server, client, agent"
start_neighbours
snapshot >"$RUN_DIRECTORY/before"
start_agent
make_objects
if [[ ${1:-} == --shell ]]; then
	visit
	exit 0
fi
run_check 1 "two tasks of two containers reach RUNNING"
run_check 2 "100 requests to the balancer are served by both"
run_check 3 "a closed port opens with one rule, without a restart"
run_check 4 "a reaches b only through a group reference"
run_check 5 "a file written to NFS by a is read by b and seen by the server"
run_check 6 "the ephemeral disk is 20 GiB and shared by the containers"
run_check 7 "a forged source address gets nothing through"
run_check 8 "kill -9 of the agent: tasks go on and are adopted"
run_check 9 "a task drains before it stops; no request fails"
run_check 10 "an invalid CPU and memory pair is refused"
run_check 11 "promtool check metrics"
run_check 12 "both stopped: metered, fsck clean, host as before"
say "demo: $PASSED passed, $FAILED failed"
((FAILED == 0))
