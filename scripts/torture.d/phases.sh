# The phases: list_PHASE prints the names of its tries, one a line, and try_PHASE does one of them. A name says all that
# the try does, so that it can be done again by itself. Random choices are made where names are listed, from the seed.

all_phases="shim kill signals flips disk slow descriptors writers limits"

# Numbers from the seed: COUNT lines of the awk expression given, in which r() is a random number below 1.
random() {
    local salt
    salt=$(cksum <<< "$3" | cut -d ' ' -f 1)
    awk -v count="$1" -v seed="$(((seed * 7919 + round * 104729 + salt) % 2147483647))" "
        function r() { return rand() } BEGIN { srand(seed); for (i = 0; i < count; i++) print $2 }"
}

is_wanted() { case " $jobs " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

# ---- shim: the n-th call fails, falls short, or is the last; for all n of every kind

list_shim() {
    [ "$round" = 0 ] || return 0
    local name
    for name in $jobs; do
        awk -v job="$name" '
            BEGIN {
                faults["open"] = faults["read"] = faults["pread"] = "EIO"
                faults["create"] = faults["write"] = faults["pwrite"] = "ENOSPC EIO FULL DIE DIE-AFTER"
                faults["fsync"] = faults["rename"] = faults["renameat2"] = faults["mkdir"] = "ENOSPC EIO DIE DIE-AFTER"
                faults["ftruncate"] = faults["fallocate"] = "ENOSPC EIO DIE DIE-AFTER"; faults["mmap"] = "ENOMEM"
                faults["unlink"] = "EIO DIE DIE-AFTER"; faults["pthread_create"] = "EAGAIN ALWAYS-EAGAIN"
                # These meet every call of a try, one after the other.
                each["open"] = each["create"] = each["fsync"] = each["ftruncate"] = each["fallocate"] = "EACH-EINTR"
                each["read"] = each["pread"] = each["write"] = each["pwrite"] = "EACH-EINTR EACH-SHORT"
                each["close"] = "EACH-EINTR ALWAYS-EIO"; each["flock"] = "EACH-EINTR ALWAYS-ENOLCK"
                each["renameat2"] = "ALWAYS-EINVAL"
            }
            {
                n = ++seen[$1]
                count = split(faults[$1] (n == 1 ? " " each[$1] : ""), list, " ")
                for (i = 1; i <= count; i++) print job, $1, n, list[i]
            }' "$expected/$name/calls"
    done
}

try_shim() {
    local kind=$2 nth=$3 fault=$4 allowed='0 74' how=error
    fresh "$1"
    case "$fault" in
        # To be interrupted or served in parts is no fault; nor is it to lock nothing, rename with an older call or
        # close with an error when all is synchronised.
        EACH-* | EINTR | SHORT | ALWAYS-EINVAL | ALWAYS-ENOLCK) allowed=0 ;;
        ENOMEM | EAGAIN | ALWAYS-EAGAIN) allowed='0 74 78' ;;
        # What cannot be removed stays.
        EIO) [ "$kind" != unlink ] || how=killed ;;
        DIE | DIE-AFTER) allowed='0 137' how=killed ;;
    esac
    rm -f "$own/met"
    LD_PRELOAD="$tools/shim.so" TORTURE_FOLDER="$here" TORTURE_LOG="$own/met" TORTURE_CALL="$kind" \
        TORTURE_NTH="$nth" TORTURE_FAULT="$fault" disturb_env "$graft" "${command[@]}"
    met=$(tail -n 1 "$own/met" 2> /dev/null | head -c 200 || true)
    # A run goes on without its log where that cannot be written, and says so.
    case "$met" in "write "*metrics.jsonl | "open "*metrics.jsonl | "create "*metrics.jsonl) is_log_met=1 ;; esac
    judge $how $allowed
}

# `disturb` with the shim loaded for the command alone, not for the runner.
disturb_env() {
    local shim=$LD_PRELOAD
    unset LD_PRELOAD
    disturb env LD_PRELOAD="$shim" "$@"
}

# ---- kill: SIGKILL at a random time, for runs several times over

list_kill() {
    local name ms
    for name in $jobs; do
        ms=$(< "$expected/$name/ms")
        case $name in
            train* | resume) n=200 ;;
            tokenize | merge | export | export-split) n=120 ;;
            *) n=24 ;;
        esac
        random $n "\"$name\", int(r() * $ms * 10.5) / 10 (r() < 0.3 ? \" \" int(r() * $ms * 10) / 10 : \"\")" "kill $name"
    done
}

try_kill() {
    local name=$1 at
    shift
    fresh "$name"
    for at; do
        disturb --signal "9@$at" "$graft" "${command[@]}"
        case $status in 0 | 137) ;; *) break ;; esac
        [ "$status" = 137 ] || break
        [ "$output" != run ] || command=("${again[@]}")
    done
    judge killed 0 137 73
}

