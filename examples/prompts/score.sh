#!/bin/sh
# Scores a list of risks: half for owners, half for measures, less for a list that is empty.
awk '/^- /{n++} /Owner:/{o++} /Measure:/{m++} END {
    score = n ? 0.2 + 0.4 * o / n + 0.4 * m / n : 0
    printf "{\"score\": %.2f, \"notes\": \"%d risks, %d with an owner, %d with a measure\"}\n", score, n, o, m
}' "$1"
