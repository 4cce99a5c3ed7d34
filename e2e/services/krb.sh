#!/usr/bin/env bash
# MIT Kerberos from Debian: a KDC of its own on the loopback, with its own database. No file of the system is touched.
#
#   krb.sh fetch
#   krb.sh start NAME PORT        the realm EXAMPLE.TEST, answering at 127.0.0.1:PORT
#   krb.sh stop NAME | log NAME | status | stop-all
#
# In $MILLRACE_E2E_RUN/krb-NAME are krb5.conf, service.keytab (nn, dn, HTTP, kafka /localhost), flume.keytab (flume/localhost) and other.keytab
# (an old key of flume/localhost). KRB_LIFETIME=1h is how long a ticket is good.
. "$(dirname "$0")/common.sh"
PATH="$PATH:/usr/sbin:/sbin"
R=EXAMPLE.TEST
fetch() { need krb5kdc=krb5-kdc kadmin.local=krb5-admin-server kinit=krb5-user; }
start() {
  fetch
  mkdir -p "$D"
  cat >"$D/krb5.conf" <<X
[libdefaults]
 default_realm = $R
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
 ticket_lifetime = ${KRB_LIFETIME:-24h}
 renew_lifetime = 7d
 default_tkt_enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96
 default_tgs_enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96
 permitted_enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96
[realms]
 $R = {
  kdc = 127.0.0.1:$P
 }
[domain_realm]
 localhost = $R
X
  cat >"$D/kdc.conf" <<X
[kdcdefaults]
 kdc_listen = 127.0.0.1:$P
 kdc_tcp_listen = 127.0.0.1:$P
[realms]
 $R = {
  database_name = $D/principal
  key_stash_file = $D/stash
  acl_file = $D/kadm5.acl
  max_life = ${KRB_LIFETIME:-24h}
  max_renewable_life = 7d
  supported_enctypes = aes256-cts:normal aes128-cts:normal
 }
X
  export KRB5_CONFIG="$D/krb5.conf" KRB5_KDC_PROFILE="$D/kdc.conf"
  if [ ! -e "$D/principal" ]; then
    { kdb5_util create -s -r "$R" -P masterpw
      { for p in nn dn HTTP kafka flume; do echo "addprinc -randkey $p/localhost"; done
        for p in nn dn HTTP kafka; do echo "ktadd -k $D/service.keytab $p/localhost"; done
        echo "ktadd -k $D/other.keytab flume/localhost"; echo "ktadd -k $D/flume.keytab flume/localhost"
      } | kadmin.local -r "$R"; } >"$RUN/$N-setup.log" 2>&1 || { cat "$RUN/$N-setup.log" >&2; die "no database of principals"; }
  fi
  need_free "$P"
  spawn "$N" krb5kdc -n -r "$R"
  wait_port "$N" "$P" 20
}
cmd=${1:-}; shift || true
[ $# = 0 ] || { N="krb-$1"; D="$RUN/krb-$1"; }
case $cmd in
  fetch) fetch;;
  start) [ $# = 2 ] || usage; P=$2; start;;
  stop) stop_one "$N";;
  log) cat "$RUN/$N.log";;
  status) each krb- say_status;;
  stop-all) each krb- stop_one;;
  *) usage;;
esac
