# The commands that are put to the torture, on a model of 15,000 parameters with a tokenizer of its own. Each job sets
# `command` (what is run), `again` (how it is run again after a fault) and `output` (what it makes); `before` is what the
# folder needs first. All of them run in $here, a copy of $saved.

all_jobs="train train-chat train-store resume tokenize tokenize-merge merge merge-plain merge-gguf export export-split
    export-ollama export-lmstudio export-vllm export-hf export-adapter resize combine extract convert scale init imatrix
    logits train-tokenizer"

job() {
    before=: again=()
    local made="--model base --adapter tuned --quiet --threads 1"
    case "$1" in
        train) command=(train r.yaml --quiet --threads 1) again=(train r.yaml --resume --threads 1) output=run ;;
        train-chat) command=(train chat.yaml --quiet) again=(train chat.yaml --resume) output=run ;;
        train-store) command=(train store.yaml --quiet) again=(train store.yaml --resume) output=run ;;
        resume) before='mv stopped run' command=(train r.yaml --resume --quiet --threads 1) output=run
            again=(train r.yaml --resume --threads 1) ;;
        tokenize) command=(tokenize --model base --data rows.jsonl --out store.h5 --shuffle --dedupe exact --quiet)
            output=store.h5 ;;
        tokenize-merge) command=(tokenize --merge shard1,shard2 --out store.h5 --quiet) output=store.h5 ;;
        merge) command=(merge $made --out merged) output=merged ;;
        merge-plain) command=(merge --model plain --adapter bare --out merged --quiet --threads 1) output=merged ;;
        merge-gguf) command=(merge --model base.gguf --adapter tuned --out merged.gguf --quiet) output=merged.gguf ;;
        export) command=(export $made --out m.gguf --type q8_0) output=m.gguf ;;
        export-split) command=(export $made --out m.gguf --type f32 --split-max-size 40K) output='m-*.gguf' ;;
        export-adapter) command=(export $made --out a.gguf --adapter-only) output=a.gguf ;;
        export-*) command=(export $made --out ready --for "${1#export-}") output=ready ;;
        resize) command=(adapter resize tuned --rank 2 --out new --quiet) output=new ;;
        combine) command=(adapter combine --adapter tuned --adapter bare --method svd --out new --quiet) output=new ;;
        extract) command=(adapter extract --model plain --tuned changed --rank 4 --out new --quiet) output=new ;;
        convert) command=(adapter convert tuned --to mlx --out new --quiet) output=new ;;
        scale) command=(adapter scale tuned --by 2 --out new --quiet) output=new ;;
        init) command=(init config.json --out new --quiet) output=new ;;
        imatrix) command=(imatrix --model base --data rows.jsonl --out i.gguf --quiet --threads 1) output=i.gguf ;;
        logits) command=(logits --model plain --ids 1,2,3,4 --out l.safetensors --quiet --threads 1)
            output=l.safetensors ;;
        train-tokenizer) command=(text train-tokenizer --data rows.jsonl --vocab-size 290 --out new --quiet)
            output=new ;;
        *) echo "torture: no job is called '$1'" >&2; exit 64 ;;
    esac
    [ ${#again[@]} -gt 0 ] || again=("${command[@]}")
}

# What of $saved a job needs beside rows, recipes and the bare model `plain`; "base" has a tokenizer, "bare" and "tuned" are
# adapters without and with one, in their runs "finished" and "learned".
parts_of() {
    case "$1" in
        train | init | logits | train-tokenizer) ;;
        train-chat | tokenize | imatrix) echo base ;;
        resume) echo stopped ;;
        tokenize-merge | train-store) echo base shards ;;
        merge-plain) echo finished ;;
        merge-gguf) echo base learned gguf ;;
        extract) echo finished changed ;;
        combine) echo base learned finished ;;
        flips) echo base learned finished changed gguf shards stopped ;;
        *) echo base learned ;;
    esac
}

# Makes $saved as far as the jobs need it. Paths become part of a run, so it is made in $here.
make_saved() {
    local name needed='' part
    for name in $jobs; do needed+=" $(parts_of "$name")"; done
    case " $phases " in *' flips '*) needed+=" $(parts_of flips)" ;; esac
    rm -rf "$here" "$saved"
    mkdir -p "$here/tmp"
    cd "$here"
    make_rows
    recipe r.yaml plain ids.jsonl 6 2
    recipe chat.yaml base rows.jsonl 4 2
    recipe store.yaml base rows.h5 4 2
    {
        "$graft" init config.json --out plain --quiet
        for part in base learned finished changed gguf shards stopped; do
            case " $needed " in *" $part "*) "make_$part" || exit 1 ;; esac
        done
    } > "$own/setup" 2>&1 || { cat "$own/setup" >&2; echo "torture: the undisturbed commands fail" >&2; exit 70; }
    cd "$own"
    mv "$here" "$saved"
}

