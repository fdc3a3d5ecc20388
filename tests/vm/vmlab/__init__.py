"""Virtual machines for the tests: an image of Debian's kernel and busybox, QEMU, and a shell inside over the network."""
