#!/bin/bash
# The adversarial corpus against the release binary, from outside.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

if [ "$(id -u)" -ne 0 ]; then
  skip audit "network namespaces need root"
  report
  exit
fi
exec "$root/scripts/audit" "$@"