# ---- signals: at a random time, and at a call

list_signals() {
    local name ms count
    for name in $jobs; do
        ms=$(< "$expected/$name/ms")
        count=$(wc -l < "$expected/$name/calls")
        random 12 "\"$name\", substr(\"TERMINT HUP USR1PIPE\", int(r() * 5) * 4 + 1, 4), int(r() * $ms * 10) / 10" \
            "signals $name" | sed 's/ INT  / INT /; s/ HUP  / HUP /'
        random 4 "\"$name INT-INT\", int(r() * $ms * 10) / 10, int(r() * 200) / 10" "twice $name"
        random 8 "\"$name\", substr(\"15 2  1  10 13 \", int(r() * 5) * 3 + 1, 2), \"call\", int(r() * $count) + 1" \
            "calls $name"
    done
}

try_signals() {
    local name=$1 what=$2 number
    fresh "$name"
    if [ "${3:-}" = call ]; then
        rm -f "$own/met"
        LD_PRELOAD="$tools/shim.so" TORTURE_FOLDER="$here" TORTURE_LOG="$own/met" TORTURE_CALL=any TORTURE_NTH="$4" \
            TORTURE_FAULT="$what" disturb_env "$graft" "${command[@]}"
        met=$(tail -n 1 "$own/met" 2> /dev/null | head -c 200 || true)
        number=$what
    elif [ "$what" = INT-INT ]; then
        # The second one ends the process at once, as without graft; before the program has begun, so does the first.
        disturb --signal "2@$3" --signal "2@$(awk "BEGIN { print $3 + $4 }")" "$graft" "${command[@]}"
        judge killed 0 75 130
        return
    else
        case $what in TERM) number=15 ;; INT) number=2 ;; HUP) number=1 ;; USR1) number=10 ;; PIPE) number=13 ;; esac
        disturb --signal "$number@$3" "$graft" "${command[@]}"
        # While the loader is at work, nobody can listen yet.
        if [ "$status" = $((128 + number)) ] && awk "BEGIN { exit !($3 < 1.5 * ${startup:=$(startup_time)}) }"; then
            judge killed "$status"
            return
        fi
    fi
    judge stopped 0 75
}

# ---- flips: one bit of one file that graft wrote; it is told, or the outcome is the same

