# What a disturbed command may leave, and what the next run has to make of it.

# Runs the job's command with the runner's options given; sets `status`, `taken` (ms), $own/out and $own/err.
disturb() {
    local words
    words=$("$tools/attempt" --limit "$limit" --out "$own/out" --err "$own/err" "$@") || true
    read -r status taken <<< "$words"
}

# Ends a try: the first reason counts.
bad() {
    [ -n "$reason" ] || reason="$1"
    return 1
}

quote_errors() { head -c 300 "$own/err" 2> /dev/null | tr '\n\t' '  '; }

# 5 s beyond what the job takes undisturbed, and room for a machine that does other things as well.
limit_of() { limit=$(($(< "$expected/$1/ms") * 4 / 1000 + 5 + slack)); }

# Whether what stands under the output's name is what an undisturbed run makes. Times and speeds of a run may differ.
same_output() {
    local name found=0
    for name in $output; do
        [ -e "$name" ] || continue
        found=1
        if [ "$output" = run ]; then
            same_run || return 1
        else
            diff -rq "$name" "$expected/$1/$name" > "$own/difference" 2>&1 || return 1
        fi
    done
    [ $found = 1 ]
}

same_run() {
    local name expected_run=$expected/$current/run
    diff -rq run/adapter "$expected_run/adapter" > "$own/difference" 2>&1 || return 1
    # A stop leaves one more checkpoint, and two are kept: the last one tells.
    for name in manifest.json recipe.resolved.yaml \
        $(cd "$expected_run" && echo "$(ls -d checkpoints/* | tail -n 1)"/*.safetensors); do
        cmp -s "run/$name" "$expected_run/$name" || { echo "$name differs" > "$own/difference"; return 1; }
    done
    [ "$is_log_met" = 1 ] || cmp -s <(timeless run/metrics.jsonl) <(timeless "$expected_run/metrics.jsonl") \
        || { echo "metrics.jsonl differs" > "$own/difference"; return 1; }
    [ -s run/report.html ] || { echo "no report.html" > "$own/difference"; return 1; }
}

timeless() { sed -E 's/"(tokens_per_second|peak_rss_bytes|elapsed_seconds)": ?[^,}]*//g' "$1"; }

# What stands now and neither stood before nor belongs to the output. KILLED allows what a killed process cannot remove.
# Checkpoints under their own names and finished parts of a store are there to go on from.
strangers() {
    listing | LC_ALL=C comm -23 - "$expected/$current/listing" \
        | { if [ "$1" = killed ]; then grep -Ev '(^|/)\.' ; else cat; fi; } \
        | { if [ "$output" = run ]; then grep -Ev '^run/checkpoints/step-[0-9]+(/|$)'; else cat; fi; } \
        | { if [ "$output" = store.h5 ]; then grep -Ev '^\.store\.h5\.'; else cat; fi; } | head -n 5 | tr '\n' ' ' \
        || true
}

# A published output is whole: a run's adapter, anything else altogether.
nothing_half() {
    local name left first
    if [ "$output" = run ]; then
        if [ -e run/adapter ]; then
            diff -rq run/adapter "$expected/$current/run/adapter" > "$own/difference" 2>&1 \
                || bad "half-written: $(head -n 1 "$own/difference")" || return 1
        fi
        newest=$(ls -d run/checkpoints/step-* 2> /dev/null | grep -E 'step-[0-9]+$' | tail -n 1 || true)
    else
        for name in $output; do
            [ -e "$name" ] || continue
            diff -rq "$name" "$expected/$current/$name" > "$own/difference" 2>&1 \
                || bad "half-written: $(head -n 1 "$own/difference")" || return 1
        done
    fi
    if [[ "$output" == *'*'* ]]; then
        # No file system names several files at once: that which readers open comes last, and the next run takes back
        # the others of a process that was killed before.
        left=$(ls -d $output 2> /dev/null | wc -l)
        [ "$left" = 0 ] || [ "$left" = "$(ls -d "$expected/$current"/$output | wc -l)" ] \
            || { [ "$1" = killed ] && [ ! -e "$(ls -d ${output/\*/00001-*} 2> /dev/null)" ]; } \
            || bad "half-written: $left parts of a set stand" || return 1
    fi
    left=$(strangers "$1")
    [ -z "$left" ] || bad "left behind: $left" || return 1
}

# The same command again, undisturbed, gives the bytes of an unbroken run and leaves nothing hidden.
goes_on() {
    local stood=0 left step
    same_output "$current" && stood=1
    words=$("$tools/attempt" --limit "$limit" --out "$own/out" --err "$own/err" "$graft" "${again[@]}")
    read -r status taken <<< "$words"
    if [ "$output" = run ]; then
        if [ "$status" = 0 ] && [ -n "${newest:-}" ]; then
            step=$((10#${newest##*step-}))
            grep -q "resumed after step $step " "$own/err" || grep -q 'steps had been taken' "$own/err" \
                || bad "checkpoint lost: $newest stood, the rerun says: $(quote_errors)" || return 1
        fi
    elif [ $stood = 1 ] && [ "$status" = 73 ]; then
        # A whole output under its name is left as it is; but a command that reported a failure has not published it.
        # What a killed one has left hidden beside it goes with the next output of the folder.
        [ "${1:-}" = killed ] && return
        bad "published, yet it failed, and a rerun is refused" || return 1
    fi
    [ "$status" = 0 ] || bad "the rerun ends with $status: $(quote_errors)" || return 1
    same_output "$current" || bad "other bytes after the rerun: $(head -n 1 "$own/difference")" || return 1
    as_unbroken
}

# What stands is what an unbroken run leaves, by name; of a run, whatever the kept checkpoints are called.
as_unbroken() {
    local left
    left=$(comm -3 <(listing | settled) <(settled < "$expected/$current/listing") | head -n 5 | tr '\n\t' '  ')
    [ -z "$left" ] || bad "not as an unbroken run leaves it: $left"
}

settled() { if [ "$output" = run ]; then grep -Ev '^run/checkpoints/step-[0-9]+(/|$)'; else cat; fi | LC_ALL=C sort; }

# Whether the command ended, and with one of the statuses in a list.
is_allowed() {
    case " $1 " in *" $status "*) return 0 ;; esac
    [ "$status" != hang ] || bad "hangs: not done after $limit s" || return 1
    bad "ends with $status: $(quote_errors)"
}

# All of it: KIND is error, killed or stopped; the other arguments are the statuses that are allowed.
judge() {
    local kind=$1 left
    shift
    is_allowed "$*" || return 1
    nothing_half "$kind" || return 1
    if [ "$status" = 0 ]; then
        same_output "$current" || bad "status 0 with other bytes: $(head -n 1 "$own/difference")" || return 1
        [ "$kind" = killed ] || as_unbroken
        return
    fi
    goes_on "$kind"
}
