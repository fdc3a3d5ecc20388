# The program as a whole against a served API: exit codes, what it prints, what it does without a node.
. "$(dirname "$0")/../../scripts/lib.sh"
cargo_tests "command line" --features lab --test cli
report
