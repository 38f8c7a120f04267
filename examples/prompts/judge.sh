#!/bin/sh
# Stands for a model that compares: of two lists of risks the one that says more of owners and measures.
awk '/^==== The first answer/{at=1} /^==== The second answer/{at=2} /^====$/{at=0}
    at { n[at] += gsub(/Owner:/, "") + gsub(/Measure:/, "") } END {
    winner = n[1] > n[2] ? "first" : n[1] < n[2] ? "second" : "tie"
    printf "{\"reason\": \"%d owners and measures against %d\", \"winner\": \"%s\"}\n", n[1], n[2], winner
}'
