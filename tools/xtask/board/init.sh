#!/bin/busybox sh
# The first process of the emulated board: drivers, network, the partition with the slots, the service; then what is typed
# into the serial port.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/lib/modules/$module.ko"; done < /lib/modules/order
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
mount -t ext4 /dev/vda /var/lib/dynamax
echo "Linux $(uname -r), $(nproc) cores, after $(cut -d' ' -f1 /proc/uptime) s"
dynamaxd --config /etc/dynamax/device.toml 2>&1 &
# The other end reads what commands print, and not what it has typed itself.
stty -echo
while read -r command; do eval "$command"; done