list_flips() {
    local what file size count
    cd "$saved"
    for what in adapter copy checkpoint run store shard gguf; do
        case $what in
            adapter) set -- finished/adapter/* learned/adapter/* ;;
            copy) set -- tuned/* ;;
            checkpoint) set -- stopped/checkpoints/*/* ;;
            run) set -- stopped/*.* finished/manifest.json learned/manifest.json ;;
            store) set -- rows.h5 shard1/* ;;
            shard) set -- changed/* ;;
            gguf) set -- base.gguf ;;
        esac
        for file; do
            [ -f "$file" ] || continue
            size=$(stat -c %s "$file")
            count=12
            [ $# -gt 2 ] || count=48
            random $count "\"$what $file\", int(r() * $size * 8)" "flips $file"
        done
    done
}

# What reads a file: a command, and the output that is compared.
reader_of() {
    local file=$2
    case $1 in
        copy) command=(merge --model base --adapter tuned --out read --threads 1) output=read ;;
        adapter | run)
            case $file in
                finished/*) command=(merge --model plain --adapter finished/adapter --out read) output=read ;;
                learned/*) command=(merge --model base --adapter learned --out read) output=read ;;
                *) mv stopped run; file=${file/stopped/run}
                    command=(train r.yaml --resume --threads 1) output=run ;;
            esac ;;
        checkpoint) mv stopped run; file=${file/stopped/run}
            command=(train r.yaml --resume --threads 1) output=run ;;
        store)
            if [[ "$file" == shard* ]]; then
                command=(tokenize --merge shard1,shard2 --out read.h5) output=read.h5
            else
                command=(train store.yaml --threads 1) output=run
            fi ;;
        shard) command=(merge --model changed --adapter bare --out read --threads 1) output=read ;;
        gguf) command=(export --model base.gguf --out read.gguf --type q8_0 --threads 1) output=read.gguf ;;
    esac
    flipped=$file
}

flip() {
    local at=$(($2 / 8)) byte
    byte=$(od -An -tu1 -j "$at" -N 1 "$1" | tr -d ' ')
    printf '%b' "\\x$(printf %02x $((byte ^ (1 << ($2 % 8)))))" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}

# Copies what the reader made, without what differs from time to time.
outcome() {
    rm -rf "$1"
    mkdir -p "$1"
    if [ "$output" = run ]; then
        cp -a run/adapter "$1" 2> /dev/null || true
        # A run's manifest and log speak of what it was made from; the learned bytes are what counts.
    else
        cp -a $output "$1" 2> /dev/null || true
    fi
}

try_flips() {
    local key undisturbed
    cd "$own"
    rm -rf "$here"
    cp -a "$saved" "$here"
    cd "$here"
    reader_of "$1" "$2"
    key=$(printf %s "$1 ${command[*]}" | cksum | cut -d ' ' -f 1)
    undisturbed=$own/unflipped/$key
    limit=$((30 + slack))
    if [ ! -d "$undisturbed" ]; then
        cp -a "$here" "$own/before-flip"
        disturb "$graft" "${command[@]}"
        [ "$status" = 0 ] || bad "the reader fails on an unflipped file: $(quote_errors)" || return 1
        mkdir -p "$own/unflipped"
        outcome "$undisturbed"
        grep -v 'tokens/s' "$own/err" > "$undisturbed.err" || true
        cd "$own"
        rm -rf "$here"
        mv "$own/before-flip" "$here"
        cd "$here"
    fi
    flip "$flipped" "$3"
    disturb "$graft" "${command[@]}"
    case $status in
        0) ;;
        64 | 65 | 66 | 73 | 74 | 78 | 79) verdict=refused; return 0 ;;
        hang) bad "hangs: not done after $limit s" || return 1 ;;
        *) bad "ends with $status: $(quote_errors)" || return 1 ;;
    esac
    outcome "$own/flipped"
    if diff -rq "$own/flipped" "$undisturbed" > "$own/difference" 2>&1; then verdict=equal; return 0; fi
    if grep -qiE 'damage|hash|changed|differs|manifest|not the' "$own/err" \
        && ! diff -q <(grep -v 'tokens/s' "$own/err") "$undisturbed.err" > /dev/null; then
        verdict=told
        return 0
    fi
    # A merged folder, a GGUF file and an adapter away from its run carry no hash of their own.
    case $1 in shard | gguf | copy) verdict=silent; return 0 ;; esac
    bad "silently another outcome: $(head -n 1 "$own/difference")"
}

# ---- disk: full, read-only, too small for one file

list_disk() {
    local name size
    for name in $jobs; do
        size=$(du -sk --apparent-size "$saved" | cut -f 1)
        if [ "$mounts" = 1 ]; then
            random 8 "\"$name full\", int($size * 1.3) + 4 * int(r() * 120)" "disk $name"
            echo "$name read-only"
        fi
        random 4 "\"$name file-size\", int(r() * r() * 90000)" "fsize $name"
    done
}

try_disk() {
    local name=$1 kind=$2 result=0
    if [ "$kind" = file-size ]; then
        fresh "$name"
        disturb --fsize "$3" "$graft" "${command[@]}"
        judge error 0 74
        return
    fi
    cd "$own"
    rm -rf "$here"
    mkdir "$here"
    mount -t tmpfs -o "size=$([ "$kind" = full ] && echo "$3" || echo 100000)k" torture "$here"
    {
        cp -a "$saved/." "$here" 2> /dev/null || { verdict=skipped; cd "$own"; umount "$here"; return 0; }
        cd "$here"
        job "$name"
        $before
        [ "$kind" = full ] || mount -o remount,ro "$here"
        disturb "$graft" "${command[@]}"
        mount -o remount,rw,size=100000k "$here"
        if [ "$kind" = full ]; then judge error 0 74; else judge error 74; fi
    } || result=1
    cd "$own"
    umount "$here" || umount -l "$here"
    return $result
}

# ---- slow: every call is held up, and a signal comes meanwhile

list_slow() {
    local name
    for name in $jobs; do
        echo "$name 300"
        random 3 "\"$name\", 1000, 15, int(r() * 600)" "slow $name"
    done
}

try_slow() {
    fresh "$1"
    limit=$((limit + 30))
    rm -f "$own/met"
    export TORTURE_DELAY=$2
    if [ -n "${3:-}" ]; then
        LD_PRELOAD="$tools/shim.so" TORTURE_FOLDER="$here" TORTURE_LOG=/dev/null TORTURE_CALL=none TORTURE_NTH=0 \
            TORTURE_FAULT=EIO disturb_signal "$3@$(($4 + 2 * ${startup:=$(startup_time)}))" "$graft" "${command[@]}"
    else
        LD_PRELOAD="$tools/shim.so" TORTURE_FOLDER="$here" TORTURE_LOG=/dev/null TORTURE_CALL=none TORTURE_NTH=0 \
            TORTURE_FAULT=EIO disturb_env "$graft" "${command[@]}"
    fi
    unset TORTURE_DELAY
    judge stopped 0 75
}

disturb_signal() {
    local shim=$LD_PRELOAD at=$1
    unset LD_PRELOAD
    shift
    disturb --signal "$at" env LD_PRELOAD="$shim" "$@"
}

# ---- descriptors: 0, 1, 2 closed, full or broken

list_descriptors() {
    [ "$round" = 0 ] || return 0
    local name what
    for name in $jobs; do
        for what in closed-0 closed-1 closed-2 closed-012 closed-12 full-1 full-2 broken-1 broken-2; do
            echo "$name $what"
        done
    done
}

try_descriptors() {
    local options=() allowed=0 number
    fresh "$1"
    case $2 in
        closed-*) number=${2#closed-}
            while [ -n "$number" ]; do options+=(--closed "${number:0:1}"); number=${number:1}; done ;;
        broken-*) options=(--broken "${2#broken-}") ;;
    esac
    # Notes are wanted here: they are what there is to write.
    local words=() word
    for word in "${command[@]}"; do [ "$word" = --quiet ] || words+=("$word"); done
    if [[ $2 == full-* ]]; then
        local out=$own/out err=$own/err
        [ "$2" = full-1 ] && out=/dev/full || err=/dev/full
        read -r status taken <<< "$("$tools/attempt" --limit "$limit" --out "$out" --err "$err" "$graft" "${words[@]}")"
    else
        disturb "${options[@]}" "$graft" "${words[@]}"
    fi
    # What cannot be told on standard output may be an error; the file that was asked for is there all the same.
    case $2 in *1* ) allowed='0 74' ;; esac
    is_allowed "$allowed" || return 1
    same_output "$current" || bad "other bytes: $(head -n 1 "$own/difference" 2> /dev/null)" || return 1
    local left
    left=$(strangers error)
    [ -z "$left" ] || bad "left behind: $left"
}

# ---- writers: two at once; one wins, the other is told

list_writers() {
    local name
    for name in $jobs; do
        random 4 "\"$name\", int(r() * r() * $(< "$expected/$name/ms") * 1000) / 1000000" "writers $name"
    done
}

try_writers() {
    local first second left
    fresh "$1"
    limit=$((limit * 2))
    "$tools/attempt" --limit $limit --out "$own/out2" --err "$own/err2" "$graft" "${command[@]}" > "$own/first" &
    sleep "$2"
    disturb "$graft" "${command[@]}"
    wait $!
    second=$status
    read -r first taken < "$own/first"
    case "$first $second" in
        '0 73' | '73 0') ;;
        # The later one may find a finished run or store, which is what it would make.
        '0 0')
            case $current in
                resume | tokenize | tokenize-merge) ;;
                *) bad "both say that they wrote it" || return 1 ;;
            esac ;;
        *) bad "end with $first and $second: $(quote_errors) $(head -c 200 "$own/err2")" || return 1 ;;
    esac
    if [ "$first" = 73 ] && [ "$output" = run ]; then cp "$own/err2" "$own/err"; fi
    same_output "$current" || bad "other bytes: $(head -n 1 "$own/difference")" || return 1
    left=$(strangers error)
    [ -z "$left" ] || bad "left behind: $left"
}

# ---- limits: memory, descriptors, threads and processes

list_limits() {
    local name n
    for name in $jobs; do
        random 10 "\"$name as\", int((20 + 1500 * r() * r()) * 1048576)" "as $name"
        random 3 "\"$name nofile\", int(4 + 30 * r() * r())" "nofile $name"
        [ "$(id -u)" != 0 ] || random 3 "\"$name nproc\", int(1 + 3 * r())" "nproc $name"
    done
}

try_limits() {
    local options=("--$2" "$3")
    fresh "$1"
    if [ "$2" = nproc ]; then
        setpriv --reuid 65534 --clear-groups test -x "$graft" 2> /dev/null || { verdict=skipped; return 0; }
        chown -R 65534 .
        options+=(--uid 65534)
    fi
    disturb "${options[@]}" "$graft" "${command[@]}"
    [ "$2" != nproc ] || chown -R 0 .
    # A loader that cannot map the program says so itself.
    if { [ "$status" = 127 ] && grep -qE 'error while loading|cannot (allocate|map|open)' "$own/err"; } \
        || { [ "$2" = as ] && [ "$3" -lt "${loadable:=$(smallest_loadable)}" ]; }; then
        verdict=skipped
        return 0
    fi
    # A process that cannot have another byte cannot clear up either; the next run does.
    if grep -q 'out of memory' "$own/err"; then judge killed 74; else judge error 0 74 78; fi
}

# Bytes of address space below which the program cannot even say its version.
smallest_loadable() {
    local low=1 high=4096 middle words
    while [ $((high - low)) -gt 4 ]; do
        middle=$(((low + high) / 2))
        words=$("$tools/attempt" --limit 5 --as $((middle * 1048576)) --out /dev/null --err /dev/null \
            "$graft" --version)
        if [ "${words%% *}" = 0 ]; then high=$middle; else low=$middle; fi
    done
    echo $((high * 1048576))
}
