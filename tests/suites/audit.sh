#!/bin/bash
# The adversarial corpus against the release binary, from outside.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

if ! can_make_namespaces; then
  skip audit "network namespaces need root, or unprivileged user namespaces"
  report
  exit
fi
exec "$root/scripts/audit" "$@"
