#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every test of penstock, from a fresh checkout: run.sh [SECTION...]; run.sh --list
# Section by section it prints what failed and what was skipped and why, and at the
# end one line: `run: N passed, N failed, N skipped`. Logs are in .build/logs/.
. "$(dirname "$0")/lib/common.sh"
cd "$PENSTOCK_ROOT"

SECTIONS=(layers format shell lint unit sanitize netns api lifecycle vm fault valgrind fuzz bench demo)
LOGS=$PENSTOCK_CACHE/logs
FUZZ_SECONDS=${FUZZ_SECONDS:-20}
FUZZ_SEED=${FUZZ_SEED:-1} # the same inputs in every run; 0 explores anew
passed=0 failed=0 skipped=0
notes=()

count() { # count passed|failed|skipped WHAT
	case $1 in
	passed) passed=$((passed + 1)) ;;
	failed) failed=$((failed + 1)) && notes+=("FAILED $2") ;;
	skipped) skipped=$((skipped + 1)) && notes+=("SKIPPED $2") ;;
	esac
}

# One command that either passes or fails, its output in a log.
check() { # check NAME COMMAND...
	local name=$1
	shift
	if "$@" >"$LOGS/$name.log" 2>&1; then
		count passed "$name"
	else
		tail -n 40 "$LOGS/$name.log"
		count failed "$name: see $LOGS/$name.log"
	fi
}

# A runner that writes a JUnit file; a crash of the runner itself is a failure too.
count_junit() { # count_junit NAME STATUS
	local file=$LOGS/$1.xml p=0 f=0 s=0 line
	if [[ -s $file ]]; then
		read -r p f s < <("$PYTHON" tests/lib/tally.py "$file" 2>"$LOGS/$1.notes")
		while IFS= read -r line; do notes+=("$line"); done <"$LOGS/$1.notes"
	fi
	if ((p + f + s == 0 || ($2 != 0 && f == 0))); then
		count failed "$1: its runner ended with status $2 after $((p + f + s)) tests"
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

streamed() { # streamed NAME COMMAND...: shown and logged; the command's status
	local log=$LOGS/$1.log
	shift
	"$@" 2>&1 | tee "$log"
	return "${PIPESTATUS[0]}"
}

run_ctest() { # run_ctest NAME PRESET LABEL
	local status=0
	rm -f "$LOGS/$1.xml"
	streamed "$1" ctest --test-dir "$PENSTOCK_CACHE/$2" --label-regex "^$3\$" --no-tests=error \
		--output-on-failure --output-junit "$LOGS/$1.xml" || status=$?
	count_junit "$1" "$status"
}

run_pytest() { # run_pytest NAME [VARIABLE=VALUE...] ARGUMENT...
	local name=$1 status=0 variables=()
	shift
	while [[ ${1:-} == [A-Z]*=* ]]; do
		variables+=("$1")
		shift
	done
	rm -f "$LOGS/$name.xml"
	streamed "$name" env "${variables[@]}" bash tests/lib/pytest.sh --junitxml="$LOGS/$name.xml" \
		"$@" || status=$?
	count_junit "$name" "$status"
}

files() { git ls-files -z --cached --others --exclude-standard -- "$@"; }
check_format() { files '*.c' '*.h' | xargs -0 clang-format --dry-run -Werror; }
check_scripts() { files '*.sh' .ci/run | xargs -0 shellcheck --external-sources --source-path=SCRIPTDIR; }

section_layers() { check layers "$PYTHON" tests/layers.py; }
section_format() { check format check_format; }
section_shell() { check shell check_scripts; }
section_lint() {
	check clang-tidy bash tests/lib/tidy.sh
	mkdir -p "$PENSTOCK_CACHE/cppcheck"
	check cppcheck cppcheck --quiet --std=c11 -j2 --error-exitcode=1 --inline-suppr \
		--enable=warning,performance,portability --suppressions-list=tests/cppcheck.txt \
		--cppcheck-build-dir="$PENSTOCK_CACHE/cppcheck" -I . -D_GNU_SOURCE --library=tests/cppcheck.cfg \
		agent netif sg nfs ephemeral metrics
}
section_unit() {
	run_ctest unit release unit
	check install bash tests/lib/installed.sh
}
section_sanitize() {
	run_ctest unit-sanitized sanitize unit
	run_ctest netns-sanitized sanitize netns
	run_pytest api-sanitized PENSTOCK_BUILD="$PENSTOCK_CACHE/sanitize" tests/api
}
section_netns() { run_ctest netns release netns; }
section_api() { run_pytest api tests/api; }
section_lifecycle() { run_pytest lifecycle tests/netns; }
section_vm() { run_pytest vm tests/vm; }
section_fault() { run_pytest fault tests/fault; }
section_valgrind() {
	run_pytest valgrind \
		PENSTOCK_WRAPPER="valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite --exit-on-first-error=no" \
		PENSTOCK_SLOWER=10 tests/api/test_objects.py tests/netns/test_lifecycle.py \
		-k "test_objects or runs_and_stops or a_signal or dependencies_order"
}

fuzz_one() { # fuzz_one PROGRAM: from its corpus, on a copy, crashes kept beside the log
	local name work corpora
	name=$(basename "$1")
	work=$PENSTOCK_CACHE/fuzz-work/$name
	corpora=("$work")
	mkdir -p "$work"
	[[ ! -d tests/fuzz/corpus/${name#fuzz_} ]] || corpora+=("tests/fuzz/corpus/${name#fuzz_}")
	"$1" -seed="$FUZZ_SEED" -max_total_time="$FUZZ_SECONDS" -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$LOGS/$name-" "${corpora[@]}"
}
section_fuzz() {
	local program found=0
	while read -r program; do
		found=1
		progress "$(basename "$program"), $FUZZ_SECONDS s"
		check "$(basename "$program")" fuzz_one "$program"
	done < <(find "$PENSTOCK_CACHE/fuzz/tests" -type f -executable -name 'fuzz_*' | sort)
	((found)) || count failed "fuzz: no targets were built"
}
section_bench() {
	check bench-plumb bash tests/bench/plumb.sh --quick
	check bench-start bash tests/bench/start.sh --quick
}
section_demo() {
	if streamed demo bash tests/demo.sh; then
		count passed demo
	else
		count failed "demo: see $LOGS/demo.log"
	fi
}

presets_of() { # the builds that the sections need besides release
	case " $* " in *" sanitize "*) echo sanitize ;; esac
	case " $* " in *" lint "*) echo clang ;; esac
	case " $* " in *" fuzz "*) echo fuzz ;; esac
}

if [[ ${1:-} == --list ]]; then
	printf '%s\n' "${SECTIONS[@]}"
	exit 0
fi
wanted=("${@:-${SECTIONS[@]}}")
for section in "${wanted[@]}"; do
	declare -F "section_$section" >/dev/null || die "no section $section; there are: ${SECTIONS[*]}"
done
mkdir -p "$LOGS"
mapfile -t presets < <(presets_of "${wanted[@]}")
bash tests/setup.sh "${presets[@]}"
for section in "${wanted[@]}"; do
	before=("$passed" "$failed" "$skipped")
	progress "== $section"
	"section_$section"
	progress "== $section: $((passed - before[0])) ok, $((failed - before[1])) bad, $((skipped - before[2])) left out"
done
((${#notes[@]} == 0)) || printf '%s\n' "${notes[@]}"
say "run: $passed passed, $failed failed, $skipped skipped"
((failed == 0 && passed > 0))
