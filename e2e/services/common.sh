# Sourced by the scripts of this folder. Everything they fetch or write lives under $MILLRACE_E2E_HOME.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export MILLRACE_E2E_HOME="${MILLRACE_E2E_HOME:-$HOME/.cache/millrace-e2e}"
export MILLRACE_E2E_RUN="${MILLRACE_E2E_RUN:-$MILLRACE_E2E_HOME/run}" # a run of its own can be told apart, and stopped alone
RUN="$MILLRACE_E2E_RUN"          # pids, logs, written configurations
LIB="$MILLRACE_E2E_HOME/lib"     # jars
CERTS="$MILLRACE_E2E_HOME/certs" # throw-away certificates, password "changeit"
mkdir -p "$RUN" "$LIB"

# Serial GC and C1 only: a short-lived JVM starts in about half the time and stays small.
JVM_FAST="-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto"
# What Flume and Hadoop reflect into on Java 17.
JVM_OPENS="--add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.util=ALL-UNNAMED --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/sun.nio.ch=ALL-UNNAMED --add-opens=java.base/java.net=ALL-UNNAMED --add-opens=java.security.jgss/sun.security.krb5=ALL-UNNAMED"

log() { echo "[$(basename "$0" .sh)] $*" >&2; }
die() { log "$*"; exit 1; }
# usage: print the comment block at the head of the calling script
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0" >&2; exit 2; }

# ---- Debian packages ------------------------------------------------------------------------------------------------

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# apt_guarded ARGS...: apt-get while a policy-rc.d forbids every service start. A policy that is there already is kept
# when it forbids too, and otherwise put back afterwards.
apt_guarded() {
  local guard=/usr/sbin/policy-rc.d kept="" made="" rc=0
  if [ -x "$guard" ] && { "$guard" rsyslog start >/dev/null 2>&1; [ $? = 101 ]; }; then
    :
  else
    [ -e "$guard" ] && { kept="$guard.millrace-kept"; as_root mv "$guard" "$kept"; }
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$guard" >/dev/null
    as_root chmod 755 "$guard"; made=1
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends "$@" >>"$RUN/apt.log" 2>&1 || rc=$?
  if [ -n "$made" ]; then
    as_root rm -f "$guard"
    [ -z "$kept" ] || as_root mv "$kept" "$guard"
  fi
  return $rc
}

# need COMMAND=PACKAGE...: install the packages of those commands that are missing (system daemons live in sbin)
need() {
  local x missing=()
  for x in "$@"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${x%%=*}" >/dev/null || missing+=("${x#*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  log "installing ${missing[*]}"
  apt_guarded install "${missing[@]}" && return 0
  apt_guarded update || true # the package lists of a fresh image may be absent or old
  apt_guarded install "${missing[@]}" || { tail -20 "$RUN/apt.log" >&2; die "apt-get could not install ${missing[*]}"; }
}
need_java() { need java=default-jdk-headless javac=default-jdk-headless keytool=default-jdk-headless mvn=maven; }

# ---- jars -----------------------------------------------------------------------------------------------------------

# fetch_jars NAME [-Dprop=value...]: resolve NAME/pom.xml once into $LIB/NAME, or $JARS (stamp = hash of the pom and properties)
fetch_jars() {
  local name=$1 out="${JARS:-$LIB/$1}" stamp off=""; shift
  stamp=$( { cat "$HERE/$name/pom.xml"; echo "$*"; } | sha256sum | cut -c1-16)
  [ "$(cat "$out/.stamp" 2>/dev/null || true)" = "$stamp" ] && return 0
  need_java
  log "resolving the jars of $name (first time: downloads)"
  rm -rf "$out.tmp"; mkdir -p "$out.tmp"
  [ "${MILLRACE_E2E_OFFLINE:-}" = 1 ] && off="-o"
  mvn -B -q $off -Dmaven.repo.local="$MILLRACE_E2E_HOME/m2" -Daether.connector.basic.threads=8 \
    -f "$HERE/$name/pom.xml" "$@" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DoutputDirectory="$out.tmp" -DincludeScope=runtime -Dmdep.useBaseVersion=true >"$RUN/mvn-$name.log" 2>&1 \
    || { tail -20 "$RUN/mvn-$name.log" >&2; die "mvn failed for $name"; }
  echo "$stamp" >"$out.tmp/.stamp"; rm -rf "$out"; mv "$out.tmp" "$out"
}

# ---- processes: always by their own pid file, never by name -----------------------------------------------------------

# alive NAME: the process that NAME.pid names is there and is still the one that was started (pids are reused)
alive() {
  local f="$RUN/$1.pid" p since
  [ -s "$f" ] || return 1
  read -r p since <"$f"
  [ -n "$since" ] && [ "$(proc_start "$p")" = "$since" ]
}
# proc_start PID: the start time in clock ticks since boot, empty when there is no such process (or it is a zombie)
proc_start() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }
pid_of() { local p; read -r p _ <"$RUN/$1.pid" && echo "$p"; }
# spawn NAME CMD...: run in the background, in a session of its own, log to run/NAME.log
spawn() {
  local name=$1 p; shift
  alive "$name" && die "$name is already up (pid $(pid_of "$name"))"
  : >"$RUN/$name.log"
  setsid "$@" >>"$RUN/$name.log" 2>&1 </dev/null &
  p=$!
  echo "$p $(proc_start "$p")" >"$RUN/$name.pid"
}
# signal NAME SIG
signal() { alive "$1" || die "$1 is not up"; kill "-$2" "$(pid_of "$1")"; }
# stop_one NAME [SECONDS]: TERM, then KILL
stop_one() {
  local name=$1 p i
  if alive "$name"; then
    p=$(pid_of "$name"); kill "$p" 2>/dev/null || true
    for ((i = 0; i < ${2:-15} * 10; i++)); do alive "$name" || break; sleep 0.1; done
    alive "$name" && { log "$name: KILL"; kill -9 "$p" 2>/dev/null || true; }
  fi
  rm -f "$RUN/$name.pid"
}
# kill9 NAME, and wait until it is gone
kill9() {
  local i
  alive "$1" && kill -9 "$(pid_of "$1")"
  for ((i = 0; i < 100; i++)); do alive "$1" || break; sleep 0.05; done
  rm -f "$RUN/$1.pid"
}
# each PREFIX CMD...: run CMD with every started name that begins with PREFIX
each() {
  local prefix=$1 f; shift
  for f in "$RUN/$prefix"*.pid; do [ -e "$f" ] || continue; "$@" "$(basename "$f" .pid)" || true; done
}
say_status() { if alive "$1"; then echo "$1 up $(pid_of "$1")"; else echo "$1 down"; fi; }

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
need_free() { local p; for p in "$@"; do port_open "$p" && die "port $p is in use by something else"; done; return 0; }
died() { tail -20 "$RUN/$1.log" >&2; die "$1 died while starting"; }
# wait_port NAME PORT [SECONDS]: until the port answers, or the process dies
wait_port() {
  local i
  for ((i = 0; i < ${3:-60} * 10; i++)); do
    port_open "$2" && alive "$1" && return 0
    alive "$1" || died "$1"
    sleep 0.1
  done
  tail -20 "$RUN/$1.log" >&2; die "$1: port $2 not open after ${3:-60}s"
}
# wait_log NAME REGEX [SECONDS]
wait_log() {
  local i
  for ((i = 0; i < ${3:-60} * 10; i++)); do
    grep -qE "$2" "$RUN/$1.log" 2>/dev/null && return 0
    alive "$1" || died "$1"
    sleep 0.1
  done
  tail -20 "$RUN/$1.log" >&2; die "$1: no '$2' in its log after ${3:-60}s"
}

