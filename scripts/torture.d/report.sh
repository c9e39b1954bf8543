# The order of tries, and the table of counts.

# The names of all phases' tries in an order in which all phases come to their ends together; within a phase by chance.
# However early the time is up, every phase has been tried in proportion.
list_all() {
    local phase
    for phase in $phases; do
        "list_$phase" | awk -v seed="$((seed + round))" 'BEGIN { srand(seed) } { print rand() "\t" $0 }' \
            | sort -n | cut -f 2- | awk -v phase="$phase" '
                { line[NR] = $0 } END { for (i = 1; i <= NR; i++) print (i - 0.5) / NR "\t" phase " " line[i] }'
    done | sort -n | cut -f 2- > "$work/all"
    awk '{ print $1 }' "$work/all" | sort | uniq -c | awk '{ print $2, $1 }' > "$work/listed.$round"
    # A few tries that are asked for are as different as they can be: first one of each kind, by its words without numbers.
    if [ "$tries" -gt 0 ]; then
        awk '{ kind = $0; gsub(/[0-9.]+/, "", kind); print ++seen[kind] "\t" NR "\t" $0 }' "$work/all" \
            | sort -n -k 1,1 -k 2,2 | cut -f 3- | awk -v n="$tries" 'NR <= n'
    else
        cat "$work/all"
    fi
}

# Milliseconds until the program can listen to signals.
startup_time() {
    local from
    from=$(date +%s%N)
    "$graft" --version > /dev/null
    echo $((($(date +%s%N) - from) / 1000000))
}

report() {
    local results=$1 seconds=$2 failures
    failures=$(awk -F '\t' '$3 == "failed"' "$results" | wc -l)
    awk -F '\t' -v listed="$(cat "$work"/listed.0 2> /dev/null)" -v seconds="$seconds" -v form=text "$table" "$results"
    if [ -n "$markdown" ]; then
        awk -F '\t' -v listed="$(cat "$work"/listed.0 2> /dev/null)" -v seconds="$seconds" -v form=markdown "$table" \
            "$results" > "$markdown"
    fi
    if [ -n "$json" ]; then
        awk -F '\t' -v listed="$(cat "$work"/listed.0 2> /dev/null)" -v seconds="$seconds" -v seed="$seed" \
            -v form=json "$table" "$results" > "$json"
    fi
    [ "$failures" = 0 ] && return 0
    echo
    echo "failures, by kind; the first of each can be seen again with --try, in quotes:"
    awk -F '\t' '$3 == "failed" {
        # Numbers, names of temporaries and paths vary within a kind.
        split($2, words, " "); key = $5; gsub(/[0-9]+/, "#", key); gsub(/graft-[a-z0-9#]*/, "graft-*", key)
        gsub(/\/[^ ]*\//, "", key); key = $1 " " words[1] ": " substr(key, 1, 90)
        if (!(key in count)) { order[++n] = key; first[key] = $1 " " $2; reason[key] = $5 }
        count[key]++
    } END {
        for (i = 1; i <= n; i++)
            printf "%6d  --try \"%s\"\n        %s\n", count[order[i]], first[order[i]], reason[order[i]]
    }' "$results"
    return 1
}

table='
    { phase[$1]; tries[$1]++; verdict[$1, $3]++; time[$1] += $4; total++
      if ($3 == "failed") failed++
      if ($3 == "failed") failures = failures (failures ? ", " : "") "{\"try\": " quoted($1 " " $2) ", \"reason\": " \
          quoted($5) "}" }
    function quoted(text) { gsub(/[\\"]/, "\\\\&", text); gsub(/[[:cntrl:]]/, " ", text); return "\"" text "\"" }
    function others(name,   text, i, list, n) {
        n = split("refused told equal silent skipped", list, " ")
        for (i = 1; i <= n; i++) if (verdict[name, list[i]])
            text = text (text ? ", " : "") verdict[name, list[i]] " " list[i]
        return text
    }
    function passes(name) { return tries[name] - verdict[name, "failed"] - verdict[name, "skipped"] }
    END {
        n = split(listed, words, /[ \n]+/)
        for (i = 1; i < n; i += 2) all[words[i]] = words[i + 1]
        m = split("shim kill signals flips disk slow descriptors writers limits long", order, " ")
        if (form == "json")
            printf "{\"seconds\": %d, \"seed\": %d, \"tries\": %d, \"failed\": %d, \"phases\": {", seconds, seed, total, failed
        else if (form == "markdown") {
            print "| phase | tries | different ones in a round | passed | failed | of these |"
            print "|---|---|---|---|---|---|"
        } else printf "%-12s %8s %8s %8s %8s  %s\n", "phase", "tries", "of", "passed", "failed", "of these"
        for (i = 1; i <= m; i++) {
            name = order[i]
            if (!(name in phase)) continue
            if (form == "json") {
                printf "%s\"%s\": {\"tries\": %d, \"listed\": %d, \"passed\": %d, ", (shown++ ? ", " : ""), name,
                    tries[name], all[name], passes(name)
                printf "\"failed\": %d, \"skipped\": %d, \"seconds\": %.1f}", verdict[name, "failed"],
                    verdict[name, "skipped"], time[name] / 1000
            } else printf (form == "markdown" ? "| %s | %d | %d | %d | %d | %s |\n" : "%-12s %8d %8d %8d %8d  %s\n"), name,
                tries[name], all[name], passes(name), verdict[name, "failed"], others(name)
        }
        if (form == "json") print "}, \"failures\": [" failures "]}"
        else if (form == "text") printf "%d tries in %d s, %d failed\n", total, seconds, failed
        else printf "\n%d tries in %d minutes, %d failed.\n", total, seconds / 60, failed
    }'
