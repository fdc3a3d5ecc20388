# What a running node says on every interface, against the schemas, and its account verified by a third implementation.
. "$(dirname "$0")/../../scripts/lib.sh"
need_apt curl || { skip messages "the demo needs curl"; report; exit; }
binaries=$(build_lab) || die "the lab does not build"
python=$(golden_python) || die "no Python environment"
counted "a running node's messages" "$python" -B "$root/scripts/golden/check_live.py" "$binaries/echomesh-lab"
report
