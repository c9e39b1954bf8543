# A long run: memory stays flat, the rate steady, the files bounded; one that is stopped 20 times gives the same bytes.

try_long() {
    local i stops=0 at size
    rm -rf "$here"
    cp -a "$saved" "$here"
    cd "$here"
    recipe long.yaml plain ids.jsonl "$steps" "$((steps / 50 > 0 ? steps / 50 : 1))"
    sed -i 's/eval: \[[^]]*\], //; s/eval_every: 3/eval_every: 0/' long.yaml
    echo "long: $steps steps without a stop" >&2
    "$tools/attempt" --limit 36000 --out "$own/out" --err "$own/err" "$graft" train long.yaml --quiet > "$own/status"
    long_line whole "$([ "$(cut -d ' ' -f 1 "$own/status")" = 0 ] && echo passed || echo failed)" "$(quote_errors)"
    measures run/metrics.jsonl > "$own/measures"
    cat "$own/measures" >&2
    while read -r name verdict text; do long_line "$name" "$verdict" "$text"; done < "$own/measures"
    size=$(du -sb run | cut -f 1)
    size=$((size - $(stat -c %s run/metrics.jsonl)))
    # Two checkpoints, an adapter, a report and a manifest, however many the steps.
    long_line files "$([ "$size" -lt 2000000 ] && echo passed || echo failed)" "$size bytes beside metrics.jsonl"
    mv run whole
    echo "long: the same with 20 stops" >&2
    local whole_ms
    read -r _ whole_ms < "$own/status"
    for ((i = 0; i < 20; i++)); do
        at=$(awk -v s="$((seed + i))" -v t="$whole_ms" 'BEGIN { srand(s); print int(500 + t / 25 * (0.6 + 0.8 * rand())) }')
        disturb_long --signal "15@$at"
        case $status in 75 | 0) ;; *) long_line "stop-$i" failed "ends with $status: $(quote_errors)" ;; esac
        stops=$((stops + (status == 75)))
    done
    disturb_long
    [ "$status" = 0 ] || long_line last failed "ends with $status: $(quote_errors)"
    if diff -r run/adapter whole/adapter > /dev/null; then
        long_line bytes passed "after $stops stops"
    else
        long_line bytes failed "other bytes after $stops stops"
    fi
    echo "long: $stops stops" >&2
}

disturb_long() {
    local words
    words=$("$tools/attempt" --limit 36000 "$@" --out "$own/out" --err "$own/err" "$graft" train long.yaml --resume)
    read -r status taken <<< "$words"
}

long_line() { printf 'long\t%s\t%s\t0\t%s\n' "$1" "$2" "$3"; }

# From metrics.jsonl: the peak of memory after a fifth of the steps and at the end; the rate of the first and the last
# tenth, each without the first 100 steps; bytes a line.
measures() {
    awk '
        function field(name) {
            if (!match($0, "\"" name "\": ?[0-9.e+-]+")) return 0
            return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) + 0
        }
        function told(name, is_good, text) { print name, (is_good ? "passed" : "failed"), text }
        /"loss"/ { n++; time[n] = field("elapsed_seconds"); memory[n] = field("peak_rss_bytes"); bytes += length($0) + 1 }
        END {
            fifth = int(n / 5); tenth = int(n / 10); from = n > 2000 ? 100 : 1
            early = (tenth - from) / (time[tenth] - time[from]); late = tenth / (time[n] - time[n - tenth])
            grown = memory[n] - memory[fifth]
            told("memory", grown < 4e6 + memory[fifth] * 0.02,
                sprintf("%.1f MB after a fifth, %.1f MB at the end", memory[fifth] / 1e6, memory[n] / 1e6))
            told("rate", late > early * 0.8,
                sprintf("%.0f steps a second in the first tenth, %.0f in the last", early, late))
            told("log", bytes / n < 400, sprintf("%.0f bytes a logged step", bytes / n))
        }' "$1"
}
