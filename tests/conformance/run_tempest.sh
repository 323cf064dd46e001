#!/bin/bash
# Runs a subset of Tempest against a running cloud.
#
#   run_tempest.sh [-c CONCURRENCY] [-t SECONDS] [-x EXCLUDE_REGEX] [-i INTEROP_DIR] [-l] SUBSET...
#
# SUBSET: identity identity-compliance image compute network volume object scenario smoke all
#         interop-compute interop-object interop-orchestration interop-dns
#         or a regular expression over test ids.
# The interop-* subsets read the interoperability guideline's lists, INTEROP_DIR/<compute|object|...>-required.txt
# (option -i or CONF_INTEROP); the lists are not part of this tree.
# -l only lists the chosen tests.  -t is the limit of each subset (default 3600).
# Needs OS_AUTH_URL OS_USERNAME OS_PASSWORD OS_PROJECT_NAME and the domains.
# CONF_VALIDATION=1 turns on the tests that log into guests; CONF_OVERRIDES=FILE
# is an ini file laid over the generated tempest.conf; CONF_IMAGE, CONF_EXT_NET,
# CONF_FLAVOR_RAM, CONF_FLAVOR_DISK, CONF_SSH_USER choose what is used.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
conc=2 limit=3600 exclude='' list=0
while getopts 'c:t:x:i:l' o; do
  case $o in c) conc=$OPTARG ;; t) limit=$OPTARG ;; x) exclude=$OPTARG ;; i) CONF_INTEROP=$OPTARG ;; l) list=1 ;; *) exit 2 ;; esac
done
shift $((OPTIND - 1))
[ $# -ge 1 ] || { sed -n '2,22p' "${BASH_SOURCE[0]}"; exit 2; }

PKGS=('tempest>=47,<48')
extra=() wanted=tempest
for s in "$@"; do
  case $s in
    interop-orchestration) extra+=(heat-tempest-plugin) ;;
    interop-dns) extra+=(designate-tempest-plugin) ;;
  esac
done
# core tests run in a venv without plugins; each plugin in its own, so that a
# plugin's import trouble can't take the core down
if [ ${#extra[@]} -gt 0 ]; then
  mapfile -t extra < <(printf '%s\n' "${extra[@]}" | sort -u)
  wanted=tempest-$(printf '%s\n' "${extra[@]}" | sha256sum | cut -c1-8)
  [ ${#extra[@]} -eq 1 ] && wanted=tempest-${extra[0]}
fi
venv "$wanted" "${PKGS[@]}" "${extra[@]}"
T=$VENV/bin

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && "$T/tempest" init --workspace-path "$work/workspace.yaml" ws >/dev/null 2>&1)
cd "$work/ws"
if [ "$list" = 0 ]; then
  need_cloud
  cloud tempest-conf "$work/ws/etc/tempest.conf"
  cp etc/tempest.conf "$CONF_OUT/tempest.conf"; cp etc/facts.json "$CONF_OUT/facts.json"
fi
"$T/python" - >"$work/all.txt" <<'P'
import subprocess, sys, os
out = subprocess.run([os.path.join(os.path.dirname(sys.executable), 'stestr'), 'list'], capture_output=True, text=True)
sys.stdout.write('\n'.join(l for l in out.stdout.splitlines() if '.' in l and ' ' not in l) + '\n')
if out.returncode:
    sys.stderr.write(out.stderr[-2000:])
P

choose() { # SUBSET -> ids
  local s=$1 re
  case $s in
    identity | image | compute | network | volume) re="^tempest\.(api|serial_tests\.api)\.$s\." ;;
    identity-compliance) re='^tempest\.api\.identity\.v3\.test_users\.' ;;
    object) re='^tempest\.api\.object_storage\.' ;;
    scenario) re='^tempest\.(serial_tests\.)?scenario\.' ;;
    smoke) re='\[(.*,)?smoke(,.*)?\]' ;;
    all) re='^tempest\.' ;;
    interop-*)
      local f=${CONF_INTEROP:?give the directory of the interoperability lists with -i or CONF_INTEROP}/${s#interop-}-required.txt
      [ -e "$f" ] || { echo "no $f" >&2; return 1; }
      "$T/python" - "$f" "$work/all.txt" <<'P'
import re, sys
want = [l.split('#')[0].strip() for l in open(sys.argv[1])]
have = {re.sub(r'\[.*', '', l.strip()): l.strip() for l in open(sys.argv[2])}
for w in want:
    if w:
        print(have.get(w, w))
P
      return ;;
    *) re=$s ;;
  esac
  grep -E "$re" "$work/all.txt" || true
}

rc=0
for s in "$@"; do
  label=${s//[^A-Za-z0-9_.-]/_}
  choose "$s" >"$work/list.txt"
  if [ -n "$exclude" ]; then grep -vE "$exclude" "$work/list.txt" >"$work/l2" || true; mv "$work/l2" "$work/list.txt"; fi
  if [ "$list" = 1 ]; then cat "$work/list.txt"; echo "$s: $(wc -l <"$work/list.txt") tests" >&2; continue; fi
  [ -s "$work/list.txt" ] || { echo "$s: no tests"; continue; }
  stream=$CONF_OUT/$label.subunit
  start=$(date +%s)
  # the serial tests of tempest lock against the others by themselves
  timeout -s INT -k 60 "$limit" "$T/tempest" run --load-list "$work/list.txt" --concurrency "$conc" --subunit \
    >"$stream" 2>"$CONF_OUT/$label.err" || true
  "$T/python" "$HERE/lib/report.py" "$s" "$work/list.txt" "$stream" "$CONF_OUT/$label.failures" "$CONF_OUT/$label.json" || rc=1
  cp -f tempest.log "$CONF_OUT/$label.log" 2>/dev/null || cp -f etc/tempest.log "$CONF_OUT/$label.log" 2>/dev/null || true
  echo "  failures: $CONF_OUT/$label.failures  ($(($(date +%s) - start)) s)" >&2
done
exit $rc
