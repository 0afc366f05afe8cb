#!/bin/busybox sh
# PID 1 of the guest. Answers one request a line from the host, each with "OK SIZE" or "NO SIZE" and the bytes.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
while read -r module; do insmod "/modules/$module"; done </modules/order

for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name")" = stillframe ] && device="/dev/${port##*/}"
done
exec 3<>"$device"

answer() { # status
  printf '%s %s\n' "$1" "$(stat -c %s /tmp/answer)" >&3
  cat /tmp/answer >&3
}

decoded() { # a path comes as octal escapes; the x keeps newlines at its end
  path=$(printf '%bx' "$1")
  path="/volume${path%x}"
}

perform() { # verb, then its arguments
  verb=$1
  shift
  case $verb in
    mount) mount -t "$1" -o "$2" /dev/vda /volume || { dmesg | tail -n 5; return 1; } ;;
    unmount) umount /volume && sync ;;
    list) decoded "$1"; find "$path" -mindepth 1 -maxdepth 1 -exec stat -c "$MARK %f %s %u %g %h %d %i %x %y %z %n" {} + ;;
    stat) decoded "$1"; stat -c "$MARK %f %s %u %g %h %d %i %x %y %z %n" "$path" ;;
    link) decoded "$1"; readlink "$path" ;;
    read) decoded "$3"; dd if="$path" bs=1M iflag=skip_bytes,count_bytes,fullblock skip="$1" count="$2" 2>/dev/null ;;
    *) echo "unknown request $verb"; return 1 ;;
  esac
}

mkdir -p /volume
MARK=$(sed -n 's/.*stillframe\.mark=\([0-9a-f]*\).*/\1/p' /proc/cmdline)
echo ready >/tmp/answer
answer OK
while read -r request <&3; do
  # shellcheck disable=SC2086 # the words of a request hold no blanks
  set -- $request
  [ "$1" = off ] && break
  if perform "$@" >/tmp/answer 2>/tmp/complaint; then
    answer OK
  else
    cat /tmp/complaint >>/tmp/answer
    answer NO
  fi
done
poweroff -f
