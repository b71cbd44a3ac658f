# shellcheck shell=bash
# Sources of Debian that are used once, without touching the machine's own lists: the machine's mirrors, asked for
# source packages or for backports.

# apt_private FOLDER sources|backports: prepares FOLDER; `apt_in FOLDER …` is then apt-get with these sources alone
# (backports: beside the machine's own).
apt_private() {
    local folder=$1 what=$2 codename file
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    mkdir -p "$folder/parts" "$folder/lists/partial"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        # Only Debian's own archive has these.
        grep -qsE "(^|[[:space:]])$codename([[:space:]]|\$)" "$file" || continue
        grep -qs debian "$file" || continue
        case $what in
        sources) sed -E 's/^deb /deb-src /; s/^Types:.*/Types: deb-src/' "$file" ;;
        backports)
            sed -E "s/^(deb .*[[:space:]])$codename([[:space:]])/\\1$codename-backports\\2/
                s/^Suites:(.*[[:space:]])$codename([[:space:]].*)?\$/Suites: $codename $codename-backports/" "$file"
            cp "$file" "$folder/parts/own-$(basename "$file")"
            ;;
        esac >"$folder/parts/$what-$(basename "$file")"
    done
    apt_in "$folder" update -q || true
}

apt_in() {
    local folder=$1
    shift
    apt-get -o DPkg::Lock::Timeout=600 -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$folder/parts" \
        -o Dir::State::Lists="$folder/lists" "$@"
}
