# The examples are what their generator writes, and hold against the schemas.
. "$(dirname "$0")/../../scripts/lib.sh"
counted "golden files unchanged" "$root/scripts/make-golden" --check
counted "examples against schemas" "$root/scripts/check-schemas"
report
