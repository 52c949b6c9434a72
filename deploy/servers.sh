#!/usr/bin/env bash
# What the tests talk to and run in, from Debian's packages: Dovecot, Chromium, bubblewrap. Installs
# what is missing where it may; what cannot be had is named by the tests themselves.
set -uo pipefail
missing=()
[ -x /usr/sbin/dovecot ] && [ -e /usr/lib/dovecot/lmtp ] || missing+=(dovecot-imapd dovecot-lmtpd dovecot-submissiond)
command -v chromium >/dev/null || missing+=(chromium)
command -v bwrap >/dev/null || missing+=(bubblewrap)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "servers: cannot install ${missing[*]}: needs root on Debian" >&2
  exit 0
fi
echo "servers: installing ${missing[*]}"
# Debian would start Dovecot as a system service; the tests start their own.
policy=/usr/sbin/policy-rc.d
made=""
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; }
apt-get update -qq -o DPkg::Lock::Timeout=240 &&
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=240 "${missing[@]}" >/dev/null
status=$?
[ -n "$made" ] && rm -f "$policy"
[ $status -eq 0 ] || echo "servers: installation failed; the tests name what they miss" >&2
exit 0
