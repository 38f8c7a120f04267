#!/bin/sh
# Copies the example into a folder and makes a repository of it.
set -e
to=${1:?say where: ./start.sh FOLDER}
mkdir -p "$to"
cp -R "$(dirname "$0")/." "$to"
cd "$to"
mv gitignore .gitignore
rm start.sh
git init -q -b main
git add -A
git -c user.name=you -c user.email=you@localhost commit -q -m "A shop"
echo "now: planexe -C $to build"
