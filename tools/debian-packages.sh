#!/usr/bin/env bash
# Installs the Debian packages of a purpose (demo, test or bench) when root; otherwise says what is missing.
set -euo pipefail
purpose=${1:?usage: debian-packages.sh demo|test|bench}

demo="qemu-utils e2fsprogs"
test="$demo xfsprogs btrfs-progs ntfs-3g dosfstools mtools exfatprogs exfat-fuse lvm2 fuse3 zstd qemu-system-x86 busybox-static restic borgbackup"
bench="restic borgbackup zstd"
wanted=${!purpose}

missing=()
for package in $wanted; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing Debian packages: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "Not root, so these packages stay missing and what needs them is skipped: ${missing[*]}" >&2
  echo "Install them with: sudo apt-get install ${missing[*]}" >&2
fi
