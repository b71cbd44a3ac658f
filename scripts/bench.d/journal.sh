# shellcheck shell=bash disable=SC2154
# 1 GiB of journal in eight files, as journald rotates them, an hour each: the last hour, and all of it.

journal_remote=${JOURNAL_REMOTE:-/lib/systemd/systemd-journal-remote}
journal_files=8
# Entries of an hour: 131 MiB.
journal_entries=225000

bench_journal() {
    local root=$scratch/journal folder hour=3600000000 now file jobs=()
    folder=$root/var/log/journal/5e209c9894a34848b0808318dc03b40a
    mkdir -p "$folder"
    now=$(date +%s)
    say "journal: $journal_files files of $journal_entries entries"
    for ((file = 0; file < journal_files; file++)); do
        python3 "$here/bench.d/node-journal.py" "$((now * 1000000 - (journal_files - file) * hour))" \
            "$((hour / journal_entries))" "$journal_entries" "$file" |
            "$journal_remote" --output="$folder/system@$file.journal" - >/dev/null 2>&1 &
        jobs+=($!)
        (((file + 1) % $(nproc))) || { wait "${jobs[@]}" && jobs=(); }
    done
    wait "${jobs[@]}"
    say "journal: $(du -m --apparent-size "$folder" | cut -f 1) MiB"
    journal_row "node --since 1h, 1 GiB of journal" "$((now - 3600))" 1
    journal_row "node --since 8h, 1 GiB of journal" "$((now - 9 * 3600))" "$journal_files"
    rm -rf "$root"
}

# journal_row NAME SINCE FILES
journal_row() {
    local found=$(($3 * ((journal_entries + 9999) / 10000))) words='PLEG is not healthy|no IP addresses available|cni plugin not init'
    say "$1"
    python3 "$here/bench.d/pairs.py" --section files --row "$1" --runs "$runs" --memory \
        "nsprobe|pleg|$found|$nsprobe --host-root $root node --since @$2 -o json" \
        "journalctl, grep|lines|$found|sh -c 'journalctl -q --no-pager -D $root/var/log/journal -u kubelet --since @$2 | grep -E \"$words\"'" \
        >"$scratch/files.log${3}"
}