make_base() {
    "$graft" text train-tokenizer --data rows.jsonl --vocab-size 290 --chat-template chat.jinja --out tok --quiet \
        && cp -a plain base && cp -a tok/. base/ && rm -r tok
}
make_learned() { "$graft" train chat.yaml --quiet && mv run learned && cp -a learned/adapter tuned; }
make_finished() { "$graft" train r.yaml --quiet && mv run finished && cp -a finished/adapter bare; }
make_changed() { "$graft" merge --model plain --adapter bare --out changed --quiet; }
make_gguf() { "$graft" export --model base --out base.gguf --type f16 --quiet; }
make_shards() {
    "$graft" tokenize --model base --data rows.jsonl --out shard1 --shard 1/2 --quiet \
        && "$graft" tokenize --model base --data rows.jsonl --out shard2 --shard 2/2 --quiet \
        && "$graft" tokenize --model base --data rows.jsonl --out rows.h5 --quiet
}
# A run that was asked to stop while its first checkpoint was being renamed.
make_stopped() {
    local nth
    nth=$(calls train | awk '$1 == "renameat2" { n++; if ($2 ~ /step-000002$/) { print n; exit } }')
    job train
    shim "$nth" renameat2 15 "$graft" "${command[@]}"
    mv run stopped
}

make_rows() {
    cat > chat.jinja <<'END'
{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}
END
    local text user answer i
    for text in 'Hello there, this is a test.' 'नमस्ते दुनिया' 'Hello again. Hello, test!' 'வணக்கம் உலகம்' \
        'Rivers run to the sea.' 'A hen lays an egg.' 'Rain falls.' 'Rice grows in water.'; do
        user="{\"role\": \"user\", \"content\": \"$text\"}" answer="{\"role\": \"assistant\", \"content\": \"$text\"}"
        echo "{\"messages\": [$user, $answer]}"
    done > rows.jsonl
    for ((i = 0; i < 12; i++)); do
        echo "{\"input_ids\": [$((i + 5)), $((i * 7 % 90 + 20)), $((i * 3 + 40)), 9, $((i + 60)), 12, $((i * 5 + 100))]}"
    done > ids.jsonl
    cat > config.json <<'END'
{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 300, "hidden_size": 32,
 "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
 "hidden_act": "silu", "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "tie_word_embeddings": true}
END
}

recipe() {
    cat > "$1" <<END
model: $2
output: run
adapter: {rank: 4}
data: {train: [$3], eval: [$3], max_length: 256}
training: {steps: $4, batch_size: 2, learning_rate: 1e-2, precision: f32, save_every: $5, eval_every: 3}
END
}

# Runs a command under the shim: NTH KIND FAULT COMMAND...
shim() {
    local nth=$1 kind=$2 fault=$3
    shift 3
    LD_PRELOAD="$tools/shim.so" TORTURE_FOLDER="$here" TORTURE_LOG="$own/met" TORTURE_CALL="$kind" TORTURE_NTH="$nth" \
        TORTURE_FAULT="$fault" "$@"
}

# The calls that a job makes on files below $here, undisturbed: a line "kind path" each. Leaves nothing behind.
calls() {
    job "$1"
    rm -f "$own/calls"
    LD_PRELOAD="$tools/shim.so" TORTURE_FOLDER="$here" TORTURE_LOG="$own/calls" "$graft" "${command[@]}" \
        > /dev/null 2>&1
    rm -rf $output
    cat "$own/calls"
}

# A fresh copy of $saved with what the job needs.
fresh() {
    cd "$own"
    rm -rf "$here"
    cp -a "$saved" "$here"
    cd "$here"
    job "$1"
    $before
}

listing() { find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort; }

# The undisturbed outcome of a job, made once for each worker: $expected/JOB with its output, listing, time and calls.
expect_job() {
    [ -d "$expected/$1" ] && return
    local result=$own/expecting began
    rm -rf "$result"
    mkdir -p "$result"
    fresh "$1"
    calls "$1" > "$result/calls"
    fresh "$1"
    began=$(date +%s%N)
    "$graft" "${command[@]}" > "$result/out" 2> "$result/err" \
        || { echo "torture: '$1' fails undisturbed:" >&2; cat "$result/err" >&2; exit 1; }
    echo $((($(date +%s%N) - began) / 1000000)) > "$result/ms"
    listing > "$result/listing"
    cp -a $output "$result"
    mkdir -p "$expected"
    mv "$result" "$expected/$1"
}
