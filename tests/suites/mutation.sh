#!/bin/bash
# Every attack of the corpus notices when its rule is taken out.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

if [ "$(id -u)" -ne 0 ]; then
  skip mutation "network namespaces need root"
  report
  exit
fi
exec "$root/scripts/mutate" "$@"
