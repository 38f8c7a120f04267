# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_planexe_global_optspecs
    string join \n C/run-dir= f/file= profile= json color= s/quiet D/define= allow-outside= v/verbose h/help V/version
end

function __fish_planexe_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_planexe_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_planexe_using_subcommand
    set -l cmd (__fish_planexe_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c planexe -n "__fish_planexe_needs_command" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_needs_command" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_needs_command" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_needs_command" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_needs_command" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_needs_command" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_needs_command" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_needs_command" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_needs_command" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c planexe -n "__fish_planexe_needs_command" -s V -l version -d 'Print version'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "build" -d 'Run what is stale'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "watch" -d 'Build again whenever something it is made from is edited'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "resume" -d 'Say where a stopped or failed run continues, then build'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "status" -d 'Show the state of every task'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "stop" -d 'Tell the running build to start nothing more'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "pause" -d 'Hold the running build until `planexe resume`'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "abort" -d 'Give the run up; what is done is kept'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "explain" -d 'Say why a task would run, or why it need not'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "show" -d 'Show what a task was sent and what came back: prompt, answers, verdicts, log'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "log" -d 'Show what a task was sent and what came back: prompt, answers, verdicts, log'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "wait" -d 'Wait until the running build ends, a task fails, or a person is needed'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "events" -d 'List what happened in the builds of the run'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "failures" -d 'List failed attempts, and how each class and model fares'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "usage" -d 'Sum up calls, tokens and money by model and by task'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "files" -d 'List the outputs, inputs and records of the run'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "simulate" -d 'Predict what a build of everything would take, by slots, from the durations of earlier builds'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "checkpoints" -d 'List the completed tasks in order, each with its checkpoint'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "clean" -d 'Mark tasks to be made again; their outputs go to history'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "invalidate" -d 'Mark tasks to be made again; their outputs go to history'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "edit-plan" -d 'Edit the plan, see what that makes stale, and say what to do about it'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "touch" -d 'Mark tasks done, with their outputs as they are'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "gantt" -d 'Show the schedule of the run: planned, done, under way, late'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "execute" -d 'Make a finished plan into a project of work: its steps as tasks for models, programs and people'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "done" -d 'Say that a task waiting for a person is done, or let a paused gate pass'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "check" -d 'Read the pipeline and report every fault in it'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "history" -d 'List what is kept of former outputs'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "restore" -d 'Bring former outputs back; the present ones go to history'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "diff" -d 'Show how a task\'s outputs differ from what they were'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "record" -d 'Pack the answers of a run into one file, to be played again without a model'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "complexity" -d 'Show how hard each task is said to be, which tier of models that means, and what calls used'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "optimize" -d 'Try several texts of one task\'s prompt, and keep the best'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "try" -d 'Try several texts of one task\'s prompt, and keep the best'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "new" -d 'Make a run directory for a pipeline'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "list" -d 'List the runs in a folder'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "archive" -d 'Put a run aside, or take it back'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "delete" -d 'Remove a run with all it holds'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "mcp" -d 'Let an agent start, watch and repair runs (Model Context Protocol on standard input and output)'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "retry" -d 'Have failed tasks tried again, with fresh answers'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "gc" -d 'Free disk space: forget old contents'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "doctor" -d 'Look for what keeps a run from working, and say what to do about it'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "graph" -d 'Draw the tasks and the files between them'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "schema" -d 'Print the JSON Schema of pipeline.toml, for editors'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "keys" -d 'Show and bind which key may go to which host'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "man" -d 'Write the man pages'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "completions" -d 'Print a completion script'
complete -c planexe -n "__fish_planexe_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c planexe -n "__fish_planexe_using_subcommand build" -s j -l jobs -d 'Run at most N tasks at once, commands too [default: a command for each core, and as many calls as the models take]' -r
complete -c planexe -n "__fish_planexe_using_subcommand build" -l model -d 'Ask this model, by its name in the pipeline, instead of those the tasks name' -r
complete -c planexe -n "__fish_planexe_using_subcommand build" -l rebuild-on -d '`model`: treat tasks made with another model or other parameters as stale' -r -f -a "model\t'Another model, or other parameters'"
complete -c planexe -n "__fish_planexe_using_subcommand build" -l max-cost -d 'Start no further call once those of this build that ended have cost this many USD' -r
complete -c planexe -n "__fish_planexe_using_subcommand build" -l max-tokens -d 'Start no further call once those of this build that ended have used this many tokens, prompts and answers together (200000, 200k, 1.5M)' -r
complete -c planexe -n "__fish_planexe_using_subcommand build" -l max-calls -d 'Make no more calls than this in this build, repeated ones and those of evaluators included' -r
complete -c planexe -n "__fish_planexe_using_subcommand build" -l max-time -d 'Start no further task after this time (90s, 15m, 8h)' -r
complete -c planexe -n "__fish_planexe_using_subcommand build" -l webhook -d 'Post events to this address too; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand build" -l progress -d 'How to show what happens: auto, plain (a line per start and end), json (events on standard error), none' -r -f -a "auto\t'Live lines on a terminal, plain lines elsewhere'
plain\t'A line when a task starts, ends or fails'
json\t'Events as JSON lines on standard error'
none\t'Nothing but errors and the end'"
complete -c planexe -n "__fish_planexe_using_subcommand build" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand build" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand build" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand build" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand build" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand build" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand build" -s n -l dry-run -d 'Show what would run and why; run nothing, write nothing'
complete -c planexe -n "__fish_planexe_using_subcommand build" -s q -l question -d 'Run nothing; the exit code is 0 if all is up to date, 1 if something is stale'
complete -c planexe -n "__fish_planexe_using_subcommand build" -s B -l always-make -d 'Run the targets and all they need even if they are up to date, with fresh answers'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l only -d 'Run the targets alone, not what they need'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l explain -d 'Say of each task that runs why it is stale'
complete -c planexe -n "__fish_planexe_using_subcommand build" -s k -l keep-going -d 'After a failure go on with what does not depend on it (this is the default)'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l fail-fast -d 'After a failure start nothing more; what runs finishes'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l stop-all -d 'After a failure stop everything at once'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l keep-failed -d 'Leave tasks that failed before as they are'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l strict -d 'Exit 1 if a task is done with items missing'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l frozen -d 'Refuse answers recorded for another prompt'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l no-rescue -d 'Let a command that exits with an error fail, whatever its evaluator would say'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l no-reuse -d 'Do not look for kept answers; ask again'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l wait -d 'Wait for another planexe on this run to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l no-lock -d 'Take no lock, where the file system has none; two builds at once will then spoil each other\'s work'
complete -c planexe -n "__fish_planexe_using_subcommand build" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand build" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand build" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand build" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l exec -d 'Run a shell command after each build; its exit code is in PLANEXE_EXIT_CODE' -r
complete -c planexe -n "__fish_planexe_using_subcommand watch" -s j -l jobs -d 'Run at most N tasks at once, commands too [default: a command for each core, and as many calls as the models take]' -r
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l model -d 'Ask this model, by its name in the pipeline, instead of those the tasks name' -r
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l rebuild-on -d '`model`: treat tasks made with another model or other parameters as stale' -r -f -a "model\t'Another model, or other parameters'"
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l max-cost -d 'Start no further call once those of this build that ended have cost this many USD' -r
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l max-tokens -d 'Start no further call once those of this build that ended have used this many tokens, prompts and answers together (200000, 200k, 1.5M)' -r
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l max-calls -d 'Make no more calls than this in this build, repeated ones and those of evaluators included' -r
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l max-time -d 'Start no further task after this time (90s, 15m, 8h)' -r
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l webhook -d 'Post events to this address too; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l progress -d 'How to show what happens: auto, plain (a line per start and end), json (events on standard error), none' -r -f -a "auto\t'Live lines on a terminal, plain lines elsewhere'
plain\t'A line when a task starts, ends or fails'
json\t'Events as JSON lines on standard error'
none\t'Nothing but errors and the end'"
complete -c planexe -n "__fish_planexe_using_subcommand watch" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand watch" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand watch" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l poll -d 'Look at the files again and again, where changes are not reported (network folders)'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -s k -l keep-going -d 'After a failure go on with what does not depend on it (this is the default)'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l fail-fast -d 'After a failure start nothing more; what runs finishes'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l stop-all -d 'After a failure stop everything at once'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l keep-failed -d 'Leave tasks that failed before as they are'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l strict -d 'Exit 1 if a task is done with items missing'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l frozen -d 'Refuse answers recorded for another prompt'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l no-rescue -d 'Let a command that exits with an error fail, whatever its evaluator would say'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l no-reuse -d 'Do not look for kept answers; ask again'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l wait -d 'Wait for another planexe on this run to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l no-lock -d 'Take no lock, where the file system has none; two builds at once will then spoil each other\'s work'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand watch" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -s j -l jobs -d 'Run at most N tasks at once, commands too [default: a command for each core, and as many calls as the models take]' -r
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l model -d 'Ask this model, by its name in the pipeline, instead of those the tasks name' -r
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l rebuild-on -d '`model`: treat tasks made with another model or other parameters as stale' -r -f -a "model\t'Another model, or other parameters'"
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l max-cost -d 'Start no further call once those of this build that ended have cost this many USD' -r
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l max-tokens -d 'Start no further call once those of this build that ended have used this many tokens, prompts and answers together (200000, 200k, 1.5M)' -r
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l max-calls -d 'Make no more calls than this in this build, repeated ones and those of evaluators included' -r
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l max-time -d 'Start no further task after this time (90s, 15m, 8h)' -r
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l webhook -d 'Post events to this address too; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l progress -d 'How to show what happens: auto, plain (a line per start and end), json (events on standard error), none' -r -f -a "auto\t'Live lines on a terminal, plain lines elsewhere'
plain\t'A line when a task starts, ends or fails'
json\t'Events as JSON lines on standard error'
none\t'Nothing but errors and the end'"
complete -c planexe -n "__fish_planexe_using_subcommand resume" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand resume" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand resume" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand resume" -s n -l dry-run -d 'Only say where it would go on: changes nothing in the run, not even a time stamp'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l force -d 'Go on with a run that was aborted'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -s k -l keep-going -d 'After a failure go on with what does not depend on it (this is the default)'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l fail-fast -d 'After a failure start nothing more; what runs finishes'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l stop-all -d 'After a failure stop everything at once'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l keep-failed -d 'Leave tasks that failed before as they are'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l strict -d 'Exit 1 if a task is done with items missing'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l frozen -d 'Refuse answers recorded for another prompt'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l no-rescue -d 'Let a command that exits with an error fail, whatever its evaluator would say'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l no-reuse -d 'Do not look for kept answers; ask again'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l wait -d 'Wait for another planexe on this run to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l no-lock -d 'Take no lock, where the file system has none; two builds at once will then spoil each other\'s work'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand resume" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand status" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand status" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand status" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand status" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand status" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand status" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand status" -s w -l watch -d 'Show again each second until the build ends, or Ctrl-C; with --json one line for each change'
complete -c planexe -n "__fish_planexe_using_subcommand status" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand status" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand status" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand status" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand stop" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand stop" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand stop" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand stop" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand stop" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand stop" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand stop" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand stop" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand stop" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand stop" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand pause" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand pause" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand pause" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand pause" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand pause" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand pause" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand pause" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand pause" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand pause" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand pause" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand abort" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand abort" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand abort" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand abort" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand abort" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand abort" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand abort" -l hard -d 'End what runs too, at once'
complete -c planexe -n "__fish_planexe_using_subcommand abort" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand abort" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand abort" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand abort" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand explain" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand explain" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand explain" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand explain" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand explain" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand explain" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand explain" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand explain" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand explain" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand explain" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand show" -l call -d 'The call to show, by its number in the list [default: the one in use, else the last]' -r
complete -c planexe -n "__fish_planexe_using_subcommand show" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand show" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand show" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand show" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand show" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand show" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand show" -l prompt -d 'Print the prompt alone'
complete -c planexe -n "__fish_planexe_using_subcommand show" -l system -d 'Print the system prompt alone'
complete -c planexe -n "__fish_planexe_using_subcommand show" -l answer -d 'Print the answer alone, as it came'
complete -c planexe -n "__fish_planexe_using_subcommand show" -l log -d 'Print what the command said alone'
complete -c planexe -n "__fish_planexe_using_subcommand show" -l follow -d 'Print the answer, or what the command says, as it is written, until the task has come to its end'
complete -c planexe -n "__fish_planexe_using_subcommand show" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand show" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand show" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand show" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand log" -l call -d 'The call to show, by its number in the list [default: the one in use, else the last]' -r
complete -c planexe -n "__fish_planexe_using_subcommand log" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand log" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand log" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand log" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand log" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand log" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand log" -l prompt -d 'Print the prompt alone'
complete -c planexe -n "__fish_planexe_using_subcommand log" -l system -d 'Print the system prompt alone'
complete -c planexe -n "__fish_planexe_using_subcommand log" -l answer -d 'Print the answer alone, as it came'
complete -c planexe -n "__fish_planexe_using_subcommand log" -l log -d 'Print what the command said alone'
complete -c planexe -n "__fish_planexe_using_subcommand log" -l follow -d 'Print the answer, or what the command says, as it is written, until the task has come to its end'
complete -c planexe -n "__fish_planexe_using_subcommand log" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand log" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand log" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand log" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand wait" -l timeout -d 'Give up after this time (90s, 15m, 8h), with exit code 124' -r
complete -c planexe -n "__fish_planexe_using_subcommand wait" -l for -d 'What to wait for: done (everything), failed (a task), human (a person is needed), any (of these, or the end)' -r -f -a "done\t'Everything is done'
failed\t'A task failed'
human\t'A person is needed'
any\t'Any of these, or the end of the build'"
complete -c planexe -n "__fish_planexe_using_subcommand wait" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand wait" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand wait" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand wait" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand wait" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand wait" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand wait" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand wait" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand wait" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand wait" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand events" -l since -d 'Only from this time on: 2026-03-01T22:15:04Z, or so long ago: 10m' -r
complete -c planexe -n "__fish_planexe_using_subcommand events" -l webhook -d 'With --deliver: an address that was given to a build with `--webhook`; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand events" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand events" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand events" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand events" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand events" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand events" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand events" -l follow -d 'Show what happens until the build ends, or Ctrl-C'
complete -c planexe -n "__fish_planexe_using_subcommand events" -l deliver -d 'Send what waits for webhooks instead'
complete -c planexe -n "__fish_planexe_using_subcommand events" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand events" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand events" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand events" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand failures" -l task -d 'Only of this task; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand failures" -l class -d 'Only of this class, such as validation or timeout; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand failures" -l model -d 'Only with this model; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand failures" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand failures" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand failures" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand failures" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand failures" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand failures" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand failures" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand failures" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand failures" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand failures" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand usage" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand usage" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand usage" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand usage" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand usage" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand usage" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand usage" -l prefixes -d 'Also tell how much of the prompts repeats the beginning of an earlier one'
complete -c planexe -n "__fish_planexe_using_subcommand usage" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand usage" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand usage" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand usage" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand files" -l kind -d 'Only these: output, input, record' -r -f -a "output\t'A task makes it'
input\t'A task reads it, and none makes it'
record\t'planexe writes it'"
complete -c planexe -n "__fish_planexe_using_subcommand files" -l limit -d 'Only the newest N' -r
complete -c planexe -n "__fish_planexe_using_subcommand files" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand files" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand files" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand files" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand files" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand files" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand files" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand files" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand files" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand files" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -s j -l jobs -d 'At most N tasks at once' -r
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -l model -d 'Ask this model, by its name in the pipeline, instead of those the tasks name' -r
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -l slots -d 'Slots of a model, whatever the row: local=2,cloud=16' -r
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -l rpm -d 'Requests per minute of a model: cloud=60' -r
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -l tpm -d 'Tokens per minute of a model: cloud=200000' -r
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand simulate" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand checkpoints" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand checkpoints" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand checkpoints" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand checkpoints" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand checkpoints" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand checkpoints" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand checkpoints" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand checkpoints" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand checkpoints" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand checkpoints" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand clean" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand clean" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand clean" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand clean" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand clean" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand clean" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand clean" -l downstream -l cascade -d 'Also everything that depends on them'
complete -c planexe -n "__fish_planexe_using_subcommand clean" -l orphans -d 'Files of tasks and items that are no longer in the pipeline'
complete -c planexe -n "__fish_planexe_using_subcommand clean" -l all -d 'Every task'
complete -c planexe -n "__fish_planexe_using_subcommand clean" -s n -l dry-run -d 'Only list the files'
complete -c planexe -n "__fish_planexe_using_subcommand clean" -s y -l yes -d 'Do not ask'
complete -c planexe -n "__fish_planexe_using_subcommand clean" -l wait -d 'Wait for another planexe on this run to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand clean" -l no-lock -d 'Take no lock, where the file system has none'
complete -c planexe -n "__fish_planexe_using_subcommand clean" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand clean" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand clean" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand clean" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -l downstream -l cascade -d 'Also everything that depends on them'
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -l orphans -d 'Files of tasks and items that are no longer in the pipeline'
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -l all -d 'Every task'
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -s n -l dry-run -d 'Only list the files'
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -s y -l yes -d 'Do not ask'
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -l wait -d 'Wait for another planexe on this run to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -l no-lock -d 'Take no lock, where the file system has none'
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand invalidate" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -l set -d 'Take the new text from a file (`-`: standard input) instead of an editor' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -l invalidate-from -d 'Make TASK and what depends on it again, and keep all else that the edit makes stale' -r
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -l remake -d 'Make these again, and keep the others that the edit makes stale; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -l all -d 'Make everything again that the edit makes stale'
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -l none -d 'Keep everything that the edit makes stale as it is, marked done on the new text'
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -s n -l dry-run -d 'Only show what the edit makes stale; change nothing'
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -s y -l yes -d 'Do not ask; without another answer it is --all'
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -l wait -d 'Wait for another planexe on this run to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -l no-lock -d 'Take no lock, where the file system has none'
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand edit-plan" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand touch" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand touch" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand touch" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand touch" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand touch" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand touch" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand touch" -s n -l dry-run -d 'Only say what would be marked'
complete -c planexe -n "__fish_planexe_using_subcommand touch" -l wait -d 'Wait for another planexe on this run to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand touch" -l no-lock -d 'Take no lock, where the file system has none'
complete -c planexe -n "__fish_planexe_using_subcommand touch" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand touch" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand touch" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand touch" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -l html -d 'Write it as a page for a browser, one file without scripts; `-` is standard output' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -s w -l watch -d 'Show it again each second until the build ends, or Ctrl-C; with --html write the page anew, which reloads itself'
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand gantt" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand execute" -l into -d 'The folder of the project: a new one, or one that was made so, to be made again [default: RUN-execution]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand execute" -l kind -d 'Who does each step, rather than as the rule says: ai or human' -r -f -a "ai\t'A model writes what each step is to deliver'
human\t'A person does each step'"
complete -c planexe -n "__fish_planexe_using_subcommand execute" -l approve -d 'What a person lets begin: phases' -r -f -a "phases\t'Each phase'"
complete -c planexe -n "__fish_planexe_using_subcommand execute" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand execute" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand execute" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand execute" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand execute" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand execute" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand execute" -l git -d 'Make the project a git repository, in which every step that is done is committed'
complete -c planexe -n "__fish_planexe_using_subcommand execute" -l force -d 'Go on in spite of a no-go, and of files edited by hand (their contents go to history)'
complete -c planexe -n "__fish_planexe_using_subcommand execute" -s n -l dry-run -d 'Say what would be made, and write nothing'
complete -c planexe -n "__fish_planexe_using_subcommand execute" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand execute" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand execute" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand execute" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand done" -l evidence -d 'What came of it: a file to be copied to the task\'s first output, which is not there yet' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand done" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand done" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand done" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand done" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand done" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand done" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand done" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand done" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand done" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand done" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand check" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand check" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand check" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand check" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand check" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand check" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand check" -l strict -d 'Exit with 2 if there are warnings'
complete -c planexe -n "__fish_planexe_using_subcommand check" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand check" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand check" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand check" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand history" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand history" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand history" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand history" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand history" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand history" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand history" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand history" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand history" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand history" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand restore" -l checkpoint -d 'All outputs as they were at a checkpoint' -r
complete -c planexe -n "__fish_planexe_using_subcommand restore" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand restore" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand restore" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand restore" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand restore" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand restore" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand restore" -s n -l dry-run -d 'Only say what would be changed'
complete -c planexe -n "__fish_planexe_using_subcommand restore" -l wait -d 'Wait for another planexe on this run to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand restore" -l no-lock -d 'Take no lock, where the file system has none'
complete -c planexe -n "__fish_planexe_using_subcommand restore" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand restore" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand restore" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand restore" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand diff" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand diff" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand diff" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand diff" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand diff" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand diff" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand diff" -l lines -d 'Compare JSON line by line too, not by its paths'
complete -c planexe -n "__fish_planexe_using_subcommand diff" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand diff" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand diff" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand diff" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand record" -l about -d 'What is recorded, for people [default: what the file says already]' -r
complete -c planexe -n "__fish_planexe_using_subcommand record" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand record" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand record" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand record" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand record" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand record" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand record" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand record" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand record" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand record" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand complexity" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand complexity" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand complexity" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand complexity" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand complexity" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand complexity" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand complexity" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand complexity" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand complexity" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand complexity" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l variant -d 'A text to try; may be repeated [default: the files in prompts/variants/TASK, unless models are asked to propose]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l run -d 'A run whose inputs of the task are used; may be repeated [default: the run]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l models -d 'Compare these models too, by their names in the pipeline [default: the first of the task\'s]' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l propose -d 'Have a model write so many new texts in each round, from the scores and notes on the last' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l rounds -d 'So many rounds at most; what is kept in one is the champion of the next' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l samples -d 'Ask each text N times on each run: the spread is known then, and what may be noise is called so [default: 1]' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l compare -d 'Compare by the evaluator\'s scores, or pairwise: a judge is shown the answers two by two, in both orders [default: scores]' -r -f -a "scores\t'By the scores the task\'s evaluator gives'
pairwise\t'Two by two, by a judge that is shown both answers in both orders'"
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l margin -d 'What the mean score must gain for a text to be kept [default: 0.02]' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l max-drop -d 'What the score may lose on any one run [default: 0.05]' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l promote -d 'Let the best text take the prompt\'s place, if one was kept; with NAME no trial is made, and the text of that name, digest or experiment takes it' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l show -d 'Show an experiment [default: the last one of the task]' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -s j -l jobs -d 'Make at most N trials at once' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l max-cost -d 'Start no further call once so many USD were spent' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l max-tokens -d 'Start no further call once so many tokens were used, prompts and answers together (200000, 200k, 1.5M)' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l max-calls -d 'Make no more calls than so many, repeated ones and those of evaluators too' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l max-time -d 'Start no further trial after this time (90s, 15m, 8h)' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l progress -d 'How to show what happens: auto, plain (a line per start and end), json (events on standard error), none' -r -f -a "auto\t'Live lines on a terminal, plain lines elsewhere'
plain\t'A line when a task starts, ends or fails'
json\t'Events as JSON lines on standard error'
none\t'Nothing but errors and the end'"
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l allow-dropped-inputs -d 'Promote a text also if it does not use an input that the prompt used before'
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l list -d 'List the experiments'
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -s n -l dry-run -d 'Show how many calls are expected; make none, write nothing'
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l wait -d 'Wait for another planexe on this experiment to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand optimize" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c planexe -n "__fish_planexe_using_subcommand try" -l variant -d 'A text to try; may be repeated [default: the files in prompts/variants/TASK, unless models are asked to propose]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand try" -l run -d 'A run whose inputs of the task are used; may be repeated [default: the run]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand try" -l models -d 'Compare these models too, by their names in the pipeline [default: the first of the task\'s]' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l propose -d 'Have a model write so many new texts in each round, from the scores and notes on the last' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l rounds -d 'So many rounds at most; what is kept in one is the champion of the next' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l samples -d 'Ask each text N times on each run: the spread is known then, and what may be noise is called so [default: 1]' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l compare -d 'Compare by the evaluator\'s scores, or pairwise: a judge is shown the answers two by two, in both orders [default: scores]' -r -f -a "scores\t'By the scores the task\'s evaluator gives'
pairwise\t'Two by two, by a judge that is shown both answers in both orders'"
complete -c planexe -n "__fish_planexe_using_subcommand try" -l margin -d 'What the mean score must gain for a text to be kept [default: 0.02]' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l max-drop -d 'What the score may lose on any one run [default: 0.05]' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l promote -d 'Let the best text take the prompt\'s place, if one was kept; with NAME no trial is made, and the text of that name, digest or experiment takes it' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l show -d 'Show an experiment [default: the last one of the task]' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -s j -l jobs -d 'Make at most N trials at once' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l max-cost -d 'Start no further call once so many USD were spent' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l max-tokens -d 'Start no further call once so many tokens were used, prompts and answers together (200000, 200k, 1.5M)' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l max-calls -d 'Make no more calls than so many, repeated ones and those of evaluators too' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l max-time -d 'Start no further trial after this time (90s, 15m, 8h)' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l progress -d 'How to show what happens: auto, plain (a line per start and end), json (events on standard error), none' -r -f -a "auto\t'Live lines on a terminal, plain lines elsewhere'
plain\t'A line when a task starts, ends or fails'
json\t'Events as JSON lines on standard error'
none\t'Nothing but errors and the end'"
complete -c planexe -n "__fish_planexe_using_subcommand try" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand try" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand try" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand try" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand try" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand try" -l allow-dropped-inputs -d 'Promote a text also if it does not use an input that the prompt used before'
complete -c planexe -n "__fish_planexe_using_subcommand try" -l list -d 'List the experiments'
complete -c planexe -n "__fish_planexe_using_subcommand try" -s n -l dry-run -d 'Show how many calls are expected; make none, write nothing'
complete -c planexe -n "__fish_planexe_using_subcommand try" -l wait -d 'Wait for another planexe on this experiment to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand try" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand try" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand try" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand try" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c planexe -n "__fish_planexe_using_subcommand new" -l pipeline -d 'The pipeline it runs; `strategic-plan` is the one that comes with planexe [default: pipeline.toml here or above; if there is none, strategic-plan with a profile, else a small example]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand new" -l prompt -d 'Text of the plan, the file that `plan = …` names; `-` reads standard input' -r
complete -c planexe -n "__fish_planexe_using_subcommand new" -l prompt-file -d 'The same from a file; `-` reads standard input' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand new" -l label -d 'A name for people' -r
complete -c planexe -n "__fish_planexe_using_subcommand new" -l parent -d 'The run this one is made from, to be named in its status' -r
complete -c planexe -n "__fish_planexe_using_subcommand new" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand new" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand new" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand new" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand new" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand new" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand new" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand new" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand new" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand new" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand list" -l limit -d 'Only the newest N' -r
complete -c planexe -n "__fish_planexe_using_subcommand list" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand list" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand list" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand list" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand list" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand list" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand list" -l archived -d 'Those put aside by `planexe archive` instead'
complete -c planexe -n "__fish_planexe_using_subcommand list" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand list" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand list" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand list" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand archive" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand archive" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand archive" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand archive" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand archive" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand archive" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand archive" -l undo -d 'Take an archived run back'
complete -c planexe -n "__fish_planexe_using_subcommand archive" -s y -l yes -d 'Do not ask'
complete -c planexe -n "__fish_planexe_using_subcommand archive" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand archive" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand archive" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand archive" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand delete" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand delete" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand delete" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand delete" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand delete" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand delete" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand delete" -s y -l yes -d 'Do not ask'
complete -c planexe -n "__fish_planexe_using_subcommand delete" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand delete" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand delete" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand delete" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -l runs -d 'The folder that holds the runs; made if it is not there' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -l pipeline -d 'A pipeline the agent may make runs of, beside strategic-plan; the first is its default; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -l max-builds -d 'Start no further build while N runs of the folder are being built, whoever started them' -r
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -l no-build -d 'Let the agent make runs and look at them, but neither start nor end a build'
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand mcp" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand retry" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand retry" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand retry" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand retry" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand retry" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand retry" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand retry" -l build -d 'Build at once'
complete -c planexe -n "__fish_planexe_using_subcommand retry" -s n -l dry-run -d 'Only say what would be tried again'
complete -c planexe -n "__fish_planexe_using_subcommand retry" -l wait -d 'Wait for another planexe on this run to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand retry" -l no-lock -d 'Take no lock, where the file system has none'
complete -c planexe -n "__fish_planexe_using_subcommand retry" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand retry" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand retry" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand retry" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand gc" -l older-than -d 'Forget what nothing rests on and is older than this (30d, 12h): former contents, answers, checkpoints' -r
complete -c planexe -n "__fish_planexe_using_subcommand gc" -l max-size -d 'Forget the oldest until the rest takes at most this much (500M, 2G)' -r
complete -c planexe -n "__fish_planexe_using_subcommand gc" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand gc" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand gc" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand gc" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand gc" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand gc" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand gc" -s n -l dry-run -d 'Only say what would go'
complete -c planexe -n "__fish_planexe_using_subcommand gc" -l wait -d 'Wait for another planexe on this run to end, rather than exit 75'
complete -c planexe -n "__fish_planexe_using_subcommand gc" -l no-lock -d 'Take no lock, where the file system has none'
complete -c planexe -n "__fish_planexe_using_subcommand gc" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand gc" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand gc" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand gc" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -l offline -d 'Ask no server'
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -l call -d 'Ask each model one tiny question too, with a schema; it costs some tokens'
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand graph" -l format -d 'The language to draw in: dot (Graphviz), mermaid (Markdown viewers), json; --json is the last' -r -f -a "dot\t'Graphviz'
mermaid\t'Mermaid, as Markdown viewers draw it'
json\t'Nodes and edges as data'"
complete -c planexe -n "__fish_planexe_using_subcommand graph" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand graph" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand graph" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand graph" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand graph" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand graph" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand graph" -l state -d 'Colour each task by its state'
complete -c planexe -n "__fish_planexe_using_subcommand graph" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand graph" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand graph" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand graph" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand schema" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand schema" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand schema" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand schema" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand schema" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand schema" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand schema" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand schema" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand schema" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand schema" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -f -a "bind" -d 'Let the key in a variable go to a host'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -f -a "unbind" -d 'Take that back'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and not __fish_seen_subcommand_from bind unbind help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from bind" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from bind" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from bind" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from bind" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from bind" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from bind" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from bind" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from bind" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from bind" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from bind" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from unbind" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from unbind" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from unbind" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from unbind" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from unbind" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from unbind" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from unbind" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from unbind" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from unbind" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from unbind" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "bind" -d 'Let the key in a variable go to a host'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "unbind" -d 'Take that back'
complete -c planexe -n "__fish_planexe_using_subcommand keys; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c planexe -n "__fish_planexe_using_subcommand man" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand man" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand man" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand man" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand man" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand man" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand man" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand man" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand man" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand man" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand completions" -s D -l define -d 'Set {{ vars.NAME }}; may be repeated' -r
complete -c planexe -n "__fish_planexe_using_subcommand completions" -l allow-outside -d 'Also allow inputs, prompts and templates under PATH; may be repeated' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand completions" -s C -l run-dir -d 'The run directory [default: the nearest folder upward with a run.toml or pipeline.toml]' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand completions" -s f -l file -d 'The pipeline, with the current directory as the run' -r -F
complete -c planexe -n "__fish_planexe_using_subcommand completions" -l profile -d 'Use the overrides under [profiles.NAME]' -r
complete -c planexe -n "__fish_planexe_using_subcommand completions" -l color -d 'When to use colours: auto, always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Also into a pipe or a file'
never\t'Not at all'"
complete -c planexe -n "__fish_planexe_using_subcommand completions" -s v -l verbose -d 'Say more'
complete -c planexe -n "__fish_planexe_using_subcommand completions" -l json -d 'Print the result as JSON on standard output'
complete -c planexe -n "__fish_planexe_using_subcommand completions" -s s -l quiet -d 'Say nothing but errors'
complete -c planexe -n "__fish_planexe_using_subcommand completions" -s h -l help -d 'Print help'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "build" -d 'Run what is stale'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "watch" -d 'Build again whenever something it is made from is edited'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "resume" -d 'Say where a stopped or failed run continues, then build'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "status" -d 'Show the state of every task'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "stop" -d 'Tell the running build to start nothing more'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "pause" -d 'Hold the running build until `planexe resume`'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "abort" -d 'Give the run up; what is done is kept'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "explain" -d 'Say why a task would run, or why it need not'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "show" -d 'Show what a task was sent and what came back: prompt, answers, verdicts, log'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "wait" -d 'Wait until the running build ends, a task fails, or a person is needed'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "events" -d 'List what happened in the builds of the run'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "failures" -d 'List failed attempts, and how each class and model fares'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "usage" -d 'Sum up calls, tokens and money by model and by task'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "files" -d 'List the outputs, inputs and records of the run'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "simulate" -d 'Predict what a build of everything would take, by slots, from the durations of earlier builds'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "checkpoints" -d 'List the completed tasks in order, each with its checkpoint'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "clean" -d 'Mark tasks to be made again; their outputs go to history'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "edit-plan" -d 'Edit the plan, see what that makes stale, and say what to do about it'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "touch" -d 'Mark tasks done, with their outputs as they are'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "gantt" -d 'Show the schedule of the run: planned, done, under way, late'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "execute" -d 'Make a finished plan into a project of work: its steps as tasks for models, programs and people'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "done" -d 'Say that a task waiting for a person is done, or let a paused gate pass'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "check" -d 'Read the pipeline and report every fault in it'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "history" -d 'List what is kept of former outputs'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "restore" -d 'Bring former outputs back; the present ones go to history'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "diff" -d 'Show how a task\'s outputs differ from what they were'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "record" -d 'Pack the answers of a run into one file, to be played again without a model'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "complexity" -d 'Show how hard each task is said to be, which tier of models that means, and what calls used'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "optimize" -d 'Try several texts of one task\'s prompt, and keep the best'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "new" -d 'Make a run directory for a pipeline'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "list" -d 'List the runs in a folder'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "archive" -d 'Put a run aside, or take it back'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "delete" -d 'Remove a run with all it holds'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "mcp" -d 'Let an agent start, watch and repair runs (Model Context Protocol on standard input and output)'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "retry" -d 'Have failed tasks tried again, with fresh answers'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "gc" -d 'Free disk space: forget old contents'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "doctor" -d 'Look for what keeps a run from working, and say what to do about it'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "graph" -d 'Draw the tasks and the files between them'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "schema" -d 'Print the JSON Schema of pipeline.toml, for editors'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "keys" -d 'Show and bind which key may go to which host'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "man" -d 'Write the man pages'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "completions" -d 'Print a completion script'
complete -c planexe -n "__fish_planexe_using_subcommand help; and not __fish_seen_subcommand_from build watch resume status stop pause abort explain show wait events failures usage files simulate checkpoints clean edit-plan touch gantt execute done check history restore diff record complexity optimize new list archive delete mcp retry gc doctor graph schema keys man completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c planexe -n "__fish_planexe_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "bind" -d 'Let the key in a variable go to a host'
complete -c planexe -n "__fish_planexe_using_subcommand help; and __fish_seen_subcommand_from keys" -f -a "unbind" -d 'Take that back'
