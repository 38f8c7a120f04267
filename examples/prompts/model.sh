#!/bin/sh
# Stands for a model: a risk for each step of the plan, in the form the prompt asks for.
prompt=$(cat)
owner=""
measure=""
case $prompt in *owner*) owner=" Owner: the foreman." ;; esac
case $prompt in *measure*) measure=" Measure: a second supplier." ;; esac
printf '%s\n' "$prompt" | sed -n 's/^- //p' | while read -r step; do
    printf '%s\n' "- $step: late.$owner$measure"
done
