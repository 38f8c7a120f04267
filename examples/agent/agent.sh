#!/bin/sh
# Stands for an agent: it writes what it found so far, and then has no turns left.
# In a second round $PLANEXE_NOTES names a file with what the evaluator said.
set -e
{
    echo "# The cache is never emptied"
    echo
    echo "Entries are added in \`put\`, and \`evict\` has no caller. A call of \`evict\` in \`put\` mends it."
    if [ -n "$PLANEXE_NOTES" ]; then
        echo
        echo "The review said:"
        sed 's/^/> /' "$PLANEXE_NOTES"
    fi
} >"$2"
echo "no turns left" >&2
exit 1
