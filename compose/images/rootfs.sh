#!/bin/sh
# Copies the files that a Python program needs to run, and no others, into an empty folder: the content of an image made
# FROM scratch. The image has no package manager, and a shell only if it is named as a PROGRAM.
#
#   rootfs.sh TARGET UID USER VENV [PROGRAM...]
#
# TARGET   the folder to fill
# UID USER of the user as whom the image runs
# VENV     a virtual environment, copied to the same path
# PROGRAM  further programs, by name
set -eu

target=$1 uid=$2 user=$3 venv=$4
shift 4
python=$(readlink -f "$venv/bin/python3")
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
prefix=$("$python" -c 'import sys; print(sys.base_prefix)')

# The same links as in the source image, so that a library is found by either of its paths.
mkdir -p "$target/usr/bin" "$target/etc"
for name in bin sbin lib lib32 lib64; do
    if [ -L "/$name" ]; then
        mkdir -p "$target/usr/$name"
        ln -s "usr/$name" "$target/$name"
    fi
done

copy() {
    mkdir -p "$target$(dirname "$1")"
    cp "$2" "$1" "$target$1"
}

# Python without the modules that no program imports at run time. Byte code is compiled here: the root of a container is
# read-only.
copy "$prefix/lib/python$version" --archive
(
    cd "$target$prefix/lib/python$version"
    rm -rf test idlelib lib2to3 pydoc_data tkinter turtledemo turtle.py site-packages/* config-*
    find . -name __pycache__ -prune -exec rm -rf {} +
)
"$python" -m compileall -q -s "$target" --invalidation-mode unchecked-hash "$target$prefix/lib/python$version"
mkdir -p "$target$prefix/bin"
for name in "python$version" python3 python; do
    copy "$prefix/bin/$name" --archive
done
copy "$venv" --archive

for program in "$@"; do
    cp --dereference "$(which "$program")" "$target/usr/bin/$program"
done

# Every shared library that one of these files needs, including the loader. libgcc_s is opened by name, when a thread
# ends.
{
    find "$target" -type f \( -name '*.so' -o -name '*.so.*' -o -perm -u+x \) | while read -r file; do
        ldd "$file" 2>/dev/null || true
    done | sed -n 's/.*[[:space:]]\(\/[^[:space:]]*\)[[:space:]](0x.*/\1/p'
    ldconfig -p | sed -n 's/.*libgcc_s\.so\.1 .* => //p'
} | sort -u | while read -r library; do
    case $library in
        "$target"* | "$venv"*) ;;
        *) [ -e "$target$library" ] || copy "$library" --dereference ;;
    esac
done

# The loader then searches the same folders as in the source image, /usr/local/lib for instance.
cp -rL /etc/ld.so.conf /etc/ld.so.conf.d "$target/etc/"
ldconfig -r "$target"

mkdir -p "$target/etc/ssl/certs" "$target/tmp" "$target/run" "$target/proc" "$target/sys" "$target/dev"
chmod 1777 "$target/tmp"
cp --dereference /etc/ssl/certs/ca-certificates.crt "$target/etc/ssl/certs/"
for file in /etc/os-release /etc/nsswitch.conf /etc/protocols /etc/services /usr/share/zoneinfo; do
    if [ -e "$file" ]; then
        copy "$file" -rL
    fi
done
printf 'root:x:0:0:root:/root:/sbin/nologin\n%s:x:%s:%s::/tmp:/sbin/nologin\n' "$user" "$uid" "$uid" > "$target/etc/passwd"
printf 'root:x:0:\n%s:x:%s:\n' "$user" "$uid" > "$target/etc/group"
