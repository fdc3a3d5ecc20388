# Links, commands and claims of the documentation that a machine can check.
. "$(dirname "$0")/../../scripts/lib.sh"
counted "documentation" python3 -B "$root/scripts/check_docs.py"
report
