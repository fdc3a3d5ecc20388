# Links, commands and claims of the documentation that a machine can check.
. "$(dirname "$0")/../../scripts/lib.sh"
counted "documentation" python3 -B "$root/scripts/check_docs.py"
if need_apt publicsuffix; then
  counted "public suffixes" python3 -B "$root/scripts/public-suffixes" check
else
  skip "public suffixes" "the package publicsuffix cannot be installed"
fi
report
