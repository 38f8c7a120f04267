#!/bin/sh
# Stands for an agent: it changes a file of the repository, commits that, and says what it did.
# Arguments: the file, what to change (a line for sed), what it was asked, where to report.
set -e
sed "$2" "src/$1" >"src/$1.new"
mv "src/$1.new" "src/$1"
git add "src/$1"
git -c user.name=agent -c user.email=agent@localhost commit -q -m "$1: $2"
{
    echo "# $1"
    echo
    tail -n 1 "$3"
} >"$4"
