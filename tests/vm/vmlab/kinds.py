"""The machines we boot, as plain data."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A machine: Debian's packages that it is made of, and how QEMU runs it."""

    name: str
    # Of Debian, and the suite whose kernel is wanted.
    architecture: str
    suite: str
    kernel: str
    # QEMU's program, the Debian package that has it, and its words for the machine.
    qemu: str
    qemu_package: str
    machine: tuple[str, ...]
    network: str
    console: str
    # Modules of the kernel, without those they need.
    modules: tuple[str, ...]


_NETFILTER = ("nf_tables", "nft_ct", "nft_nat", "nft_chain_nat", "nft_masq", "nft_reject_inet", "nft_queue", "nfnetlink_queue",
              "nft_flow_offload", "nf_flow_table_inet", "nf_conntrack_netlink", "nft_limit", "nft_objref", "nft_fib_inet",
              "veth", "bridge", "sch_htb", "cls_u32", "cls_flower", "sch_fq_codel")  # fmt: skip

KINDS = {
    kind.name: kind
    for kind in [
        # A router of 2015: one core of 32 bits, little-endian. Bookworm is the last Debian that has it.
        Kind("mipsel", "mipsel", "bookworm", "linux-image-4kc-malta", "qemu-system-mipsel", "qemu-system-mips",
             ("-M", "malta", "-cpu", "24Kc"), "e1000", "ttyS0", ("crc32c_generic", "e1000", *_NETFILTER)),
        Kind("x86_64", "amd64", "bookworm", "linux-image-cloud-amd64", "qemu-system-x86_64", "qemu-system-x86",
             ("-M", "q35", "-accel", "tcg", "-cpu", "qemu64,-cx16"), "virtio-net-pci", "ttyS0",
             ("virtio_pci", "virtio_net", "crc32c_generic", *_NETFILTER)),
    ]
}  # fmt: skip
