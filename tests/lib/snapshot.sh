#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints what a run could leave behind, one sorted line each, for comparison before
# and after: snapshot.sh MARK..., where a mark is the run's directory or install name.
# Links, addresses, rules, mounts and the like are all shown: in namespaces of the run's own
# nobody else changes them. In the machine's own, only lines with a mark are worth comparing.
set -euo pipefail

# find, for which what is not there (yet, or any more) is no failure.
present() { find "$@" 2>/dev/null || true; }

network() {
	ip -o link show | awk '{ alias = match($0, /alias .*/) ? " " substr($0, RSTART) : ""
		sub(/@.*/, "", $2); sub(/:$/, "", $2); print "link", $2 alias }'
	ip -o address show | awk '{ print "address", $2, $4 }'
	ip -4 route show table all | sed 's/^/route /'
	ip rule show | sed 's/^/rule /'
	nft --stateless list ruleset 2>/dev/null | sed 's/^/nft /'
}

# Processes that carry a mark in their arguments or their cgroup; not the tests' own.
processes() {
	local directory words arguments cgroups mark
	for directory in /proc/[0-9]*; do
		{ mapfile -d '' -t words <"$directory/cmdline" && mapfile -t cgroups <"$directory/cgroup"; } \
			2>/dev/null || continue # ended meanwhile
		arguments="${words[*]} "
		# Without arguments it is a zombie, or the kernel's.
		[[ ${#words[@]} -gt 0 && $arguments != *snapshot.sh* && $arguments != *tests/* ]] || continue
		for mark in "$@"; do
			if [[ $arguments == *"$mark"* || ${cgroups[*]} == *"$mark"* ]]; then
				printf 'process %s %s\n' "${directory#/proc/}" "${arguments:0:120}"
			fi
		done
	done
}

network | sort
awk '{ for (i = 7; $i != "-"; i++); print "mount", $5, $(i + 1) }' /proc/self/mountinfo | sort
present /run/netns -mindepth 1 | sed 's/^/netns /' | sort
for mark in "$@"; do
	present /sys/fs/cgroup -type d -name "*$mark*" | sed 's/^/cgroup /' | sort
	losetup --noheadings --list --output NAME,BACK-FILE | grep -F -- "$mark" | sed 's/^/loop /' || true
done
processes "$@" | sort
