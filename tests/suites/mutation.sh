#!/bin/bash
# Every attack of the corpus notices when its rule is taken out.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

if ! can_make_namespaces; then
  skip mutation "network namespaces need root, or unprivileged user namespaces"
  report
  exit
fi
exec "$root/scripts/mutate" "$@"
