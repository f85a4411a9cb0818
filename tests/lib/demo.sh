# SPDX-License-Identifier: Apache-2.0
# What the demo's checks are made of.
# shellcheck shell=bash

DEMO_INSTALL=demo$$
PATIENCE=180 # bounds a hang, in seconds: nothing waits longer than it must
PASSED=0 FAILED=0 EVIDENCE=
AGENT='' VIP=''
declare -A ADDRESS # of each task

pause() { read -r -t 0.1 <> <(:) || true; } # between two looks at what cannot be waited for

# --- checks ---

evidence() { EVIDENCE=$*; }

run_check() { # run_check NUMBER TITLE: calls check_NUMBER
	EVIDENCE=
	if "check_$1"; then
		PASSED=$((PASSED + 1))
		say "ok $1 $2 -- $EVIDENCE"
	else
		FAILED=$((FAILED + 1))
		say "FAIL $1 $2 -- ${EVIDENCE:-see above}"
		tail -n 20 "$RUN_DIRECTORY/penstockd.log" | sed 's/^/    penstockd: /'
	fi
}

# --- API ---

api() { # api METHOD PATH [BODY]: prints the reply; fails on an error status
	local body=()
	(($# < 3)) || body=(--header 'Content-Type: application/json' --data-binary "$3")
	curl --silent --show-error --fail-with-body --max-time "$PATIENCE" \
		--unix-socket "$RUN_DIRECTORY/api.sock" -X "$1" "${body[@]}" "http://penstock$2"
}

api_status() { # api_status METHOD PATH <BODY: prints reply and status, never fails
	curl --silent --max-time "$PATIENCE" --unix-socket "$RUN_DIRECTORY/api.sock" -X "$1" \
		--header 'Content-Type: application/json' --data-binary @- \
		--write-out ' %{http_code}' "http://penstock$2"
}

ctl() { "$(program penstockctl)" --socket "$RUN_DIRECTORY/api.sock" "$@"; }

apply() { ctl apply -f "$PENSTOCK_ROOT/tests/demo/$1.json"; }
change() { api PUT "/v1/$1" "$(api GET "/v1/$1" | jq ".spec | $2")" >/dev/null; }

task() { api GET "/v1/tasks/$1"; }
is_status() { [[ $(task "$1" | jq -r .status.lastStatus) == "$2" ]]; }

life_of() { # life_of TASK: since when it runs, and the process of its VMM
	local pid
	task "$1" | jq -j .status.startedAt
	cat /sys/fs/cgroup/{,*/}"penstock-$DEMO_INSTALL/$1/cgroup.procs" 2>/dev/null | sort -u | while read -r pid; do
		[[ $(cat "/proc/$pid/comm") != qemu-* ]] || printf ' by process %s' "$pid"
	done
}

wait_status() { # wait_status TASK STATE: else shows what became of it
	local status
	status=$(api GET "/v1/tasks/$1?wait=$2&timeout=$((PATIENCE - 10))" | jq .status)
	[[ $(jq -r .lastStatus <<<"$status") == "$2" ]] || {
		say "$status"
		return 1
	}
}

wait_exit_code() { # wait_exit_code TASK CONTAINER: prints the code, or null when it never comes
	local code deadline=$((SECONDS + PATIENCE))
	until code=$(task "$1" | jq ".status.containers[] | select(.name == \"$2\") | .exitCode"); [[ $code != null ]]; do
		((SECONDS < deadline)) || break
		pause
	done
	say "$code"
}

wait_healthy() { # wait_healthy COUNT: health has no watch, so it is asked for
	local deadline=$((SECONDS + PATIENCE))
	until [[ $(api GET /v1/target-groups/web/targets |
		jq '[.items[] | select(.targetHealth.state == "healthy")] | length') == "$1" ]]; do
		((SECONDS < deadline)) || return 1
		pause
	done
}

metric_sum() { # the sum of all samples that match
	api GET /metrics | awk -v pattern="$1" '$0 !~ /^#/ && $0 ~ pattern { sum += $NF } END { print sum + 0 }'
}

# --- the world around the agent ---

start_neighbours() {
	local server
	add_neighbour_namespace client att-client 192.168.70.2/24 192.168.70.1
	add_neighbour_namespace files att-files 192.168.80.2/24 192.168.80.1
	spawn_in files bash "$PENSTOCK_ROOT/tests/lib/ganesha.sh" "$RUN_DIRECTORY/files" >/dev/null
	server=$SPAWNED
	at_exit end_process "$server" KILL
	until [[ -n $(in_namespace files ss --no-header -ltn 'sport = :2049') ]]; do
		kill -0 "$server" || die "nfs-ganesha ended"
		pause
	done
	install -m 755 "$PENSTOCK_BUILD/tests/fixtures/forge" "$RUN_DIRECTORY/files/export/forge"
}

start_agent() {
	mkdir -p "$RUN_DIRECTORY/state"
	cat >"$RUN_DIRECTORY/penstock.conf" <<-END
		install = $DEMO_INSTALL
		state_directory = $RUN_DIRECTORY/state
		runtime_directory = $RUN_DIRECTORY/run
		image_directory = $PENSTOCK_IMAGES
		guest_directory = $PENSTOCK_GUEST
		program_directory = $PENSTOCK_BUILD/bin
		socket = $RUN_DIRECTORY/api.sock
		driver = qemu
		accel = tcg
		disk_gib = 400
		log_to = stderr
	END
	"$(program penstockd)" --config "$RUN_DIRECTORY/penstock.conf" 2>>"$RUN_DIRECTORY/penstockd.log" &
	AGENT=$!
	until api GET /readyz >/dev/null 2>&1; do
		kill -0 "$AGENT" 2>/dev/null || die "penstockd ended: $(tail -n 5 "$RUN_DIRECTORY/penstockd.log")"
		pause
	done
}

# What a visitor of the shell has left running, agents among it: all of it has our environment.
end_visitors_processes() {
	local process
	for process in /proc/[0-9]*; do
		[[ ${process#/proc/} != "$$" ]] || continue
		if grep --quiet --no-messages --null-data "^RUN_DIRECTORY=$RUN_DIRECTORY\$" "$process/environ"; then
			kill -KILL "${process#/proc/}" 2>/dev/null || true
		fi
	done
}

# Whatever is left when the demo ends early: by our own cgroup, and nothing else.
end_demo() {
	local procs
	[[ -z $AGENT ]] || end_process "$AGENT" KILL
	end_visitors_processes
	for procs in /sys/fs/cgroup/{,*/}"penstock-$DEMO_INSTALL"/{,*/}cgroup.procs; do
		[[ -e $procs ]] || continue
		xargs --no-run-if-empty kill -KILL <"$procs" 2>/dev/null
		while [[ -n $(cat "$procs" 2>/dev/null) ]]; do pause; done
	done
	find /sys/fs/cgroup -depth -type d -path "*penstock-$DEMO_INSTALL*" -exec rmdir '{}' +
}

make_objects() {
	apply network
	VIP=$(api GET /v1/load-balancers/front | jq -r .status.privateIpv4Address)
}

# A shell in the demo's world; leaving it ends everything.
visit() {
	apply tasks
	wait_status a RUNNING && wait_status b RUNNING && wait_healthy 2
	say "penstockctl and \$PENSTOCK_SOCKET are set; the balancer is at $VIP: within client curl http://$VIP/"
	say "namespaces: client, files, penstock-$DEMO_INSTALL-shop; \`exit\` ends and removes everything"
	cat >"$RUN_DIRECTORY/shell" <<-END
		PATH=$PENSTOCK_BUILD/bin:\$PATH PENSTOCK_SOCKET=$RUN_DIRECTORY/api.sock PENSTOCK_CONFIG=$RUN_DIRECTORY/penstock.conf PS1='penstock# '
		export PATH PENSTOCK_SOCKET PENSTOCK_CONFIG
		unset HISTFILE
		within() { nsenter --net="/run/netns/\$1" -- "\${@:2}"; } # within NAMESPACE COMMAND...
		export -f within
	END
	bash --rcfile "$RUN_DIRECTORY/shell" -i || true
}

delete_everything() {
	local kind id
	for kind in tasks load-balancers target-groups file-systems security-groups subnets vpcs; do
		# Groups that name each other lose their rules first.
		for id in $(api GET "/v1/$kind" | jq -r '.items[].id'); do
			[[ $kind != security-groups ]] || change "$kind/$id" '.ipPermissions = []'
		done
		for id in $(api GET "/v1/$kind" | jq -r '.items[].id'); do
			api DELETE "/v1/$kind/$id" >/dev/null || return 1
		done
	done
}

# --- packets ---

# spawn_in NAMESPACE COMMAND...: in the background; SPAWNED is the command's own pid.
spawn_in() {
	nsenter --net="/run/netns/$1" -- "${@:2}" &
	SPAWNED=$!
}

answers() { # answers NAMESPACE ADDRESS PORT: an HTTP server answers
	in_namespace "$1" curl --silent --output /dev/null --max-time "$PATIENCE" "http://$2:$3/"
}
silent() { # silent NAMESPACE ADDRESS PORT: no connection comes about; who is only slow is not silent
	local status=0
	in_namespace "$1" curl --silent --output /dev/null --connect-timeout 3 --max-time "$PATIENCE" \
		"http://$2:$3/" || status=$?
	((status == 28 || status == 7))
}

# inside TASK SCRIPT: runs it in the task's web container, by the CGI shell on port 8000. The
# addresses are asked for once: this works without an agent, too.
inside() {
	in_namespace client curl --silent --max-time "$PATIENCE" --data-binary "PATH=\$PATH:/shared; $2" \
		"http://${ADDRESS[$1]}:8000/cgi-bin/sh"
}

start_requests() { # one after the other, their statuses in a file
	: >"$RUN_DIRECTORY/requests"
	# shellcheck disable=SC2016 # the inner shell expands it
	spawn_in client bash -c 'while :; do curl --silent --max-time "$1" -o /dev/null -w "%{http_code}\n" "http://$0/"; done' \
		"$VIP" "$PATIENCE" >>"$RUN_DIRECTORY/requests"
	REQUESTS=$SPAWNED
	more_requests 5
}
more_requests() { # more_requests COUNT: until so many more were answered
	local wanted
	wanted=$(($(wc -l <"$RUN_DIRECTORY/requests") + $1))
	until (($(wc -l <"$RUN_DIRECTORY/requests") >= wanted)); do
		kill -0 "$REQUESTS" || return 1
		pause
	done
}
stop_requests() { # a few more first: what was cut shows in the next ones
	more_requests 10
	end_process "$REQUESTS"
}

start_capture() {
	spawn_in client tcpdump --immediate-mode -nn -l -i eth0 icmp >"$RUN_DIRECTORY/capture" 2>"$RUN_DIRECTORY/capture.log"
	CAPTURE=$SPAWNED
	until grep -q 'listening on' "$RUN_DIRECTORY/capture.log"; do
		kill -0 "$CAPTURE" || return 1
		pause
	done
}
stop_capture() { # stop_capture SOURCE: once something from there was seen
	local deadline=$((SECONDS + PATIENCE))
	until (($(captured "$1") > 0 || SECONDS > deadline)); do pause; done
	end_process "$CAPTURE"
}
captured() { grep -c "IP $1 > .*echo request" "$RUN_DIRECTORY/capture" || true; }

# --- what is there ---

snapshot() { bash "$PENSTOCK_ROOT/tests/lib/snapshot.sh" "$DEMO_INSTALL" "$RUN_DIRECTORY" | sort; }

# What carries our mark in the machine's own namespaces, outside of ours; the rest of the
# machine may change as it likes.
machine_snapshot() {
	local line
	nsenter "--target=$PENSTOCK_OUTSIDE" --net --mount -- \
		bash "$PENSTOCK_ROOT/tests/lib/snapshot.sh" "$DEMO_INSTALL" |
		while IFS= read -r line; do # no grep: it would carry the mark itself
			[[ $line != *"$DEMO_INSTALL"* && $line != *"$RUN_DIRECTORY"* ]] || say "$line"
		done
}
