# shellcheck shell=bash disable=SC2154
# The images, made here because there may be no registry: OCI layouts in a tar.
#   pause  a static program that sleeps and reaps; it is also PID 1 of a node
#   app    busybox, with httpd's page in /www

pause_image=localhost/nsprobe-lab/pause:1
app_image=localhost/nsprobe-lab/app:1

build_images() {
    local work
    if [[ -x $cache/pause && -s $cache/pause.tar && -s $cache/app.tar && $cache/app.tar -nt ${BASH_SOURCE[0]} ]]; then
        return
    fi
    mkdir -p "$cache"
    # Renamed into place at the end, so that labs that start together do not read each other's halves.
    work=$(mktemp -d "$cache/build.XXXXXX")
    build_pause "$work/pause"
    mkdir -p "$work/pause-root" "$work/app-root"
    cp "$work/pause" "$work/pause-root/pause"
    pack_image "$work/pause-root" '["/pause"]' "$pause_image" "$work/pause.tar"
    fill_app "$work/app-root"
    pack_image "$work/app-root" '["/bin/sh"]' "$app_image" "$work/app.tar"
    mv "$work/pause" "$work/pause.tar" "$work/app.tar" "$cache/"
    rm -rf "$work"
}

build_pause() {
    gcc -static -Os -s -o "$1" -x c - <<'C'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0) {} }
static void quit(int s) { (void)s; _exit(0); }
int main(void) {
    signal(SIGCHLD, reap); signal(SIGTERM, quit); signal(SIGINT, quit);
    for (;;) { reap(0); pause(); }
}
C
}

fill_app() {
    local root=$1 applet
    mkdir -p "$root"/{bin,etc,tmp,www,root,var/run}
    chmod 1777 "$root/tmp"
    # Not every busybox on a machine is a static one.
    cp "$(find /bin/busybox /usr/bin/busybox -maxdepth 0 2>/dev/null | head -n 1)" "$root/bin/busybox"
    for applet in $("$root/bin/busybox" --list); do
        [[ $applet == busybox ]] || ln -s busybox "$root/bin/$applet"
    done
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    echo 'served by the lab' >"$root/www/index.html"
}

# pack_image ROOT COMMAND-JSON NAME TAR
pack_image() {
    local root=$1 command=$2 image=$3 tar=$4 layout layer config manifest
    layout=$(mktemp -d "$tar.XXXXXX")
    mkdir -p "$layout/blobs/sha256"
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$root" -cf "$layout/blob" .
    layer=$(store_blob "$layout")
    echo '{"architecture":"amd64","os":"linux","config":{"Cmd":'"$command"',"Env":["PATH=/bin"]},' \
        '"rootfs":{"type":"layers","diff_ids":["'"${layer%% *}"'"]}}' >"$layout/blob"
    config=$(store_blob "$layout")
    echo '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",' \
        '"config":'"$(descriptor config.v1+json "$config")"',' \
        '"layers":['"$(descriptor layer.v1.tar "$layer")"']}' >"$layout/blob"
    manifest=$(store_blob "$layout")
    echo '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
    # The annotation is where `ctr images import` takes the name from.
    echo '{"schemaVersion":2,"manifests":[' \
        "$(descriptor manifest.v1+json "$manifest" ',"annotations":{"io.containerd.image.name":"'"$image"'"}')" \
        ']}' >"$layout/index.json"
    tar -C "$layout" -cf "$tar" oci-layout index.json blobs
    rm -rf "$layout"
}

# Files LAYOUT/blob under its digest; prints "DIGEST SIZE".
store_blob() {
    local digest
    digest=$(sha256sum "$1/blob" | cut -d ' ' -f 1)
    echo "sha256:$digest $(stat -c %s "$1/blob")"
    mv "$1/blob" "$1/blobs/sha256/$digest"
}

# descriptor TYPE "DIGEST SIZE" [MORE]
descriptor() {
    local digest=${2% *} size=${2#* }
    echo '{"mediaType":"application/vnd.oci.image.'"$1"'","digest":"'"$digest"'","size":'"$size${3:-}}"
}
