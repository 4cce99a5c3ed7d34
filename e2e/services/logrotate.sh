#!/usr/bin/env bash
# logrotate on demand, with a state file and configurations of our own.
#
#   logrotate.sh fetch
#   logrotate.sh write NAME create|copytruncate FILE [RSYSLOG_NAME]    FILE may be a pattern ('/dir/*.log')
#       create moves the file away, makes a new one and has RSYSLOG_NAME (see rsyslog.sh) reopen it
#   logrotate.sh run NAME            rotate now, whatever the state says; needs no root
#   logrotate.sh state NAME          print the state file
#
# LOGROTATE_KEEP=5 files are kept. LOGROTATE_EXTRA adds directives, e.g. 'compress delaycompress' or 'dateext' (blanks separate).
. "$(dirname "$0")/common.sh"
D="$RUN/logrotate"

fetch() { need logrotate=logrotate; }
cmd=${1:-}; shift || true
case $cmd in
  fetch) fetch;;
  write)
    [ $# -ge 3 ] || usage
    n=$1 mode=$2 file=$3 daemon=${4:-}
    mkdir -p "$D"
    {
      # su: the parent folder may be writable by others (a test's own folder)
      printf '"%s" {\n  su %s %s\n  rotate %s\n  missingok\n' "$file" "$(id -un)" "$(id -gn)" "${LOGROTATE_KEEP:-5}"
      case $mode in
        create) printf '  create 0644\n';;
        copytruncate) printf '  copytruncate\n';;
        *) usage;;
      esac
      for x in ${LOGROTATE_EXTRA:-}; do printf '  %s\n' "$x"; done
      [ -z "$daemon" ] || printf '  sharedscripts\n  postrotate\n    MILLRACE_E2E_HOME="%s" MILLRACE_E2E_RUN="%s" "%s/rsyslog.sh" hup "%s"\n  endscript\n' "$MILLRACE_E2E_HOME" "$RUN" "$HERE" "$daemon"
      printf '}\n'
    } >"$D/$n.conf"
    chmod 644 "$D/$n.conf";;
  run)
    [ $# = 1 ] || usage; fetch
    PATH="$PATH:/usr/sbin" logrotate -s "$D/$1.state" --force "$D/$1.conf" >"$D/$1.log" 2>&1 || { cat "$D/$1.log" >&2; die "logrotate failed"; }
    if [ -s "$D/$1.log" ]; then cat "$D/$1.log" >&2; fi;;
  state) cat "$D/$1.state";;
  *) usage;;
esac
