# shellcheck shell=bash
# What a rehearsal prints: each step as it begins, what was measured in it, and a table at the end.
#
#   step TITLE FUNCTION [ARGUMENTS]   runs it, with `set -e` in force; whatever fails in it ends the rehearsal
#   expect TEXT COMMAND               notes whether the command succeeds, and goes on
#   figure NAME VALUE                 notes a value for the table
#   steps_end STATUS                  prints the table; its status says whether the rehearsal as a whole did what it should

STEP=""            # the step that is under way
STEP_BEGAN=0       # milliseconds
REHEARSAL_BEGAN=0
STEPS=()           # rows of the table: what, and the seconds or the value
FAILED=()

milliseconds() { # since 1970
    local now=$EPOCHREALTIME
    echo "$((${now%[.,]*} * 1000 + 10#${now#*[.,]} / 1000))"
}

# Seconds since a time in milliseconds.
since() { # MILLISECONDS
    _seconds $(($(milliseconds) - $1))
}

_seconds() { # MILLISECONDS
    printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100))
}

say() { # TEXT
    local now
    now=$(milliseconds)
    ((REHEARSAL_BEGAN)) || REHEARSAL_BEGAN=$now
    printf '%7s s  %s\n' "$(_seconds $((now - REHEARSAL_BEGAN)))" "$1"
}

step() { # TITLE FUNCTION [ARGUMENTS]
    STEP=$1
    shift
    say "$STEP"
    STEP_BEGAN=$(milliseconds)
    "$@"
    STEPS+=("$STEP" "$(_seconds $(($(milliseconds) - STEP_BEGAN))) s")
    STEP=""
}

expect() { # TEXT COMMAND [ARGUMENTS]
    local text=$1
    shift
    if "$@"; then
        say "    as expected: $text"
    else
        say "    NOT AS EXPECTED: $text"
        FAILED+=("$text")
    fi
}

figure() { # NAME VALUE
    say "    $1: $2"
    STEPS+=("  $1" "$2")
}

# Waits until a command succeeds.
wait_for() { # SECONDS WHAT COMMAND [ARGUMENTS]
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if ((SECONDS > until)); then
            echo "Waited in vain for $what." >&2
            return 1
        fi
        sleep 0.2
    done
}

steps_end() { # STATUS
    [[ -z $STEP ]] || FAILED+=("$STEP (did not come to its end)")
    printf '\n%-72s %s\n' "step" "seconds or value"
    ((${#STEPS[@]} == 0)) || printf '%-72s %s\n' "${STEPS[@]}"
    if ((${#FAILED[@]})); then
        printf '\nNot as expected:\n'
        printf '  %s\n' "${FAILED[@]}"
        return 1
    fi
    return "$1"
}
