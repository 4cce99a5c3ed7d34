#!/usr/bin/env bash
# Throw-away certificates for localhost and 127.0.0.1: a CA, and a server and a client pair signed by it.
#
#   certs.sh [DIR]     makes them once, in DIR or $MILLRACE_E2E_HOME/certs, and prints the folder
#
#   ca.pem ca.key                                    the CA
#   {server,client}.{pem,key,p12,jks}                certificate, key (PKCS#8), key stores with the pair and the CA
#   {server,client}-all.pem                          key and chain in one file
#   trust.p12 trust.jks                              trust stores with the CA
#   other-ca.pem other.pem other.key other.p12       a pair of a CA that nobody here trusts
#   expired.pem expired.key                          a server certificate of the CA, valid on one day of 2020 only
#
# Every password is "changeit", every alias in a key store is the file's base name.
. "$(dirname "$0")/common.sh"
make_certs "${1:-$CERTS}"
echo "${1:-$CERTS}"