# ---- certificates: see certs.sh ----------------------------------------------------------------------------------------

# make_certs [DIR]
make_certs() {
  local d="${1:-$CERTS}" n cn ca
  [ ! -s "$d/ok" ] || return 0
  need openssl=openssl keytool=default-jdk-headless
  rm -rf "$d.tmp"; mkdir -p "$d.tmp"
  ( cd "$d.tmp"
  new_ca() { # new_ca NAME
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=Millrace test $1" -keyout "$1.key" -out "$1.pem" \
      -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"
  }
  new_pair() { # new_pair NAME COMMON_NAME CA [openssl ca option...]
    local n=$1 cn=$2 ca=$3; shift 3
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$cn" -keyout "$n.key" -out "$n.csr"
    printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n' >"$n.ext"
    mkdir -p "db-$n"; : >"db-$n/index"
    printf '[ca]\ndefault_ca=x\n[x]\ndatabase=db-%s/index\nnew_certs_dir=db-%s\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' "$n" "$n" >"db-$n/conf"
    openssl ca -batch -config "db-$n/conf" -cert "$ca.pem" -keyfile "$ca.key" -in "$n.csr" -out "$n.pem" -notext -extfile "$n.ext" "$@"
  }
  new_ca ca; new_ca other-ca
  new_pair server localhost ca -days 3650
  new_pair client client ca -days 3650
  new_pair other localhost other-ca -days 3650
  new_pair expired localhost ca -startdate 20200101000000Z -enddate 20200102000000Z
  for n in server client other; do
    ca=ca; [ $n != other ] || ca=other-ca
    openssl pkcs12 -export -in $n.pem -inkey $n.key -certfile $ca.pem -name $n -passout pass:changeit -out $n.p12
  done
  for n in server client; do
    keytool -importkeystore -noprompt -srckeystore $n.p12 -srcstoretype PKCS12 -srcstorepass changeit -destkeystore $n.jks -deststoretype JKS -deststorepass changeit
    cat $n.key $n.pem ca.pem >$n-all.pem
  done
  # a Java trust store needs keytool's own attribute, so keytool makes it
  keytool -importcert -noprompt -alias ca -file ca.pem -storetype PKCS12 -storepass changeit -keystore trust.p12
  keytool -importcert -noprompt -alias ca -file ca.pem -storetype JKS -storepass changeit -keystore trust.jks
  rm -rf db-* ./*.csr ./*.ext other-ca.key
  ) >"$RUN/certs.log" 2>&1 || { cat "$RUN/certs.log" >&2; die "certificates: see above"; }
  echo ok >"$d.tmp/ok"; rm -rf "$d"; mv "$d.tmp" "$d"
}
