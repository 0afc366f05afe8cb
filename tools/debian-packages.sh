#!/usr/bin/env bash
# Installs the Debian packages of a purpose (demo, test or bench) when root; otherwise says what is missing.
set -euo pipefail
purpose=${1:?usage: debian-packages.sh demo|test|bench}

demo="qemu-utils e2fsprogs"
bench="restic borgbackup zstd"
test="$demo $bench xfsprogs btrfs-progs ntfs-3g dosfstools exfatprogs lvm2 fuse3 qemu-system-x86 busybox-static"
wanted=${!purpose}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "This is no Debian: see to the equivalents of these packages yourself; what misses them is skipped: $wanted" >&2
  exit 0
fi

missing=()
for package in $wanted; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done

if [ "$(id -u)" != 0 ]; then
  if [ ${#missing[@]} -gt 0 ]; then
    echo "Not root, so these packages stay missing, and what needs them is skipped: ${missing[*]}" >&2
    echo "Install them with: sudo apt-get install ${missing[*]}" >&2
  fi
  exit 0
fi

# The guest's kernel is fetched when it is first needed (recovery/guest/tools.py), by the package lists.
if [ ${#missing[@]} -gt 0 ] || { [ "$purpose" = test ] && ! compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null; }; then
  apt-get update -qq
fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "Installing Debian packages: ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
